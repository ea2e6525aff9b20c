"""The last errors of each service, by their number in the catalogue: one small file each, for the device page.

The log has them all; this is what somebody without access to it needs. Nothing of it says anything about a patient,
as nothing in the catalogue does.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge.modes import make_folder
from edge.records import Record

MOST_KEPT = 20
_WRITE_EVERY = 1.0


class Trouble(Record, frozen=True, kw_only=True):
    """One kind of error of one service.

    Attributes:
        number: Of `edge.events`.
        text: What it said last.
        count: How often since `first_at`.
        first_at: Seconds since the epoch; likewise `last_at`.
    """

    service: str
    number: int
    text: str
    count: int
    first_at: float
    last_at: float


class TroubleLog(logging.Handler):
    """Keeps the newest errors of this service, `MOST_KEPT` numbers at most."""

    def __init__(self, state_dir: Path, service: str, clock: Callable[[], float] = time.time) -> None:
        """Go on from what an earlier process of the service has left."""
        super().__init__(logging.ERROR)
        self._path = state_dir / "troubles" / f"{service}.json"
        self._service = service
        self._clock = clock
        self._kept = {trouble.number: trouble for trouble in _read(self._path)}
        self._written_at = float("-inf")

    def emit(self, record: logging.LogRecord) -> None:
        """Count an event of the catalogue; written at once when its number is new, else once a second at most."""
        number, text = record.args if isinstance(record.args, tuple) and len(record.args) == 2 else (None, None)
        if not isinstance(number, int):
            return  # not of the catalogue
        now, before = self._clock(), self._kept.pop(number, None)
        self._kept[number] = Trouble(
            service=self._service,
            number=number,
            text=str(text)[:400],
            count=before.count + 1 if before else 1,
            first_at=before.first_at if before else now,
            last_at=now,
        )
        while len(self._kept) > MOST_KEPT:
            del self._kept[next(iter(self._kept))]
        if before is None or not 0 <= now - self._written_at < _WRITE_EVERY:
            self._write(now)

    def _write(self, now: float) -> None:
        temporary = self._path.with_suffix(".new")
        try:
            make_folder(self._path.parent)
            temporary.write_bytes(msgspec.json.encode(list(self._kept.values())))
            temporary.replace(self._path)
            self._written_at = now
        except OSError:
            self._written_at = float("-inf")  # a full disk: the log has said it, and the next error tries again


def read_troubles(state_dir: Path) -> list[Trouble]:
    """The last errors of all services, the newest first."""
    found = [trouble for path in sorted((state_dir / "troubles").glob("*.json")) for trouble in _read(path)]
    return sorted(found, key=lambda trouble: trouble.last_at, reverse=True)


def _read(path: Path) -> list[Trouble]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Trouble])
    except (OSError, msgspec.DecodeError):
        return []  # none yet, or cut by a power failure: the log has them
