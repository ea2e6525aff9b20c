"""What the broker has acknowledged and may still forget. Pure.

A broker acknowledges from memory and writes to its disk now and then (Mosquitto: each `autosave_interval`). One that is
killed forgets what came since, and its clients see no more of it than a connection that breaks. So what was
acknowledged shortly before a connection broke is sent once more; receivers know it by its id.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

SETTLED_AFTER = 30.0
"""Seconds that a connection must go on after an acknowledgement: three times the interval of the fleet kit's broker."""

_Message = TypeVar("_Message")


class Settling(Generic[_Message]):
    """Messages that are acknowledged and not settled yet, in the order of their acknowledgements."""

    def __init__(self) -> None:
        """None yet."""
        self._acknowledged: deque[tuple[float, _Message]] = deque()

    def add(self, message: _Message, now: float) -> None:
        """It was acknowledged. `now` is in seconds on a clock that never steps."""
        self._forget_settled(now)
        self._acknowledged.append((now, message))

    def broken(self, now: float) -> list[_Message]:
        """The connection broke: those that are to be sent again, oldest first, once."""
        self._forget_settled(now)
        again = [message for _, message in self._acknowledged]
        self._acknowledged.clear()
        return again

    def _forget_settled(self, now: float) -> None:
        while self._acknowledged and now - self._acknowledged[0][0] >= SETTLED_AFTER:
            self._acknowledged.popleft()
