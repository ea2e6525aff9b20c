"""STOW-RS as client (PS3.18 10.5): one instance a request, so that each has its own answer."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from edge import reasons
from edge.config_reporting import Destination
from edge.device.client_tls import client_context
from edge.reporting.pacs import Unreachable

_ANSWER_WITHIN = 60.0
_UNAVAILABLE = frozenset({408, 425, 429, 500, 502, 503, 504, 507})
_REFUSED = 0xC000
_BUSY = 0xA700


class WebSession:
    """What `Association` is, over HTTP: everything is taken until the answer says otherwise.

    Attributes:
        accepted: What is offered.
        commits: Never: DICOMweb has no storage commitment.
    """

    commits = False

    def __init__(self, destination: Destination, classes: Sequence[str]) -> None:
        """Connect. Raises `Unreachable`."""
        self.accepted = frozenset(classes)
        url = urlsplit(destination.url or "")
        self._path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
        self._headers = {"Accept": "application/dicom+json"}
        try:
            if destination.authorization_file:
                lines = destination.authorization_file.read_text(encoding="ascii").splitlines()
                self._headers["Authorization"] = lines[0].strip() if lines else ""
            self._connection = _connect(destination, url.hostname or "", url.port, secure=url.scheme == "https")
            self._connection.connect()
        except (OSError, ValueError) as error:
            raise Unreachable(reasons.NO_CONNECTION) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._connection.close()

    def store(self, data: bytes) -> int:
        """Send an object; its status as C-STORE would have it. Raises `Unreachable`."""
        boundary = uuid.uuid4().hex
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        return self._post(self._path, kind, head + data + f"\r\n--{boundary}--\r\n".encode())

    def _post(self, path: str, kind: str, body: bytes) -> int:
        try:
            self._connection.request("POST", path, body, {**self._headers, "Content-Type": kind})
            answer = self._connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(reasons.CONNECTION_BROKE) from error
        return status_of(answer.status, said)


def status_of(code: int, body: bytes) -> int:
    """A STOW-RS answer as the status of a C-STORE: the failure or warning reason of the one instance (PS3.18 I.2)."""
    if code in _UNAVAILABLE:
        return _BUSY
    try:
        answer: Any = json.loads(body)
        for sequence, reason in (("00081198", "00081197"), ("00081199", "00081196")):
            for item in answer.get(sequence, {}).get("Value", ()):
                if value := item.get(reason, {}).get("Value"):
                    return int(value[0])
    except (ValueError, AttributeError, TypeError):
        pass  # a body that says nothing more: the code alone counts
    if 200 <= code < 300 and code != 202:
        return 0x0000
    return 0x0111 if code == 409 else _REFUSED


def _connect(destination: Destination, host: str, port: int | None, *, secure: bool) -> http.client.HTTPConnection:
    if not secure:
        return http.client.HTTPConnection(host, port, timeout=_ANSWER_WITHIN)
    context = client_context(destination.ca_file, destination.certificate_file, destination.key_file)
    return http.client.HTTPSConnection(host, port, timeout=_ANSWER_WITHIN, context=context)
