"""Whether what the box sees and answers has moved away from what it was (DESIGN rule 6). Pure.

Each statistic is a count by category: scores in tenths, answers, quality, view, age. It is compared with its reference
by the population stability index, sum (p - q) ln(p / q). A fixed limit on that index is no test: without any drift
it is 0.25 on average over 30 images and 0.03 over 300. So it is asked for over at least 300 images only, and held
against what chance alone gives for these very numbers of images (a bootstrap: both samples drawn from their common
distribution).

An alarm is raised above the 99.9th percentile of chance, where the index is also large enough to matter, and cleared
below the 95th: in between nothing changes.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple

import msgspec

from edge.records import ModelUsed, Reason, Record, Status, StoredResult

BLOCK = 50
"""Images after which a statistic is looked at again."""

WINDOW = 300
"""Images that are compared: the newest."""

REFERENCE = 300
"""Images of which a reference is made where none came with the model: the first that this box had with it."""

MATTERS = 0.1
"""A smaller index is no alarm, however many images say so."""

_DRAWS = 1000
_LARGEST_REFERENCE = 2000
"""A larger one is taken for one of this size, which asks for a little more before an alarm."""

_SMOOTHING = 0.5
_MOST_CATEGORIES = 32
_MOST_MODELS = 4
_TENTHS = 10
_DECADE = 10

EVERY_MODEL = ""
"""The subject of what is counted over all images, whichever model was asked."""

SCORES_OF = "scores of "
"""Before the meaning of a finding: the name of the statistic of its scores."""

_VIEWS = frozenset(("AP", "PA", "LL", "RL", "RLD", "LLD", "RLO", "LLO"))
"""View Position (0018,5101), PS3.3 C.8.1.1: a tag may hold anything, and what is kept here is not sealed."""

_BY_THE_MODEL = frozenset((Reason.UNFAMILIAR_IMAGE, Reason.NOT_A_FRONTAL_CHEST))

Counts = dict[str, int]


class Drifted(Record, frozen=True, kw_only=True):
    """One alarm that stands.

    Attributes:
        model: `id version` of the model that it is about; empty for all images.
        statistic: Which one: `answers`, `scores of ...`, `quality`, `view`, `age`, `refusals`, `familiarity`.
        index: The population stability index of the last comparison.
        images: Over how many.
        since: When the alarm was raised, seconds since the epoch.
    """

    model: str
    statistic: str
    index: float
    images: int
    since: float


class Chance(NamedTuple):
    """Percentiles of the index where nothing has changed."""

    percentile_95: float
    percentile_999: float


class Statistic(Record, frozen=True, kw_only=True):
    """One statistic's counts by category.

    Attributes:
        reference: What it is held against.
        given: The reference came with the model; else it is still gathered up to `REFERENCE` images.
        blocks: The newest blocks of `BLOCK` images, oldest first, at most a window of them.
        current: The block that is being filled.
        index: Of the last comparison; None before the first.
        since: When the alarm was raised; None without one.
    """

    reference: Counts = msgspec.field(default_factory=dict)
    given: bool = False
    blocks: tuple[Counts, ...] = ()
    current: Counts = msgspec.field(default_factory=dict)
    index: float | None = None
    since: float | None = None

    @property
    def window(self) -> Counts:
        """The counts of the newest whole blocks."""
        return dict(sum((Counter(block) for block in self.blocks), Counter()))

    @property
    def images(self) -> int:
        """How many images the window holds."""
        return sum(self.window.values())

    @property
    def gathering(self) -> bool:
        """Whether the reference or the first window is not complete yet: nothing can be said."""
        return self.index is None


class Subject(Record, frozen=True, kw_only=True):
    """What is watched together: one model, or all images. `name` is `id version`, empty for all images."""

    name: str
    statistics: dict[str, Statistic] = msgspec.field(default_factory=dict)


class Watch(Record, frozen=True, kw_only=True):
    """All that is kept.

    Attributes:
        counted_to: `StoredResult.number` of the last result that is counted.
        subjects: By the digest of the model's bundle; `EVERY_MODEL` for all images.
    """

    counted_to: int = 0
    subjects: dict[str, Subject] = msgspec.field(default_factory=dict)


def alarms(watch: Watch) -> tuple[Drifted, ...]:
    """The alarms that stand, oldest first."""
    found = [
        Drifted(
            model=subject.name,
            statistic=name,
            index=round(statistic.index or 0.0, 4),
            images=statistic.images,
            since=statistic.since,
        )
        for subject in watch.subjects.values()
        for name, statistic in subject.statistics.items()
        if statistic.since is not None
    ]
    return tuple(sorted(found, key=lambda one: (one.since, one.model, one.statistic)))


def count(
    watch: Watch, results: Iterable[StoredResult], reference_of: Callable[[ModelUsed], Mapping[str, Counts]]
) -> Watch:
    """With these results counted, which follow each other by `number`.

    A model that is new takes the place of its older version, and what is counted over all images begins anew with it:
    it refuses others.

    Args:
        watch: What was counted before.
        results: What to add.
        reference_of: What a model's test says about all images anywhere, by statistic; empty where it says nothing.
    """
    subjects, counted_to = dict(watch.subjects), watch.counted_to
    for stored in results:
        if stored.number <= counted_to:
            continue
        counted_to, model = stored.number, stored.result.model
        if model and model.digest not in subjects:
            subjects = _with_model(subjects, model, reference_of(model))
        observed = {EVERY_MODEL: of_image(stored)}
        if model:
            observed[model.digest] = of_answer(stored)
        for key, categories in observed.items():
            subject = subjects.get(key) or Subject(name="")
            statistics = dict(subject.statistics)
            for name, category in categories.items():
                statistics[name] = added(statistics.get(name) or Statistic(), category, stored.committed_at)
            subjects[key] = msgspec.structs.replace(subject, statistics=statistics)
    return Watch(counted_to=counted_to, subjects=subjects)


def _with_model(subjects: Mapping[str, Subject], model: ModelUsed, given: Mapping[str, Counts]) -> dict[str, Subject]:
    kept = {key: one for key, one in subjects.items() if key and one.name.partition(" ")[0] != model.id}
    others = subjects.get(EVERY_MODEL, Subject(name="")).statistics if kept else {}
    references = {name: Counter(one.reference) for name, one in others.items() if one.given}
    for name, counts in given.items():
        references[name] = references.get(name, Counter()) + Counter(counts)
    every = {name: Statistic(reference=dict(counts), given=True) for name, counts in references.items()}
    newest = dict(list(kept.items())[1 - _MOST_MODELS :])
    return {
        **newest,
        model.digest: Subject(name=f"{model.id} {model.version}"),
        EVERY_MODEL: Subject(name="", statistics=every),
    }


def of_image(stored: StoredResult) -> dict[str, str]:
    """Statistics that every image has: what it was answered at all, and what it says it is."""
    result, subject = stored.result, stored.subject
    refused = result.status is Status.NOT_ANALYSED
    age = subject.age_years
    found = {
        "refusals": str(result.reason) if refused else "answered",
        "view": subject.view if subject.view in _VIEWS else "other" if subject.view else "not stated",
        "age": "not stated" if age is None else f"from {int(age // _DECADE) * _DECADE}",
    }
    if result.timings_ms.infer > 0 and (not refused or result.reason in _BY_THE_MODEL):
        found["familiarity"] = "unfamiliar" if refused else "familiar"
    return found


def of_answer(stored: StoredResult) -> dict[str, str]:
    """Statistics of an image that a model has answered."""
    result = stored.result
    checks = sorted(finding.check for finding in result.quality)
    found = {"answers": str(result.status), "quality": checks[0] if checks else "nothing found"}
    for finding in result.findings:
        tenth = min(_TENTHS - 1, max(0, int(finding.probability * _TENTHS)))
        found[f"{SCORES_OF}{finding.meaning}"] = f"from 0.{tenth}"
    return found


def added(statistic: Statistic, category: str, now: float) -> Statistic:
    """With one more image; the alarm is decided anew after each `BLOCK` of them."""
    if not statistic.given and sum(statistic.reference.values()) < REFERENCE:
        return msgspec.structs.replace(statistic, reference=_more(statistic.reference, category))
    current = _more(statistic.current, category)
    if sum(current.values()) < BLOCK:
        return msgspec.structs.replace(statistic, current=current)
    blocks = (*statistic.blocks, current)[-WINDOW // BLOCK :]
    statistic = msgspec.structs.replace(statistic, current={}, blocks=blocks)
    if statistic.images < WINDOW:
        return statistic
    found = index(statistic.reference, statistic.window)
    since = _standing(found, statistic, now)
    return msgspec.structs.replace(statistic, index=found, since=since)


def index(reference: Counts, window: Counts) -> float:
    """The population stability index of two counts, at least 0; half an image is added to each category of each.

    Args:
        reference: Images by category, at least one image.
        window: Likewise.
    """
    names = sorted({*reference, *window})
    return _index([reference.get(name, 0) for name in names], [window.get(name, 0) for name in names])


def chance(reference: Counts, window: Counts) -> Chance:
    """What the index is by chance alone, for as many images; the same for the same counts. Takes 0.1 s."""
    names = sorted({*reference, *window})
    before, after = sum(reference.values()), sum(window.values())
    common = list(accumulate(reference.get(name, 0) + window.get(name, 0) + _SMOOTHING for name in names))
    rng, places = random.Random(20261126), range(len(names))  # noqa: S311 - repeatable on purpose
    drawn = []
    for _ in range(_DRAWS):
        first = Counter(rng.choices(places, cum_weights=common, k=min(before, _LARGEST_REFERENCE)))
        second = Counter(rng.choices(places, cum_weights=common, k=after))
        drawn.append(_index([first[place] for place in places], [second[place] for place in places]))
    drawn.sort()
    return Chance(drawn[_DRAWS * 95 // 100], drawn[_DRAWS * 999 // 1000])


def _index(before: Sequence[int], after: Sequence[int]) -> float:
    all_before, all_after = (sum(counts) + _SMOOTHING * len(counts) for counts in (before, after))
    total = 0.0
    for one, other in zip(before, after, strict=True):
        p, q = (one + _SMOOTHING) / all_before, (other + _SMOOTHING) / all_after
        total += (q - p) * math.log(q / p)
    return total


def _standing(found: float, statistic: Statistic, now: float) -> float | None:
    """Since when an alarm stands; None without one."""
    if statistic.since is None and found < MATTERS:
        return None
    by_chance = chance(statistic.reference, statistic.window)
    if statistic.since is None:
        return now if found > by_chance.percentile_999 else None
    return None if found < by_chance.percentile_95 else statistic.since


def _more(counts: Counts, category: str) -> Counts:
    known = category if category in counts or len(counts) < _MOST_CATEGORIES else "others"
    return {**counts, known: counts.get(known, 0) + 1}
