"""The drift watch: chance raises no alarm, a change does, and it goes when things are as they were again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.device.drift import (
    BLOCK,
    EVERY_MODEL,
    MATTERS,
    REFERENCE,
    WINDOW,
    Counts,
    Statistic,
    Watch,
    added,
    alarms,
    chance,
    count,
    index,
)
from edge.records import (
    Finding,
    Kept,
    ModelUsed,
    Priority,
    Reason,
    Result,
    Status,
    StoredResult,
    Subject,
    Timings,
)

ADULT = ModelUsed(id="adult", version="1.0.0", digest="sha256:a", engine="openvino", precision="int8")
NEWER = msgspec.structs.replace(ADULT, version="1.1.0", digest="sha256:b")
CHILD = msgspec.structs.replace(ADULT, id="child", digest="sha256:c")

_numbers = itertools.count(1)


def _of(weights: Mapping[str, float], images: int, seed: int) -> list[str]:
    return random.Random(seed).choices(list(weights), list(weights.values()), k=images)


def _fed(statistic: Statistic, categories: list[str]) -> Iterator[Statistic]:
    for number, category in enumerate(categories):
        statistic = added(statistic, category, float(number))
        yield statistic


def _after(statistic: Statistic, categories: list[str]) -> Statistic:
    *_, last = _fed(statistic, categories)
    return last


BEFORE = {"flagged": 0.12, "clear": 0.78, "indeterminate": 0.10}


def test_before_there_are_images_enough_nothing_is_said() -> None:
    early = _after(Statistic(), _of(BEFORE, REFERENCE, 1) + ["flagged"] * (WINDOW - 1))
    assert early.gathering
    assert early.since is None
    assert not _after(early, ["flagged"]).gathering


def test_a_year_without_drift_raises_no_alarm() -> None:
    """30 images a day, looked at 219 times, at ten boxes: chance is to raise less than one in a hundred."""
    raised = [
        state for box in range(10) for state in _fed(Statistic(), _of(BEFORE, 30 * 365, box)) if state.since is not None
    ]
    assert raised == []


@pytest.mark.parametrize(
    ("now", "what"),
    [
        ({"flagged": 0.35, "clear": 0.55, "indeterminate": 0.10}, "three times as many flags"),
        ({"flagged": 0.00, "clear": 1.00, "indeterminate": 0.00}, "no flags at all"),
        ({"flagged": 0.12, "clear": 0.48, "indeterminate": 0.40}, "a model in doubt"),
    ],
)
def test_a_change_raises_an_alarm_within_a_window_and_its_end_clears_it(now: dict[str, float], what: str) -> None:
    steady = _after(Statistic(), _of(BEFORE, REFERENCE + WINDOW, 1))
    assert steady.since is None
    drifted = _after(steady, _of(now, WINDOW, 2))
    assert drifted.since is not None, what
    assert drifted.index and drifted.index >= MATTERS
    assert _after(drifted, _of(BEFORE, WINDOW, 3)).since is None


def test_between_the_two_limits_nothing_changes() -> None:
    """Three small categories that are 0.1 away from theirs, by which chance comes near."""
    reference = {str(number): 15 for number in range(20)}
    shares = next(
        window
        for extra in range(1, 15)
        if (window := {name: 15 + (extra if int(name) % 2 else -extra) for name in reference})
        if (found := index(reference, window)) > chance(reference, window).percentile_95
        if MATTERS < found < chance(reference, window).percentile_999
    )
    images = [name for name, number in shares.items() for _ in range(number)]
    assert _after(Statistic(reference=reference, given=True), images).since is None
    assert _after(Statistic(reference=reference, given=True, since=1.0), images).since == 1.0


def test_a_slight_change_is_no_alarm_however_many_images_say_so() -> None:
    before, after = {"a": 5_000, "b": 5_000}, {"a": 5_700, "b": 4_300}
    assert chance(before, after).percentile_999 < index(before, after) < MATTERS


def test_chance_is_as_measured_for_the_reference() -> None:
    """Ten equal tenths and a reference beyond doubt: 0.03 on average over 300 images, hardly ever 0.1 (clinical.md)."""
    tenths = {str(number): 1_000_000 for number in range(10)}
    window = dict.fromkeys(tenths, WINDOW // 10)
    by_chance = chance(tenths, window)
    assert 0.03 < by_chance.percentile_95 < 0.1
    assert by_chance.percentile_95 < by_chance.percentile_999 < 0.15


@settings(deadline=None, max_examples=10)
@given(
    st.dictionaries(st.text(max_size=3), st.integers(0, 400), min_size=1, max_size=12),
    st.dictionaries(st.text(max_size=3), st.integers(0, 400), min_size=1, max_size=12),
)
def test_any_counts_compare_and_the_same_ones_alike(reference: Counts, window: Counts) -> None:
    reference["one"] = window["one"] = 1
    assert index(reference, window) >= 0
    assert index(reference, reference) == pytest.approx(0)
    assert 0 <= chance(reference, window).percentile_95 <= chance(reference, window).percentile_999


def _stored(
    status: Status = Status.CLEAR,
    model: ModelUsed | None = ADULT,
    reason: Reason | None = None,
    probability: float = 0.1,
    subject: Subject = Subject(age_years=44.0, view="PA"),  # noqa: B008 - frozen
) -> StoredResult:
    finding = Finding(
        code="112033",
        scheme="DCM",
        meaning="Opacity",
        score=probability,
        probability=probability,
        threshold=0.5,
        flagged=probability >= 0.5,
        box=None,
    )
    number = next(_numbers)
    result = Result(
        source="dicom",
        sop_instance_uid=None,
        status=status,
        reason=reason,
        priority=Priority.ROUTINE,
        findings=() if reason else (finding,),
        model=None if reason else model,
        timings_ms=Timings(infer=5.0),
    )
    return StoredResult(
        id=str(number),
        seq=number,
        number=number,
        instance_id=str(number),
        received_at=0.0,
        committed_at=float(number),
        waited=0.1,
        acknowledged_at=None,
        acknowledged_by=None,
        acknowledged_as=None,
        synchronised=True,
        kept=Kept.ALL,
        subject=subject,
        result=result,
    )


def _nothing(_model: ModelUsed) -> dict[str, Counts]:
    return {}


def test_every_statistic_of_an_image_is_counted_once() -> None:
    image = _stored()
    watch = count(count(Watch(), [image], _nothing), [image], _nothing)
    assert watch.counted_to == image.number
    assert {name: one.reference for name, one in watch.subjects[EVERY_MODEL].statistics.items()} == {
        "refusals": {"answered": 1},
        "view": {"PA": 1},
        "age": {"from 40": 1},
        "familiarity": {"familiar": 1},
    }
    assert {name: one.reference for name, one in watch.subjects[ADULT.digest].statistics.items()} == {
        "answers": {"clear": 1},
        "quality": {"nothing found": 1},
        "scores of Opacity": {"from 0.1": 1},
    }


def test_a_newer_version_begins_anew_and_another_model_stands_beside() -> None:
    watch = count(Watch(), [_stored(), _stored(model=CHILD)], _nothing)
    assert [one.name for one in watch.subjects.values()] == ["adult 1.0.0", "child 1.0.0", ""]
    watch = count(watch, [_stored(model=NEWER)], _nothing)
    assert {one.name for one in watch.subjects.values()} == {"child 1.0.0", "adult 1.1.0", ""}
    assert watch.subjects[EVERY_MODEL].statistics["view"].reference == {"PA": 1}


def test_images_that_the_model_finds_strange_are_held_against_its_own_test() -> None:
    def tested(_model: ModelUsed) -> dict[str, Counts]:
        return {"familiarity": {"familiar": 61, "unfamiliar": 1}}

    strange = [_stored(Status.NOT_ANALYSED, reason=Reason.UNFAMILIAR_IMAGE) for _ in range(WINDOW // 3)]
    usual = [_stored() for _ in range(WINDOW - len(strange))]
    images = [_stored(), *usual, *strange]
    images = [msgspec.structs.replace(one, number=10_000 + place) for place, one in enumerate(images)]
    watch = count(Watch(), images, tested)
    assert [(one.model, one.statistic, one.images) for one in alarms(watch)] == [("", "familiarity", WINDOW)]
    again = msgspec.json.decode(msgspec.json.encode(watch), type=Watch)
    assert again == watch


def test_no_more_is_kept_than_is_compared_and_no_word_of_a_tag() -> None:
    watch = count(Watch(), (_stored(subject=Subject(view=f"DOE^{number}")) for number in range(1000)), _nothing)
    views = watch.subjects[EVERY_MODEL].statistics["view"]
    assert len(views.blocks) == WINDOW // BLOCK
    assert b"DOE" not in msgspec.json.encode(watch)
    assert views.reference == {"other": REFERENCE}
    full = _after(Statistic(), [str(number) for number in range(REFERENCE)])
    assert len(full.reference) <= 33
