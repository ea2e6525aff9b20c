"""What may leave the box about a day's images together: counts by category, in fives, that add up.

Each category is counted for itself, from the allow-list of a summary (`summary.py`). A count is said rounded down to a
multiple of five, and what is left of it stays at the box and goes on counting: so no number of fewer than five images
is ever said, no difference between two tables gives one away, and over all days nothing is missing but what is left
(conventional rounding to a base, as statistical offices do: Hundepool et al., Statistical Disclosure Control, 2012).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

import msgspec

from edge.messages.summary import listed_code, listed_model, listed_quality
from edge.messages.types import Identifier, Version
from edge.records import Record, Result, Status

STEP = 5
"""A count is said in steps of so many images."""

NOTHING_FOUND = "nothing-found"
_TENTHS = 10

Id = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
Day = Annotated[str, msgspec.Meta(pattern="^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])$")]
Code = Annotated[str, msgspec.Meta(pattern="^((SCT|DCM):([0-9]{6,18}|unlisted)|unlisted:unlisted)$")]
Name = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9:._-]{0,63}$")]
StatisticName = Literal["answers", "quality", "scores"]


class Category(NamedTuple):
    """What is counted: `name` of a statistic; of scores, of one finding of one model too, else those are None."""

    statistic: StatisticName
    name: str
    model: str | None = None
    version: str | None = None
    code: str | None = None


class Bin(Record, frozen=True, kw_only=True):
    """One category of a histogram. One that is not there had fewer than five images, or none."""

    name: Name
    images: Annotated[int, msgspec.Meta(ge=STEP, le=1 << 53, multiple_of=STEP)]


class Histogram(Record, frozen=True, kw_only=True):
    """Counts of one statistic. Those of any days, boxes and sites add up, bin by bin.

    Attributes:
        statistic: `answers`: each image's answer, or why it was not analysed. `quality`: the codes of what was found
            about the quality of an image that was analysed, or `nothing-found`. `scores`: the calibrated probability in
            tenths, `0.7` from 0.7 on and below 0.8.
        model: Of which model the scores are; None for all else, `unlisted` as in a summary.
        version: The model's.
        code: The finding that the scores are of.
        bins: Without order.
    """

    statistic: StatisticName
    model: Identifier | None
    version: Version | None
    code: Code | None
    bins: tuple[Bin, ...]


class Aggregate(Record, frozen=True, kw_only=True):
    """What was answered until the end of a day, as counts.

    Attributes:
        message_id: Random, the same at every repetition: the receiver's key against duplicates.
        day: The day (UTC) that ended; what was left of earlier days is in it.
        clock: Whether the clock was known to be right that says so.
    """

    schema: Literal["scanside.aggregate/1"] = "scanside.aggregate/1"
    message_id: Id
    day: Day
    clock: Literal["right", "uncertain"]
    histograms: tuple[Histogram, ...]


def categories(result: Result) -> tuple[Category, ...]:
    """In which categories an answer counts."""
    if result.status is Status.NOT_ANALYSED:
        return (Category("answers", (result.reason or result.status).value),)
    found = {listed_quality(finding) for finding in result.quality} or {NOTHING_FOUND}
    counted = [Category("answers", result.status.value), *(Category("quality", name) for name in sorted(found))]
    if result.model:
        model = listed_model(result.model)
        for finding in result.findings:
            code = ":".join(listed_code(finding.scheme, finding.code))
            counted.append(Category("scores", _tenth(finding.probability), model.id, model.version, code))
    return tuple(counted)


def split(counts: Mapping[Category, int]) -> tuple[tuple[Histogram, ...], Counter[Category]]:
    """What of these counts is said now, and what stays: together they are the counts."""
    tables: dict[tuple[StatisticName, str | None, str | None, str | None], list[Bin]] = {}
    left: Counter[Category] = Counter()
    for category, count in sorted(counts.items(), key=lambda item: tuple(str(part) for part in item[0])):
        said = count - count % STEP
        if said:
            table = category.statistic, category.model, category.version, category.code
            tables.setdefault(table, []).append(Bin(name=category.name, images=said))
        if count > said:
            left[category] = count - said
    histograms = tuple(
        Histogram(statistic=statistic, model=model, version=version, code=code, bins=tuple(bins))
        for (statistic, model, version, code), bins in tables.items()
    )
    return histograms, left


def _tenth(probability: float) -> str:
    return f"0.{min(_TENTHS - 1, max(0, int(probability * _TENTHS)))}"
