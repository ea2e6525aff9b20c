"""What a box would have had to say in a day without its broker."""

from __future__ import annotations

import time
import uuid
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import msgspec

from edge.records import Priority, Reason, Status, Summary
from edge.store import Outbox

_DAY = 86400
_IMAGES = 500
"""A day's work of a busy clinic."""


def a_day_of_summaries(state: Path, rng: Random) -> set[str]:
    """Put a day's worth of summaries into the outbox, as if committed over the last 24 hours; their ids."""
    now = time.time()
    ids = set()
    for number in range(24):
        at = now - _DAY + number * _DAY / 24
        hour = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H")
        messages = [_summary(hour, rng) for _ in range(-(-_IMAGES // 24))]
        with closing(Outbox(state, clock=lambda at=at: at)) as outbox:  # type: ignore[misc]
            outbox.put((message.message_id, "summary", msgspec.json.encode(message)) for message in messages)
        ids |= {message.message_id for message in messages}
    return ids


def _summary(hour: str, rng: Random) -> Summary:
    return Summary(
        message_id=f"{uuid.uuid4().hex}-0",
        hour=hour,
        status=Status.NOT_ANALYSED,
        reason=Reason.UNSUPPORTED_MODALITY,
        priority=Priority.ROUTINE,
        findings=(),
        quality=(),
        model=None,
        latency_ms=rng.randrange(1000),
    )
