"""The fleet in Prometheus' text exposition format: what the alarm rules look at, box by box, and sums of the fleet.

What a silent box said last is not known any more, and is left out: an expression over it is empty, never old.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from edge.fleet.alarms import Standing
from edge.fleet.standing import Condition, Facts, condition, measures
from edge.web.metrics import Family, as_text

HELP: dict[str, str] = {
    "silent_seconds": "Seconds since the box last said how it is; 0 when it left on purpose.",
    "never_heard_seconds": "Seconds since a box is known that has never said how it is; 0 for all others.",
    "services_not_up": "Services of the box that are not up.",
    "queue_oldest_seconds": "How long the oldest image has waited for its answer.",
    "outbox_oldest_seconds": "How long the oldest message has waited to leave the box.",
    "disk_used": "Share of the disk in use, 0 to 1.",
    "clock_off_seconds": "How far the box's clock is from the manager's.",
    "clock_uncertain": "1 while nothing keeps the box's clock right.",
    "temperature_celsius": "The box's hottest sensor.",
    "certificate_days_gone": "Days since the box's certificate ended: negative until then.",
    "drifted": "1 while what the box sees or answers is not as it was.",
    "trail_went_back": "1 for seven days after the audit trail turned out to be shorter than it was, or another one.",
    "messages_missing": "Health messages of the present connection that were lost on the way.",
    "connections_a_day": "Connections that the box opened within a day.",
    "unclean_restarts_a_day": "Times within a day that the box was switched on anew and had not said that it stops.",
    "models_other": "Models that the box serves with another digest than is wanted.",
    "refusal_rate": "Share of the images of seven days that got no answer.",
}
"""Every measure of `edge.fleet.standing.measures`, each a gauge with the labels `site` and `box`."""


def exposition(
    boxes: Sequence[Facts],
    standing: Mapping[int, Mapping[str, Standing]],
    *,
    collectors: Iterable[Any],
    apart: Mapping[str, int],
    now: float,
    interval: float,
    wanted: Mapping[str, str],
) -> str:
    """All families as text.

    Args:
        boxes: What is known of each box.
        standing: Alarms that are not over, by box and rule.
        collectors: `name`, `alive_at` and `connected` of each.
        apart: How many messages were kept apart, by reason.
        now: Seconds since the epoch.
        interval: Seconds between two health messages of a box.
        wanted: The digest that each of these models is to have, by the model's id.
    """
    families = [*_sums(boxes, standing, now, interval), *_measured(boxes, now, interval, wanted)]
    ages = [({"collector": one.name}, max(0.0, now - one.alive_at)) for one in collectors if one.connected]
    families.append(("collector_silent_seconds", "gauge", "Since a connected collector last worked.", [*ages]))
    counts = [({"why": why}, count) for why, count in sorted(apart.items())]
    families.append(("messages_apart_total", "counter", "Messages that were none of the contract.", [*counts]))
    return as_text("scanside_fleet", families)


def _sums(
    boxes: Sequence[Facts], standing: Mapping[int, Mapping[str, Standing]], now: float, interval: float
) -> Iterable[Family]:
    states = Counter(condition(facts, now, interval) for facts in boxes)
    yield "boxes", "gauge", "Boxes by how they are.", [({"state": one.name.lower()}, states[one]) for one in Condition]
    raised = Counter(
        rule for rules in standing.values() for rule, stands in rules.items() if stands.raised_at is not None
    )
    yield "alarms", "gauge", "Alarms that stand, by rule.", [({"rule": name}, raised[name]) for name in sorted(raised)]


def _measured(boxes: Sequence[Facts], now: float, interval: float, wanted: Mapping[str, str]) -> Iterable[Family]:
    labels = [{"site": facts.site, "box": facts.box} for facts in boxes]
    measured = [measures(facts, now, interval, wanted) for facts in boxes]
    for name, text in HELP.items():
        yield name, "gauge", text, [(who, values[name]) for who, values in zip(labels, measured, strict=True)]
    for name, text in (("results", "Answers of seven days."), ("flagged", "Flagged ones among them.")):
        yield f"{name}_week", "gauge", text, [(who, getattr(one, name)) for who, one in zip(labels, boxes, strict=True)]
