"""Curves over time as inline SVG that needs no script, each with a table that says the same. Pure.

Drawn into a box of 1000 by 100 that the style sheet stretches; line widths do not stretch with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean
from typing import NamedTuple

from edge.device.history import Sample

WIDTH, HEIGHT = 1000, 100
POINTS = 96
ROWS = 24

Value = float | None


class Curve(NamedTuple):
    """One line of a graph: what it is called, and its values at even steps of time, oldest first; None is a gap."""

    name: str
    values: tuple[Value, ...]


class Graph(NamedTuple):
    """What a template draws.

    Attributes:
        title: What it is, with its unit.
        curves: Three at most, told apart by their dashes.
        start: The time of the first value, seconds since the epoch.
        step: Seconds between two values.
        limit: A line that must not be crossed, with what it is called; None without one.
        digits: Behind the point, in words and table.
    """

    title: str
    curves: tuple[Curve, ...]
    start: float
    step: float
    limit: tuple[str, float] | None = None
    digits: int = 0

    @property
    def top(self) -> float:
        """The value at the upper edge: the highest that is drawn, at least 1 of the last digit shown."""
        drawn = [value for curve in self.curves for value in curve.values if value is not None]
        limits = [self.limit[1]] if self.limit else []
        return max([*drawn, *limits, 0.1**self.digits])

    def segments(self, curve: Curve) -> list[str]:
        """The curve as points of polylines, one for each stretch without a gap; a lone value is a short line."""
        width = WIDTH / max(1, len(curve.values) - 1)
        found: list[list[tuple[float, float]]] = [[]]
        for index, value in enumerate(curve.values):
            if value is None:
                found.append([])
            else:
                found[-1].append((index * width, self.y(value)))
        stretches = [
            points if len(points) > 1 else [*points, (points[0][0] + 3, points[0][1])] for points in found if points
        ]
        return [" ".join(f"{x:.1f},{y:.1f}" for x, y in points) for points in stretches]

    def y(self, value: float) -> float:
        """How far from the upper edge a value is drawn."""
        return HEIGHT - HEIGHT * min(1.0, max(0.0, value / self.top))

    def rows(self) -> list[tuple[float, tuple[Value, ...]]]:
        """The table: a time and the curves' highest values since, `ROWS` of them at most, newest first."""
        count = max(len(curve.values) for curve in self.curves)
        size = -(-count // ROWS)
        rows = [
            (
                self.start + first * self.step,
                tuple(highest(curve.values[first : first + size]) for curve in self.curves),
            )
            for first in range(0, count, size)
        ]
        return [row for row in reversed(rows) if any(value is not None for value in row[1])]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known at all."""
        return all(value is None for curve in self.curves for value in curve.values)

    def newest(self, curve: Curve) -> Value:
        """The last value that is known."""
        return next((value for value in reversed(curve.values) if value is not None), None)


def highest(values: Iterable[Value]) -> Value:
    """The largest of those that are known."""
    return max((value for value in values if value is not None), default=None)


def lowest(values: Iterable[Value]) -> Value:
    """The smallest of those that are known."""
    return min((value for value in values if value is not None), default=None)


def mean(values: Iterable[Value]) -> Value:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def over_time(
    samples: Sequence[Sample],
    read: Callable[[Sample], Value],
    first: int,
    last: int,
    gather: Callable[[Iterable[Value]], Value] = highest,
) -> tuple[Value, ...]:
    """`POINTS` values for even stretches of the minutes from `first` on and before `last`.

    Args:
        samples: Some minutes, in any order.
        read: The figure of a sample.
        first: A minute since the epoch.
        last: Likewise.
        gather: Makes one value of a stretch's; a stretch without any is a gap.
    """
    stretches: list[list[Value]] = [[] for _ in range(POINTS)]
    for sample in samples:
        if first <= sample.minute < last:
            stretches[(sample.minute - first) * POINTS // (last - first)].append(read(sample))
    return tuple(gather(stretch) for stretch in stretches)
