"""What the manager's page shows, made from what is known and from the clock. Pure."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, TypeVar

from edge.fleet.alarms import DAY, RULES, Standing
from edge.fleet.queries import Point
from edge.fleet.reports import Counted
from edge.fleet.standing import INTERVALS, Condition, Facts, condition

PAGE = 100
"""Boxes on one page."""

WIDTH, HEIGHT = 640, 120
"""Of a graph, in its own units."""

_NONE = "\N{EN DASH}"

_Figure = TypeVar("_Figure", int, float)

RULE_WORDS: dict[str, str] = {rule.name: rule.words for rule in RULES}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One box in the overview. `alarms` are the names of the rules that are raised."""

    facts: Facts
    condition: Condition
    alarms: tuple[str, ...]
    models: str
    flags_a_day: float
    refusal_rate: float | None
    quality_rate: float | None


class Filter(NamedTuple):
    """Which boxes are wanted; an empty text is no wish. `text` is looked for in site and name."""

    site: str = ""
    condition: str = ""
    alarm: str = ""
    text: str = ""

    def wants(self, row: Row) -> bool:
        """Whether the box is among them. The alarm `any` is each of them."""
        return (
            (not self.site or row.facts.site == self.site)
            and (not self.condition or row.condition == self.condition)
            and (not self.alarm or (bool(row.alarms) if self.alarm == "any" else self.alarm in row.alarms))
            and (not self.text or self.text in f"{row.facts.site}/{row.facts.box}")
        )


class Site(NamedTuple):
    """One site: its boxes by condition, those with alarms, and its answers of seven days."""

    name: str
    boxes: int
    conditions: Counter[Condition]
    alarmed: int
    results: int
    flagged: int
    refused: int


class Bar(NamedTuple):
    """One category of a histogram, and its share of all that was told of."""

    name: str
    images: int
    share: float


class Histogram(NamedTuple):
    """The counts of one statistic; `bars` has those with five images or more."""

    title: str
    images: int
    bars: tuple[Bar, ...]


class Graph(NamedTuple):
    """One figure over time: lines that break where nothing came, and what they say in words.

    Attributes:
        lines: SVG `points`, in units of `WIDTH` and `HEIGHT`.
        top: The value at the upper edge.
        text: The same in words, for who does not see it.
    """

    name: str
    lines: tuple[str, ...]
    top: float
    text: str


class Hour(NamedTuple):
    """The text twin of the graphs: what came within one hour (its beginning), and the highest of each figure."""

    begins: float
    messages: int
    queue: int | None
    outbox: int | None
    disk: float | None


def rows(
    boxes: Iterable[Facts], standing: Mapping[int, Mapping[str, Standing]], now: float, interval: float
) -> list[Row]:
    """Every box, those first that a person should look at."""
    made = [_row(facts, standing.get(facts.id, {}), now, interval) for facts in boxes]
    order = {state: number for number, state in enumerate(Condition)}
    return sorted(made, key=lambda row: (order[row.condition], not row.alarms, row.facts.site, row.facts.box))


def _row(facts: Facts, standing: Mapping[str, Standing], now: float, interval: float) -> Row:
    known_days = min(7, max(1, math.ceil((now - facts.first_seen_at) / DAY)))
    return Row(
        facts=facts,
        condition=condition(facts, now, interval),
        alarms=tuple(sorted(rule for rule, stands in standing.items() if stands.raised_at is not None)),
        models=", ".join(f"{model['id']} {model['version']}" for model in json.loads(facts.models)),
        flags_a_day=facts.flagged / known_days,
        refusal_rate=facts.refused / facts.results if facts.results else None,
        quality_rate=facts.warned / facts.results if facts.results else None,
    )


def sites(boxes: Iterable[Row]) -> list[Site]:
    """The boxes by their site, those sites first that have most alarms."""
    by_site: dict[str, list[Row]] = {}
    for row in boxes:
        by_site.setdefault(row.facts.site, []).append(row)
    made = [
        Site(
            name=name,
            boxes=len(members),
            conditions=Counter(row.condition for row in members),
            alarmed=sum(bool(row.alarms) for row in members),
            results=sum(row.facts.results for row in members),
            flagged=sum(row.facts.flagged for row in members),
            refused=sum(row.facts.refused for row in members),
        )
        for name, members in by_site.items()
    ]
    return sorted(made, key=lambda site: (-site.alarmed, site.name))


def histograms(counted: Iterable[Counted]) -> list[Histogram]:
    """Answers, quality, and the scores of each model and finding; scores from low to high, all else by number."""
    tables: dict[tuple[str, str], list[Counted]] = {}
    for one in counted:
        tables.setdefault((one.statistic, one.subject), []).append(one)
    return [_histogram(statistic, subject, tables[statistic, subject]) for statistic, subject in sorted(tables)]


def _histogram(statistic: str, subject: str, members: list[Counted]) -> Histogram:
    scores = statistic == "scores"
    ordered = sorted(members, key=lambda one: one.name if scores else (-one.images, one.name))
    images = sum(one.images for one in ordered)
    bars = tuple(
        Bar(f"{one.name} to {float(one.name) + 0.1:.1f}" if scores else one.name, one.images, one.images / images)
        for one in ordered
    )
    return Histogram(f"Probability: {subject}" if scores else statistic.capitalize(), images, bars)


def graph(name: str, points: Sequence[tuple[float, float | None]], begin: float, end: float, interval: float) -> Graph:
    """A figure over time. Where no message came for three intervals there is no line: nothing is known there.

    Args:
        name: What it is.
        points: Time and value, oldest first.
        begin: The left edge.
        end: The right edge.
        interval: Seconds between two messages.
    """
    known = [(at, value) for at, value in points if value is not None]
    if not known:
        return Graph(name, (), 1.0, f"{name}: nothing known in this time.")
    top = max(1.0, *(value for _, value in known))
    lines: list[list[str]] = [[]]
    before = known[0][0]
    for at, value in known:
        if at - before > INTERVALS * interval:
            lines.append([])
        before = at
        x, y = (at - begin) / (end - begin) * WIDTH, HEIGHT - value / top * HEIGHT
        lines[-1].append(f"{x:.1f},{y:.1f}")
    values = [value for _, value in known]
    gaps = len(lines) - 1
    broken = "no gap" if not gaps else "1 gap" if gaps == 1 else f"{gaps} gaps"
    text = f"{name}: between {min(values):.4g} and {max(values):.4g}, last {values[-1]:.4g}; {broken}."
    return Graph(name, tuple(" ".join(line) for line in lines), top, text)


def hours(points: Iterable[Point]) -> list[Hour]:
    """The graphs' text twin, newest hour first."""
    by_hour: dict[int, list[Point]] = {}
    for point in points:
        by_hour.setdefault(int(point.received_at // 3600), []).append(point)
    return [
        Hour(
            begins=number * 3600.0,
            messages=len(members),
            queue=_highest(point.queue_depth for point in members),
            outbox=_highest(point.outbox_depth for point in members),
            disk=_highest(point.disk_used for point in members),
        )
        for number, members in sorted(by_hour.items(), reverse=True)
    ]


def _highest(figures: Iterable[_Figure | None]) -> _Figure | None:
    return max((figure for figure in figures if figure is not None), default=None)


def ago(at: float | None, now: float) -> str:
    """How long ago something was."""
    if at is None:
        return "never"
    seconds = now - at
    for unit, length in (("d", DAY), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(0.0, seconds):.0f} s ago"


def lasting(seconds: float | None) -> str:
    """A span of time; a dash for none."""
    return _NONE if seconds is None else ago(0.0, seconds).removesuffix(" ago")


def percent(share: float | None) -> str:
    """A share in percent; a dash when it is not known."""
    return _NONE if share is None else f"{share * 100:.0f}\N{NO-BREAK SPACE}%"


def clock(at: float | None) -> str:
    """A moment in UTC."""
    return _NONE if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def day(number: int) -> str:
    """A day since the epoch by its date."""
    return datetime.fromtimestamp(number * DAY, UTC).strftime("%Y-%m-%d")
