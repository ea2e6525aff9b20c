"""UPS-RS as user agent: Create Workitem (PS3.18 11.4)."""

from __future__ import annotations

from edge.reporting.stow import WebSession
from edge.reporting.workitem import apart


class WorklistSession(WebSession):
    """What `WebSession` is, for workitems: one that is there already is answered 409, and counts as taken."""

    def store(self, data: bytes) -> int:
        """Send a workitem; its status as C-STORE would have it. Raises `Unreachable`."""
        uid, item = apart(data)
        separator = "&" if "?" in self._path else "?"
        return self._post(f"{self._path}{separator}workitem={uid}", "application/dicom+json", item)
