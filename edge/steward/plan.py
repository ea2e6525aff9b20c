"""What to do next about services that are to start anew. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Literal, NamedTuple

from edge.records import Record
from edge.steward.processes import Seen

MOST_ATTEMPTS = 3
"""How often the steward may be killed in the middle of one order before it gives the order up."""

BACK_WITHIN = 60.0
"""Seconds that the box may take to come up with the settings of before."""

KILL_AFTER = 5.0
"""Seconds after which a service that was asked to end is ended."""


class Step(Record, frozen=True, kw_only=True):
    """What is noted on the disk before services are ended.

    Attributes:
        phase: `ahead` to what was ordered, or `back` to what was before.
        leaders: The processes that are to end, by service; empty where there was none.
        boot: When this step began: in which boot, and seconds since that.
        since: See above.
    """

    phase: Literal["ahead", "back"]
    leaders: dict[str, str]
    boot: str
    since: float


class Act(Enum):
    """What to do."""

    WAIT = "wait"
    ASK = "ask"
    KILL = "kill"
    DONE = "done"
    GIVE_UP = "give up"


class Next(NamedTuple):
    """What to do, and with which processes or services."""

    act: Act
    whom: tuple[str, ...] = ()


def decide(leaders: Mapping[str, str], seen: Mapping[str, Seen], elapsed: float, limit: float) -> Next:
    """What to do next.

    Args:
        leaders: The processes that are to end, by service.
        seen: How the services are.
        elapsed: Seconds since that was noted.
        limit: Seconds within which the next ones must be up.
    """
    none = Seen("", up=False)
    missing = tuple(
        sorted(name for name, old in leaders.items() if not (_is_new(old, seen.get(name, none)) and seen[name].up))
    )
    if not missing:
        return Next(Act.DONE)
    if elapsed >= limit:
        return Next(Act.GIVE_UP, missing)
    alive = tuple(sorted(old for name, old in leaders.items() if old and seen.get(name, none).leader == old))
    if not alive:
        return Next(Act.WAIT, missing)
    return Next(Act.KILL if elapsed >= KILL_AFTER else Act.ASK, alive)


def elapsed(step: Step, boot: str, uptime: float) -> float:
    """Seconds that a step has lasted; of one from before the box was switched on, this boot's."""
    return uptime - step.since if step.boot == boot else uptime


def _is_new(old: str, now: Seen) -> bool:
    return bool(now.leader) and now.leader != old
