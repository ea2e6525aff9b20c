"""Which image is taken next: fresh ones before those that wait since an outage, urgent before routine, oldest first.

The person who has just taken an image still stands beside the patient; who took one before the outage does not. So an
image is *backlog* when it came before this start of the inference service, has waited for longer than `BACKLOG_AFTER`,
or was sent as of low priority. Backlog goes in the gaps. Where `BACKLOG_EVERY` turns would pass over the oldest image,
the last of them is the oldest backlog's, whatever its priority: one that has `n` older ones before it waits for
`BACKLOG_EVERY * (n + 1)` turns at most.
"""

from __future__ import annotations

BACKLOG_AFTER = 10.0
"""Seconds of the box's lifetime: some hundred times what one image takes."""

BACKLOG_EVERY = 4

POSTPONED = 3
"""In the place of an image's priority once it has taken too long: backlog that goes after all other backlog."""

_BACKLOG = "(number <= :line OR received_lifetime < :since OR priority >= 2)"

OLDEST = "SELECT min(number) FROM instances WHERE state = 'accepted'"
"""The oldest image that waits."""

CLAIM = (
    "UPDATE instances SET state = 'processing', attempts = attempts + 1 WHERE number = ("  # noqa: S608 - our own words
    "SELECT number FROM instances WHERE state = 'accepted'"
    f" ORDER BY {_BACKLOG} != :turn, iif(:turn AND {_BACKLOG}, 0, priority), number LIMIT 1) RETURNING *"
)
"""Takes the next image. Parameters: `line`, the newest image that was there at the start; `since`, the lifetime before
which an image has waited for too long; `turn`, whether it is the backlog's turn (0 or 1)."""
