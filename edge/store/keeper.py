"""Keeps disk and clock in order: the one owner of every removal. Runs in the intake, which refuses what is new."""

from __future__ import annotations

import sqlite3
from collections import Counter, deque
from collections.abc import Callable, Iterable
from time import monotonic

from edge import events, reasons
from edge.config import Storage
from edge.events import emit
from edge.records import Kept
from edge.store.machine import Room
from edge.store.retention import Band, Held, Removal, by_age, for_room, hours_until, limit, next_band, room_wanted
from edge.store.store import Store

BATCH = 50
"""Objects of each kind at a time: one transaction, and well under a second."""

LOOK_EVERY = 60.0
"""Seconds between two looks for what is too old, and at how fast the disk fills."""

REMEMBER_EVERY = 600.0
_LOOKS_KEPT = 61

WORDS = {
    Band.ROOM: "",
    Band.WARN: reasons.LITTLE_ROOM,
    Band.SPARE: reasons.NO_PICTURES,
    Band.FULL: reasons.NO_IMAGES_TAKEN,
}
"""What is said of a band. No reason for `FULL` beside it: the sender is told to try again."""


class Keeper:
    """What the intake calls about once a second."""

    def __init__(self, store: Store, storage: Storage, clock: Callable[[], float] = monotonic) -> None:
        """`clock` gives seconds, steadily; it decides when to look again."""
        self._store = store
        self._storage = storage
        self._clock = clock
        self._band = Band.ROOM
        self._looks: deque[tuple[float, int]] = deque(maxlen=_LOOKS_KEPT)
        self._looked_at = self._remembered_at = float("-inf")
        self._synchronised: bool | None = None
        self._error = ""
        self._made_room: Counter[Kept | None] = Counter()
        self.figures: dict[str, str | float | bool | None] = {}

    @property
    def trouble(self) -> str:
        """What a person must know; empty when nothing."""
        return self._error or WORDS[self._band]

    def tend(self) -> bool:
        """Do what is due; True when more of it waits. Does not raise for what disk and journal do."""
        try:
            more = self._tend()
        except (OSError, sqlite3.Error) as error:
            said = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            if self._error != (trouble := reasons.DISK_NOT_IN_ORDER):
                emit(events.KEEPER_FAILED, error=said)
            self._error = trouble
            return False
        self._error = ""
        return more

    def _tend(self) -> bool:
        now, room = self._clock(), self._store.room()
        self._tell(room)
        due = now - self._looked_at >= LOOK_EVERY
        if due:
            self._looked_at = now
            self._looks.append((now, room.free))
            self._see_to_the_clock(now)
            self._tell_what_made_room()
        self.figures = {
            "disk": self._band.name.lower(),
            "hours_until_full": self._hours_until_full((now, room.free)),
            "synchronised": self._synchronised,
        }
        removed = self._remove_old() if due else 0
        wanted = room_wanted(room, self._band, self._storage)
        return max(removed, self._make_room(wanted) if wanted else 0) >= BATCH

    def _tell(self, room: Room) -> None:
        before, band = self._band, next_band(room, self._band, self._storage)
        self._band = band
        if band is not before:
            figures = {"free_mb": room.free / (1 << 20), "total_mb": room.total / (1 << 20)}
            emit(events.DISK_BAND if band else events.DISK_ROOM, band=WORDS[band], **figures)

    def _see_to_the_clock(self, now: float) -> None:
        synchronised = self._store.lifetime.now().synchronised
        corrected = self._store.lifetime.correct() if synchronised else 0
        if synchronised is not self._synchronised:
            emit(events.CLOCK_SYNCHRONISED if synchronised else events.CLOCK_UNSYNCHRONISED, count=corrected)
            self._synchronised = synchronised
        if now - self._remembered_at >= REMEMBER_EVERY:
            self._remembered_at = now
            self._store.lifetime.remember()

    def _remove_old(self) -> int:
        done = _count(self._store.holdings.remove(by_age(self._oldest(), self._storage)))
        if done:
            emit(events.REMOVED_BY_AGE, images=done[Kept.NOTHING], results=done[None])
        return done.total()

    def _make_room(self, wanted: float) -> int:
        done = _count(self._store.holdings.remove(for_room(self._oldest(), wanted)))
        self._made_room += done
        return done.total()

    def _tell_what_made_room(self) -> None:
        """Once a minute: on a disk that stays nearly full it happens with each image."""
        made_room, self._made_room = self._made_room, Counter()
        if made_room:
            emit(events.REMOVED_FOR_ROOM, pictures=made_room[Kept.IMAGE], images=made_room[Kept.NOTHING])

    def _oldest(self) -> list[Held]:
        return self._store.holdings.oldest(self._store.lifetime.now().lifetime, BATCH)

    def _hours_until_full(self, now: tuple[float, int]) -> float | None:
        """By the last hour; None until there are ten minutes of it, or when the disk does not fill."""
        then = next(iter(self._looks), now)
        if now[0] - then[0] < 10 * LOOK_EVERY:
            return None
        hours = hours_until(limit(Band.FULL, self._store.room().total, self._storage), then, now)
        return None if hours is None else round(hours, 1)


def _count(done: Iterable[Removal]) -> Counter[Kept | None]:
    return Counter(removal.leaves for removal in done)
