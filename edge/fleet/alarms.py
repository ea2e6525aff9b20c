"""The alarms as data, and when one is raised and cleared. Pure: values, thresholds and the clock come in.

A rule looks at one measure of a box (`edge.fleet.standing.measures`). It is raised when the measure has been above its
upper threshold for the grace period, and cleared when it has been below the lower one for the calm period: between the
two, nothing changes. A measure that is not known changes nothing either.
"""

from __future__ import annotations

from typing import NamedTuple

from edge.records import Record

MINUTE = 60.0
DAY = 86400.0


class Rule(Record, frozen=True, kw_only=True):
    """One rule.

    Attributes:
        name: Stable; thresholds are set under it.
        measure: What it looks at.
        words: What a person reads while it is raised.
        raise_above: See above.
        clear_below: See above.
        grace_seconds: See above.
        calm_seconds: See above.
    """

    name: str
    measure: str
    words: str
    raise_above: float
    clear_below: float
    grace_seconds: float = 0.0
    calm_seconds: float = 0.0


RULES: tuple[Rule, ...] = (
    Rule(
        name="lost",
        measure="silent_seconds",
        words="not heard for more than 15 minutes",
        raise_above=15 * MINUTE,
        clear_below=5 * MINUTE,
    ),
    Rule(
        name="never_heard",
        measure="never_heard_seconds",
        words="known to the broker, but has never said how it is",
        raise_above=15 * MINUTE,
        clear_below=1,
    ),
    Rule(
        name="services",
        measure="services_not_up",
        words="a service is not up",
        raise_above=0.5,
        clear_below=0.5,
        grace_seconds=2 * MINUTE,
        calm_seconds=MINUTE,
    ),
    Rule(
        name="queue",
        measure="queue_oldest_seconds",
        words="an image waits for its answer",
        raise_above=5 * MINUTE,
        clear_below=MINUTE,
        grace_seconds=MINUTE,
        calm_seconds=MINUTE,
    ),
    Rule(
        name="outbox",
        measure="outbox_oldest_seconds",
        words="summaries do not leave the box",
        raise_above=15 * MINUTE,
        clear_below=MINUTE,
        grace_seconds=MINUTE,
        calm_seconds=MINUTE,
    ),
    Rule(
        name="disk",
        measure="disk_used",
        words="the disk fills",
        raise_above=0.90,
        clear_below=0.80,
        grace_seconds=MINUTE,
        calm_seconds=15 * MINUTE,
    ),
    Rule(
        name="clock",
        measure="clock_off_seconds",
        words="the box's clock is wrong",
        raise_above=5 * MINUTE,
        clear_below=MINUTE,
        grace_seconds=5 * MINUTE,
        calm_seconds=MINUTE,
    ),
    Rule(
        name="clock_uncertain",
        measure="clock_uncertain",
        words="nothing keeps the box's clock right",
        raise_above=0.5,
        clear_below=0.5,
        grace_seconds=60 * MINUTE,
        calm_seconds=5 * MINUTE,
    ),
    Rule(
        name="certificate",
        measure="certificate_days_gone",
        words="the box's certificate ends within 30 days",
        raise_above=-30,
        clear_below=-30,
    ),
    Rule(
        name="drift",
        measure="drifted",
        words="what the box sees or answers is not as it was",
        raise_above=0.5,
        clear_below=0.5,
    ),
    Rule(
        name="audit_trail",
        measure="trail_went_back",
        words="the audit trail is shorter than it was, or another one",
        raise_above=0.5,
        clear_below=0.5,
    ),
    Rule(
        name="temperature",
        measure="temperature_celsius",
        words="the box is hot",
        raise_above=85,
        clear_below=75,
        grace_seconds=5 * MINUTE,
        calm_seconds=5 * MINUTE,
    ),
    Rule(
        name="refusals",
        measure="refusal_rate",
        words="many images get no answer",
        raise_above=0.5,
        clear_below=0.3,
        grace_seconds=15 * MINUTE,
        calm_seconds=15 * MINUTE,
    ),
    Rule(
        name="messages",
        measure="messages_missing",
        words="messages of this connection were lost on the way",
        raise_above=2,
        clear_below=0.5,
    ),
    Rule(
        name="reconnects",
        measure="connections_a_day",
        words="connects again and again",
        raise_above=20,
        clear_below=10,
    ),
    Rule(
        name="restarts",
        measure="unclean_restarts_a_day",
        words="was switched on anew several times in a day without having said that it stops",
        raise_above=2,
        clear_below=2,
    ),
    Rule(
        name="model",
        measure="models_other",
        words="serves another model than is wanted",
        raise_above=0.5,
        clear_below=0.5,
        grace_seconds=15 * MINUTE,
        calm_seconds=MINUTE,
    ),
)
"""Those that what the boxes say today can decide; the README says which are missing."""


class Standing(NamedTuple):
    """One rule at one box, from the moment on at which its measure rose.

    Attributes:
        begun_at: When it rose.
        raised_at: When somebody was told; None before.
        calm_since: Since when it has been below again; None while it is not.
        cleared_at: When it was over; None before.
    """

    begun_at: float
    raised_at: float | None = None
    calm_since: float | None = None
    cleared_at: float | None = None


def step(rule: Rule, value: float | None, standing: Standing | None, now: float) -> Standing | None:
    """What stands now; None when nothing does (and nothing that was raised has just been cleared).

    Args:
        rule: Its thresholds.
        value: The measure; None when it is not known.
        standing: What stood before; None for nothing.
        now: Seconds since the epoch.
    """
    if value is None:
        return standing
    above = value > rule.raise_above
    if standing is None:
        if not above:
            return None
        standing = Standing(begun_at=now)
    if standing.raised_at is None:
        if not above:
            return None
        return standing._replace(raised_at=now) if now - standing.begun_at >= rule.grace_seconds else standing
    if value >= rule.clear_below:
        return standing._replace(calm_since=None)
    calm_since = now if standing.calm_since is None else standing.calm_since
    cleared_at = now if now - calm_since >= rule.calm_seconds else None
    return standing._replace(calm_since=calm_since, cleared_at=cleared_at)
