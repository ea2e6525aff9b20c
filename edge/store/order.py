"""What is taken next, of images for an answer and of results for a PACS: fresh, then old; urgent, then routine; by age.

The person who has just taken an image still stands beside the patient; who took one before the outage does not. So an
image is *backlog* when it came before this start of the inference service, has waited for longer than `BACKLOG_AFTER`,
or was sent as of low priority; a result when its image came longer ago than `deliveries.BACKLOG_AFTER`, or was sent so
and is not flagged. Backlog goes in the gaps. Where `BACKLOG_EVERY` turns would pass over the oldest that
waits, the last of them is the oldest backlog's, whatever its priority: one that has `n` older ones before it waits for
`BACKLOG_EVERY * (n + 1)` turns at most.
"""

from __future__ import annotations

BACKLOG_AFTER = 10.0
"""Seconds of the box's lifetime: some hundred times what one image takes."""

BACKLOG_EVERY = 4

POSTPONED = 3
"""In the place of an image's priority once it has taken too long: backlog that goes after all other backlog."""


def in_turn(backlog: str, priority: str, number: str) -> str:
    """What ORDER BY has, out of SQL of our own: fresh before backlog, or the other way round at its `:turn`."""
    return f"{backlog} != :turn, iif(:turn AND {backlog}, 0, {priority}), {number}"


class Turns:
    """Counts how often the oldest was passed over, and so says when it is the backlog's turn."""

    def __init__(self) -> None:
        self._passed_over = 0

    @property
    def is_backlogs(self) -> bool:
        """Whether the next turn is the backlog's."""
        return self._passed_over >= BACKLOG_EVERY - 1

    def taken(self, *, the_oldest: bool) -> None:
        """Something was taken, in the order of this turn; whether that was the oldest that waits, or nothing."""
        self._passed_over = 0 if the_oldest or self.is_backlogs else self._passed_over + 1


_BACKLOG = "(number <= :line OR received_lifetime < :since OR priority >= 2)"

OLDEST = "SELECT min(number) FROM instances WHERE state = 'accepted'"
"""The oldest image that waits."""

CLAIM = (
    "UPDATE instances SET state = 'processing', attempts = attempts + 1 WHERE number = ("  # noqa: S608 - our own words
    "SELECT number FROM instances WHERE state = 'accepted'"
    f" ORDER BY {in_turn(_BACKLOG, 'priority', 'number')} LIMIT 1) RETURNING *"
)
"""Takes the next image. Parameters: `line`, the newest image that was there at the start; `since`, the lifetime before
which an image has waited for too long; `turn`, whether it is the backlog's turn (0 or 1)."""
