"""What the broker has acknowledged and may still forget. Pure.

A broker acknowledges from memory and writes to its disk now and then (Mosquitto: each `autosave_interval`). One that is
killed forgets what came since, and its clients see no more of it than a connection that breaks. So what was
acknowledged shortly before a connection broke is sent once more; receivers know it by its id.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

SETTLED_AFTER = 30.0
"""Seconds from one acknowledgement to a later one: three times the interval of the fleet kit's broker."""

MOST = 6_000
"""Messages that are held so, the newest: what goes in that time at the rate of the default configuration."""

_Message = TypeVar("_Message")


class Settling(Generic[_Message]):
    """Messages that are acknowledged and not settled yet, in the order of their acknowledgements."""

    def __init__(self) -> None:
        """None yet."""
        self._acknowledged: deque[tuple[float, _Message]] = deque()

    def add(self, message: _Message, now: float) -> None:
        """It was acknowledged. `now` is in seconds on a clock that never steps."""
        self._acknowledged.append((now, message))
        while now - self._acknowledged[0][0] >= SETTLED_AFTER or len(self._acknowledged) > MOST:
            self._acknowledged.popleft()

    def broken(self) -> list[_Message]:
        """The connection broke, whenever that was: those that are to be sent again, oldest first, once.

        Settled by the last acknowledgement, as a broker without power may be gone for long before anybody notices.
        """
        again = [message for _, message in self._acknowledged]
        self._acknowledged.clear()
        return again
