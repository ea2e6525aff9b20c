"""How a box is, told from what was last heard of it and from the clock alone. Pure.

A box is never said to run on old data: `running` needs a health message within three of its intervals.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

INTERVALS = 3
"""Health messages that may fail to come before a box counts as late: one missed beat is nothing."""

LOST_AFTER = 900.0
"""Seconds of silence after which a box counts as lost, whatever its interval is, unless three of those are longer."""

_LEAST_IMAGES = 20

_TOLD_FOR = 7 * 86400.0


class Condition(StrEnum):
    """In the order in which a person should look."""

    LOST = "lost"
    DEGRADED = "degraded"
    LATE = "late"
    NEVER = "never heard"
    STOPPED = "stopped"
    RUNNING = "running"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What is known of one box. Times are the manager's, in seconds since the epoch; None where nothing was heard.

    Attributes:
        id: Its number in the database.
        first_seen_at: When its first message came.
        word: The last of `ready`, `stopping`, `lost`, and the session that it is about.
        heard_at: When its last health message came.
        session: The connection on which that was said.
        drift: What its drift watch says, JSON: a list of `edge.messages.types.Drift`.
        clock: `right` or `uncertain`, by its own word.
        certificate_days: Until its certificate ends.
        dropped: Messages of telemetry that it had no room for.
        settings: Which of the fleet's settings it has, JSON: `edge.messages.commands.Reported`.
        capabilities: Which operations it can be ordered to do, JSON; None when its birth never came.
        trail_back_at: When its audit trail last turned out to be shorter than it was, or another one.
        clock_off: The box's clock less the manager's, in seconds.
        not_up: How many of its services are not up.
        missing: Health messages that should have come between the first and the last that came of that connection.
        connections: How many it opened within a day.
        unclean: How often within a day it was switched on anew without having said that it stops.
        results: Answers of the last seven days, of which the others are parts.
    """

    id: int
    site: str
    box: str
    first_seen_at: float
    word: str | None = None
    word_session: str | None = None
    heard_at: float | None = None
    session: str | None = None
    clock_off: float | None = None
    software: str | None = None
    models: str = "[]"
    drift: str = "[]"
    clock: str | None = None
    certificate_days: int | None = None
    dropped: int | None = None
    uptime: int | None = None
    queue_depth: int | None = None
    queue_oldest: int | None = None
    outbox_depth: int | None = None
    outbox_oldest: int | None = None
    disk_used: float | None = None
    temperature: float | None = None
    latency_p95: float | None = None
    not_up: int = 0
    missing: int = 0
    connections: int = 0
    unclean: int = 0
    results: int = 0
    flagged: int = 0
    refused: int = 0
    warned: int = 0
    trail_back_at: float | None = None
    settings: str | None = None
    capabilities: str | None = None

    @property
    def born(self) -> bool:
        """Whether its birth came: which software and models it has is known."""
        return self.software is not None


def condition(facts: Facts, now: float, interval: float) -> Condition:
    """How the box is.

    Args:
        facts: What is known.
        now: Seconds since the epoch.
        interval: Seconds between two health messages of a box.
    """
    if facts.heard_at is None:
        return Condition.NEVER
    if facts.word_session == facts.session and facts.word in ("lost", "stopping"):
        return Condition.LOST if facts.word == "lost" else Condition.STOPPED
    silent = now - facts.heard_at
    if silent > max(LOST_AFTER, INTERVALS * interval):
        return Condition.LOST
    if silent > INTERVALS * interval or silent < -INTERVALS * interval:
        return Condition.LATE  # a clock of the manager's that was set back proves nothing
    return Condition.DEGRADED if facts.not_up else Condition.RUNNING


def measures(
    facts: Facts, now: float, interval: float, wanted: Mapping[str, str] = MappingProxyType({})
) -> dict[str, float | None]:
    """What the alarm rules look at. What a silent box said last is not known any more: None.

    Args:
        facts: What is known.
        now: Seconds since the epoch.
        interval: Seconds between two health messages of a box.
        wanted: The digest that each of these models is to have, by the model's id.
    """
    state = condition(facts, now, interval)
    fresh = state in (Condition.RUNNING, Condition.DEGRADED)
    silent = None if facts.heard_at is None else max(0.0, now - facts.heard_at)
    if silent is not None and state is Condition.STOPPED:
        silent = 0.0  # it left on purpose
    now_known = {
        "services_not_up": facts.not_up,
        "queue_oldest_seconds": facts.queue_oldest or 0,
        "outbox_oldest_seconds": facts.outbox_oldest or 0,
        "disk_used": facts.disk_used,
        "clock_off_seconds": None if facts.clock_off is None else abs(facts.clock_off),
        "temperature_celsius": facts.temperature,
        "certificate_days_gone": None if facts.certificate_days is None else -facts.certificate_days,
        "drifted": float(facts.drift != "[]"),
        "clock_uncertain": None if facts.clock is None else float(facts.clock != "right"),
        "messages_missing": facts.missing,
        "connections_a_day": facts.connections,
        "unclean_restarts_a_day": facts.unclean,
        "models_other": _others(facts.models, wanted) if wanted else 0,
    }
    back_at = facts.trail_back_at
    return {
        "trail_went_back": float(back_at is not None and now - back_at < _TOLD_FOR),
        "silent_seconds": silent,
        "never_heard_seconds": now - facts.first_seen_at if facts.heard_at is None else 0.0,
        "refusal_rate": facts.refused / facts.results if facts.results >= _LEAST_IMAGES else None,
        **{name: value if fresh else None for name, value in now_known.items()},
    }


def _others(models: str, wanted: Mapping[str, str]) -> int:
    """How many models are served with another digest than is wanted."""
    return sum(wanted.get(model["id"], model["digest"]) != model["digest"] for model in json.loads(models))
