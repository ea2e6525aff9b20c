"""How one piece of work goes to many boxes: in waves, each after the one before has done well. Pure.

A wave goes out when enough of the one before were successful. A box that has not come to an end within the deadline
counts as failed. After so many failures nothing more goes out; what has gone out is left to come to its end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple


class Stage(StrEnum):
    """How far one box's order is."""

    WAITING = "waiting"
    SENT = "sent"
    EXECUTING = "executing"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    OVERDUE = "overdue"
    NOT_SENT = "not sent"


ENDS = frozenset((Stage.SUCCESSFUL, Stage.FAILED, Stage.OVERDUE, Stage.NOT_SENT))
GONE_WRONG = frozenset((Stage.FAILED, Stage.OVERDUE))


class Progress(StrEnum):
    """How far the whole is."""

    RUNNING = "running"
    STOPPED = "stopped"
    FINISHED = "finished"


class Plan(NamedTuple):
    """How the work is handed out.

    Attributes:
        wave: Boxes in one wave.
        go_on_percent: How many of a wave must be successful before the next goes out, 0 to 100.
        stop_after: So many failures stop the whole.
        deadline: Seconds from sending within which a box must have come to an end.
    """

    wave: int
    go_on_percent: float
    stop_after: int
    deadline: float


class Part(NamedTuple):
    """One box's order: how far it is, and when it was sent (seconds since the epoch)."""

    stage: Stage
    sent_at: float | None = None


class Decision(NamedTuple):
    """What to do now: each part's stage from now on, and how far the whole is, with the reason when it was stopped.

    A part that is `sent` now and was `waiting` before is to be sent.
    """

    stages: tuple[Stage, ...]
    progress: Progress
    why: str


def decide(plan: Plan, parts: Sequence[Part], now: float) -> Decision:
    """What the next step is, of a rollout that runs.

    Args:
        plan: How it is handed out.
        parts: In the order in which they go out.
        now: Seconds since the epoch.
    """
    stages = [_late(plan, part, now) for part in parts]
    wrong = sum(stage in GONE_WRONG for stage in stages)
    if wrong >= plan.stop_after:
        return stopped(stages, f"{wrong} of {len(stages)} have failed")
    for first in range(0, len(stages), plan.wave):
        wave = stages[first : first + plan.wave]
        if Stage.WAITING in wave:
            stages[first : first + plan.wave] = [Stage.SENT if one is Stage.WAITING else one for one in wave]
            break
        successful = 100 * Counter(wave)[Stage.SUCCESSFUL] / len(wave)
        if successful >= plan.go_on_percent:
            continue
        if all(stage in ENDS for stage in wave) and first + plan.wave < len(stages):
            return stopped(stages, f"{successful:.0f} % of a wave were successful, {plan.go_on_percent:g} % go on")
        break
    over = all(stage in ENDS for stage in stages)
    return Decision(tuple(stages), Progress.FINISHED if over else Progress.RUNNING, "")


def stopped(stages: Sequence[Stage], why: str) -> Decision:
    """The whole is stopped: what waits is not sent any more."""
    left = tuple(Stage.NOT_SENT if stage is Stage.WAITING else stage for stage in stages)
    return Decision(left, Progress.STOPPED, why)


def _late(plan: Plan, part: Part, now: float) -> Stage:
    under_way = part.stage in (Stage.SENT, Stage.EXECUTING)
    late = under_way and part.sent_at is not None and now - part.sent_at > plan.deadline
    return Stage.OVERDUE if late else part.stage
