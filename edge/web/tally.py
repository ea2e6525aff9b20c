"""How the box has answered, day by day: counts of answers, refusals, warnings, and of probabilities. Pure.

What drifts shows here first (DESIGN rule 6). A day is one of UTC. Counts only: no image, no patient, no time of day.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from edge.records import Record, Status, StoredResult

DAYS_KEPT = 31
MOST_NAMES = 64
"""Of each kind on each day: codes are the software's own and few; this only bounds the file."""

BINS = 10
_DAY = 86_400.0


class Scores(Record, frozen=True, kw_only=True):
    """The probabilities of one finding on one day.

    Attributes:
        bins: How many lay in each tenth from 0 to 1.
        total: Their sum.
        flagged: How many were flagged.
    """

    bins: tuple[int, ...] = (0,) * BINS
    total: float = 0.0
    flagged: int = 0

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.bins)

    @property
    def mean(self) -> float:
        """Their mean, 0..1; 0 without any."""
        return self.total / self.count if self.count else 0.0


class Day(Record, frozen=True, kw_only=True):
    """One day's counts.

    Attributes:
        day: Days since the epoch, in UTC.
        answers: By `Status`.
        reasons: Why images were not analysed, by `Reason`.
        quality: Warnings by quality check.
        scores: By the finding's meaning.
    """

    day: int
    answers: dict[str, int] = msgspec.field(default_factory=dict)
    reasons: dict[str, int] = msgspec.field(default_factory=dict)
    quality: dict[str, int] = msgspec.field(default_factory=dict)
    scores: dict[str, Scores] = msgspec.field(default_factory=dict)

    @property
    def total(self) -> int:
        """How many results."""
        return sum(self.answers.values())


class Tally(Record, frozen=True, kw_only=True):
    """All that is kept.

    Attributes:
        counted_to: `StoredResult.number` of the last result that is counted, so that none is counted twice.
        days: Oldest first, `DAYS_KEPT` at most.
        ever: By `Status`, since this history begins: for counters that only grow.
    """

    counted_to: int = 0
    days: tuple[Day, ...] = ()
    ever: dict[str, int] = msgspec.field(default_factory=dict)


def count(tally: Tally, results: Iterable[StoredResult]) -> Tally:
    """With these results counted, which follow each other by `number`."""
    days = {day.day: day for day in tally.days}
    ever, counted_to = {**tally.ever}, tally.counted_to
    for stored in results:
        if stored.number <= counted_to:
            continue
        counted_to, day = stored.number, int(stored.committed_at // _DAY)
        days[day] = _with(days.get(day) or Day(day=day), stored)
        ever[stored.result.status] = ever.get(stored.result.status, 0) + 1
    kept = sorted(days.values(), key=lambda day: day.day)[-DAYS_KEPT:]
    return Tally(counted_to=counted_to, days=tuple(kept), ever=ever)


def share(day: Day, status: Status) -> float | None:
    """Which share of a day's results had this answer, 0..1; None on a day without any."""
    return day.answers.get(status, 0) / day.total if day.total else None


def _with(day: Day, stored: StoredResult) -> Day:
    result = stored.result
    scores = dict(day.scores)
    for finding in result.findings:
        if finding.meaning in scores or len(scores) < MOST_NAMES:
            before = scores.get(finding.meaning) or Scores()
            place = min(BINS - 1, max(0, int(finding.probability * BINS)))
            scores[finding.meaning] = Scores(
                bins=tuple(number + (place == index) for index, number in enumerate(before.bins)),
                total=round(before.total + finding.probability, 6),
                flagged=before.flagged + finding.flagged,
            )
    return Day(
        day=day.day,
        answers=_more(day.answers, [result.status]),
        reasons=_more(day.reasons, [result.reason] if result.reason else []),
        quality=_more(day.quality, sorted({found.check for found in result.quality})),
        scores=scores,
    )


def _more(counts: dict[str, int], names: Iterable[str]) -> dict[str, int]:
    grown = dict(counts)
    for name in names:
        if name in grown or len(grown) < MOST_NAMES:
            grown[str(name)] = grown.get(name, 0) + 1
    return grown
