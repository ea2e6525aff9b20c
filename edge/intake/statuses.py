"""The answers to a C-STORE request (PS3.4 table B.2-1, PS3.7 annex C)."""

from __future__ import annotations

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
DATA_SET_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """An object that is answered with a failure status and a comment for the sender's log."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status
