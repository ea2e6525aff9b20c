"""Counts the answers of each day for the fleet, and puts them in the outbox when the day is over: no word of an image.

How far it has counted is kept in the transaction that puts the message: killed at any instant, it counts nothing twice
and leaves nothing out. Only a whole outbox that is lost takes what was counted and not put yet with it.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from edge.messages.aggregate import Aggregate, Category, categories, split
from edge.messages.summary import LATEST
from edge.records import Record
from edge.store import Outbox, Store

_AT_ONCE = 100


class _Kept(Record, frozen=True, kw_only=True):
    """What survives: up to which result (`number`) is counted, which day that is, and what no message says yet."""

    counted_to: int
    day: str
    left: tuple[tuple[Category, int], ...] = ()


class Counting:
    """The counts of the present day, in memory; those of before, which were too few to be said, in the outbox."""

    def __init__(self, store: Store, outbox: Outbox, clock: Callable[[], float] = time.time) -> None:
        """Go on from what is kept; where nothing is, begin with the next answer. `clock`: seconds since the epoch."""
        self._store = store
        self._outbox = outbox
        self._clock = clock
        newest, state = store.last_seq(), outbox.counting()
        kept = msgspec.json.decode(state, type=_Kept) if state else _Kept(counted_to=newest, day=self._today())
        if state is None:
            self._keep(kept)
        self._day = kept.day
        self._counted_to = min(kept.counted_to, newest)  # a journal out of a backup numbers from there
        self._counts = Counter(dict(kept.left))

    def turn(self) -> bool:
        """Count some of what is new; True when there is more. If not, and the day is over, put what it came to.

        Raises:
            sqlite3.Error: As the store and the outbox; the next turn, or the next start, goes on.
        """
        new = self._store.committed_since(self._counted_to, _AT_ONCE)
        for stored in new:
            self._counts.update(categories(stored.result))
            self._counted_to = stored.number
        if new:
            return True
        today = self._today()
        if today != self._day:
            self._put(today)
        return False

    def _put(self, today: str) -> None:
        histograms, left = split(self._counts)
        clock = "right" if self._store.lifetime.now().synchronised else "uncertain"
        name = uuid.uuid4().hex
        message = Aggregate(message_id=name, day=self._day, clock=clock, histograms=histograms)  # type: ignore[arg-type]
        kept = _Kept(counted_to=self._counted_to, day=today, left=tuple(left.items()))
        self._keep(kept, ((name, "aggregate", msgspec.json.encode(message)),) if histograms else ())
        self._day, self._counts = today, left

    def _keep(self, kept: _Kept, messages: tuple[tuple[str, str, bytes], ...] = ()) -> None:
        self._outbox.keep_counting(msgspec.json.encode(kept), messages)

    def _today(self) -> str:
        return datetime.fromtimestamp(max(0.0, min(self._clock(), LATEST)), UTC).strftime("%Y-%m-%d")
