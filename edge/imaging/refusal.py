"""The one exception by which this room says that an image cannot be used, and why."""

from __future__ import annotations

from edge.records import Reason


class Refusal(Exception):  # noqa: N818 - the domain's word; it is an answer, not a defect
    """An image that gets a reason instead of a score (DESIGN rule 3).

    Attributes:
        reason: The stable code that the result carries.
        detail: For the log: the rule and the value, never anything that identifies.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
