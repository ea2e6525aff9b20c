"""What the device page shows: the present, the last day in curves, the last month's answers, the last errors."""

from __future__ import annotations

from typing import Any

from edge import __version__
from edge.device.drift import Watch
from edge.device.history import Sample
from edge.records import REASON_WORDS, Reason, Status
from edge.web.condition import models_of
from edge.web.dependencies import given
from edge.web.graphs import POINTS, Curve, Graph, Value, lowest, mean, over_time
from edge.web.languages import gettext
from edge.web.notices import notices
from edge.web.remedies import last_errors
from edge.web.tally import Day, share
from edge.web.views import Watched

HOURS = 24
MOST_REASONS = 5
_DAY = 86_400.0


def device_view() -> dict[str, Any]:
    """Everything that `device.html` names."""
    dependencies = given()
    now, condition = dependencies.clock(), dependencies.condition()
    samples = dependencies.recorder.samples(HOURS)
    days = dependencies.recorder.answers().days
    return {
        "condition": condition,
        "software": __version__,
        "models": models_of(condition),
        "tested_at": next((one.since for one in condition.services if one.service == "inference"), None),
        "notices": notices(condition, samples, now),
        "graphs": curves(samples, now),
        "trends": trends(days),
        "reasons": reasons(days),
        "watched": watched(dependencies.recorder.drift()),
        "errors": last_errors(dependencies.store.state_dir),
        "now": now,
    }


def curves(samples: list[Sample], now: float) -> list[Graph]:
    """The last day, a quarter of an hour a point."""
    last = int(now // 60) + 1
    first = last - HOURS * 60
    start, step = first * 60.0, HOURS * 3600.0 / POINTS

    def figure(name: str, scale: float = 1.0) -> tuple[Value, ...]:
        gather = lowest if name in ("disk_free", "memory_available") else mean if name == "load_1min" else None

        def read(sample: Sample) -> Value:
            value = getattr(sample, name)
            return None if value is None else value / scale

        return over_time(samples, read, first, last, gather) if gather else over_time(samples, read, first, last)

    percentiles = (
        (gettext("half within"), "p50_ms"),
        (gettext("95 of 100 within"), "p95_ms"),
        (gettext("99 of 100 within"), "p99_ms"),
    )
    latency = tuple(Curve(words, figure(name)) for words, name in percentiles)
    return [
        Graph(gettext("From arrival to answer, milliseconds"), latency, start, step),
        Graph(gettext("Images waiting"), (Curve(gettext("at most"), figure("queue_depth")),), start, step),
        Graph(
            gettext("Age of the oldest image waiting, minutes"),
            (Curve(gettext("at most"), figure("oldest_seconds", 60)),),
            start,
            step,
        ),
        Graph(gettext("Disk free, GB"), (Curve(gettext("at least"), figure("disk_free", 1e9)),), start, step, digits=1),
        Graph(
            gettext("Memory available, GB"),
            (Curve(gettext("at least"), figure("memory_available", 1e9)),),
            start,
            step,
            digits=1,
        ),
        Graph(
            gettext("Temperature, °C"),
            (Curve(gettext("at most"), figure("temperature_celsius")),),
            start,
            step,
            (gettext("limit"), 85.0),
        ),
        Graph(gettext("Load"), (Curve(gettext("mean"), figure("load_1min")),), start, step, digits=1),
    ]


def trends(days: tuple[Day, ...]) -> list[Graph]:
    """The last month, a day a point: how the answers, and what the network says, have moved."""
    if not days:
        return []
    first, last = days[0].day, days[-1].day
    known = {day.day: day for day in days}
    every = [known.get(number) or Day(day=number) for number in range(first, last + 1)]
    start = first * _DAY

    def percent(status: Status) -> tuple[Value, ...]:
        shares = (share(day, status) for day in every)
        return tuple(None if value is None else 100 * value for value in shares)

    names = sorted({name for day in days for name in day.scores})
    warned = tuple(100 * sum(day.quality.values()) / day.total if day.total else None for day in every)
    answers = (
        Curve(gettext("flagged"), percent(Status.FLAGGED)),
        Curve(gettext("indeterminate"), percent(Status.INDETERMINATE)),
        Curve(gettext("not analysed"), percent(Status.NOT_ANALYSED)),
    )
    return [
        Graph(
            gettext("Images a day"), (Curve(gettext("images"), tuple(float(day.total) for day in every)),), start, _DAY
        ),
        Graph(gettext("Answers, percent of each day's images"), answers, start, _DAY, digits=1),
        Graph(
            gettext("Quality findings for each 100 images"),
            (Curve(gettext("findings"), warned),),
            start,
            _DAY,
            digits=1,
        ),
        *(
            Graph(
                gettext("%(finding)s: mean probability, percent", finding=gettext(name)),
                (Curve(gettext("mean"), _means(every, name)),),
                start,
                _DAY,
                digits=1,
            )
            for name in names[:3]
        ),
    ]


def reasons(days: tuple[Day, ...]) -> list[tuple[str, int]]:
    """Why images were not analysed in the last month, the most frequent first, each with its number."""
    counts: dict[str, int] = {}
    for day in days:
        for reason, number in day.reasons.items():
            counts[reason] = counts.get(reason, 0) + number
    frequent = sorted(counts.items(), key=lambda item: -item[1])[:MOST_REASONS]
    return [
        (gettext(REASON_WORDS[Reason(reason)]) if reason in set(Reason) else reason, number)
        for reason, number in frequent
    ]


def watched(watch: Watch) -> list[Watched]:
    """Every statistic that is watched, those first that are not as they were."""
    found = [
        Watched(
            model=subject.name, statistic=name, images=statistic.images, index=statistic.index, since=statistic.since
        )
        for subject in watch.subjects.values()
        for name, statistic in sorted(subject.statistics.items())
    ]
    return sorted(found, key=lambda one: (one.since is None, one.model))


def _means(days: list[Day], name: str) -> tuple[Value, ...]:
    scores = (day.scores.get(name) for day in days)
    return tuple(100 * one.mean if one and one.count else None for one in scores)
