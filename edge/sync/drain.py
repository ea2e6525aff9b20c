"""Which messages of the outbox to send next, how, and what an acknowledgement means. No file, no socket, no clock."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edge.messages.summary import hour
from edge.records import Summary
from edge.store import OutboxMessage
from edge.store.lifetime import Moment
from edge.store.outbox import LIFE
from edge.sync.retry import LONGEST_DELAY_REFUSED, back_off, is_taken

REFUSALS_PER_PASS = 20

_LEAST_LIFE = 3600


class Drain:
    """Goes through the outbox, oldest message first, from its beginning on each new connection.

    A message that the broker refuses, or has nobody to give to, stays where it is, and the pass goes on behind it; a
    new pass begins after a back-off. A pass that has met many refusals goes no further. So one message that a broker
    does not like holds up no other, and a broker that likes none is not hammered.
    """

    def __init__(self) -> None:
        """Before the first connection."""
        self._in_flight: set[int] = set()
        self._passed = 0
        self._refused: set[int] = set()
        self._refused_before: set[int] = set()
        self._passes_refused = 0
        self._again_at = 0.0

    def start_over(self) -> None:
        """Whatever was in flight counts as unsent, and the oldest message is first again: for each new connection."""
        self._in_flight.clear()
        self._passed = 0

    def wanted(self, room: int, now: float) -> tuple[int, int]:
        """What to ask of the outbox: the messages with a number above the first figure, at most as many as the second.

        Args:
            room: How many more may be in flight.
            now: Seconds on a clock that never steps.
        """
        if self._refused and now >= self._again_at:
            self._passed = 0
            self._refused, self._refused_before = set(), self._refused
        if room <= 0 or len(self._refused) >= REFUSALS_PER_PASS:
            return self._passed, 0
        return self._passed, room + len(self._in_flight)

    def choose(self, waiting: Iterable[OutboxMessage], room: int) -> list[OutboxMessage]:
        """Those to send now: not the ones that are in flight already, at most `room`."""
        return [message for message in waiting if message.number not in self._in_flight][:room]

    def sent(self, number: int) -> None:
        """This message is in flight."""
        self._in_flight.add(number)
        self.skip(number)

    def skip(self, number: int) -> None:
        """Leave this message behind until the next pass."""
        self._passed = max(self._passed, number)

    def acknowledged(self, number: int, code: int, now: float, jitter: float) -> bool:
        """Whether this message is delivered, and so leaves the outbox.

        Args:
            number: The message's number in the outbox.
            code: The PUBACK's reason code.
            now: Seconds on a clock that never steps.
            jitter: Uniform in [0, 1).
        """
        self._in_flight.discard(number)
        if is_taken(code):
            if number in self._refused_before:
                self._passes_refused = 0
            return True
        if not self._refused:
            self._passes_refused += 1
            self._again_at = now + back_off(self._passes_refused, jitter, LONGEST_DELAY_REFUSED)
        self._refused.add(number)
        return False


class Allowance:
    """How many messages may go now, at so many a second; what was not used lasts a second."""

    def __init__(self, per_second: float) -> None:
        """A second's worth at once, to begin with."""
        self._per_second = per_second
        self._left = per_second
        self._at: float | None = None

    def left(self, now: float) -> int:
        """How many; `now` is in seconds on a clock that never steps."""
        if self._at is not None:
            self._left = min(self._per_second, self._left + (now - self._at) * self._per_second)
        self._at = now
        return int(self._left)

    def used(self, count: int) -> None:
        """So many went."""
        self._left -= count

    def wait(self) -> float:
        """Seconds until one more may go."""
        return max(0.0, (1.0 - self._left) / self._per_second)


def message_expiry(age: float) -> int:
    """MQTT 5 message expiry interval (3.3.2.3.3) of a summary in seconds: the rest of its life, at least an hour."""
    return round(min(LIFE, max(_LEAST_LIFE, LIFE - age)))


def corrected(summary: Summary, put_at: float, boot: float, now: Moment) -> Summary:
    """A summary whose hour was taken while the clock was not known to be right, as it should read.

    Only what was put since the box was switched on: by how much the clock was wrong before is not known.

    Args:
        summary: As it waits.
        put_at: When it was put in the outbox, which follows its result at once; in the box's lifetime.
        boot: When this boot began, likewise.
        now: This moment.
    """
    if summary.clock == "right" or not now.synchronised or put_at <= boot:
        return summary
    return msgspec.structs.replace(summary, hour=hour(now.wall - (now.lifetime - put_at)), clock="right")
