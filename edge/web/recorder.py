"""The box's memory of itself: a sample each minute, and the counts of what was answered. Written by the watcher alone.

It is lost with a broken disk and not restored from a backup: it is no record of what happened, only of how things went.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import TypeVar

import msgspec

from edge.device.drift import Counts, Watch
from edge.device.drift import count as count_drift
from edge.device.health import State
from edge.device.history import History, Sample
from edge.records import ModelUsed, Record
from edge.store import Store
from edge.web.condition import Condition
from edge.web.tally import Tally, count

_COUNTED_AT_ONCE = 200
"""Results: what a long time without this service has left is caught up bit by bit."""


_Kept = TypeVar("_Kept", bound=Record)


class Recorder:
    """Samples and counts; `samples`, `answers`, `counted` and `drift` may be asked from any thread."""

    def __init__(
        self,
        store: Store,
        state_dir: Path,
        clock: Callable[[], float],
        reference_of: Callable[[ModelUsed], Mapping[str, Counts]],
    ) -> None:
        """Go on from what is there. `reference_of` is what a model's test gives the drift watch. Raises `OSError`."""
        self._store = store
        self._clock = clock
        self._history = History(state_dir)
        self._path = state_dir / "history" / "answers.json"
        self._lock = Lock()
        self._answers = _read(self._path, Tally)
        self._drift_path = state_dir / "history" / "drift.json"
        self._drift = _read(self._drift_path, Watch)
        self._reference_of = reference_of
        self._minute = 0
        self._unsaved = False

    def look(self, condition: Callable[[], Condition]) -> None:
        """Once a second or so: count what is new; and once a minute keep a sample and save the counts.

        Raises:
            OSError, sqlite3.Error: The disk failed; the next look goes on from what was saved or kept in memory.
        """
        new = self._store.committed_since(self._answers.counted_to, _COUNTED_AT_ONCE)
        if new:
            counted = count(self._answers, new)
            drift = count_drift(self._drift, new, self._reference_of)
            with self._lock:
                self._answers, self._drift = counted, drift
            self._unsaved = True
        minute = int(self._clock() // 60)
        if minute == self._minute:
            return
        self._minute = minute
        self._history.keep(sample_of(condition(), minute))
        self.save()

    def save(self) -> None:
        """Save the counts. Raises `OSError`."""
        if self._unsaved:
            _write(self._path, self._answers)
            _write(self._drift_path, self._drift)
            self._unsaved = False

    def samples(self, hours: float) -> list[Sample]:
        """The minutes of the last hours of which something is known, oldest first."""
        until = int(self._clock() // 60) + 1
        return self._history.since(until - int(hours * 60), until)

    def answers(self) -> Tally:
        """What is counted."""
        with self._lock:
            return self._answers

    def drift(self) -> Watch:
        """What the drift watch has seen."""
        with self._lock:
            return self._drift

    def counted(self) -> dict[str, int]:
        """How often each answer was given, since the history begins."""
        return dict(self.answers().ever)

    def close(self) -> None:
        """Close the file of samples."""
        self._history.close()


def sample_of(condition: Condition, minute: int) -> Sample:
    """What is kept of a condition."""
    vitals, oldest = condition.vitals, condition.oldest_received_at
    return Sample(
        minute=minute,
        queue_depth=condition.queue_depth,
        oldest_seconds=0.0 if oldest is None else max(0.0, condition.as_of - oldest),
        p50_ms=condition.latency_ms.get("p50"),
        p95_ms=condition.latency_ms.get("p95"),
        p99_ms=condition.latency_ms.get("p99"),
        disk_free=vitals.disk_free if vitals else None,
        memory_available=vitals.memory_available if vitals else None,
        temperature_celsius=vitals.temperature_celsius if vitals else None,
        throttled=vitals.throttled if vitals else None,
        load_1min=vitals.load_1min if vitals else None,
        services_amiss=sum(health.state is not State.UP for health in condition.services),
    )


def _read(path: Path, kind: type[_Kept]) -> _Kept:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return kind()  # none yet, or cut by a power failure: it is counted anew, as far as results are kept


def _write(path: Path, kept: Record) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_bytes(msgspec.json.encode(kept))
    temporary.replace(path)
