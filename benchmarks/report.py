"""How a measurement is written down: medians and ratios with their spread, the machine, the date."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median, quantiles

from export.steps import cpu


def heading(title: str) -> None:
    """Print what is measured, on which machine, when."""
    today = datetime.now(UTC).date().isoformat()
    print(f"\n## {title}\n{today}, {len(os.sched_getaffinity(0))} cores of {cpu()}, Python {platform.python_version()}")


def spread(values: Sequence[float]) -> str:
    """Median and the middle half of some milliseconds."""
    low, _, high = quantiles(values, n=4)
    return f"{median(values):8.2f} ms ({low:.2f} to {high:.2f})"


def ratio(peer: Sequence[float], ours: Sequence[float]) -> str:
    """How many times faster ours is, pair by pair: the median and the middle half."""
    ratios = [theirs / mine for theirs, mine in zip(peer, ours, strict=True)]
    low, _, high = quantiles(ratios, n=4)
    return f"{median(ratios):.1f}x faster ({low:.1f} to {high:.1f})"


def percentile(values: Sequence[float], percent: int) -> float:
    """The percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]
