"""How work goes out in waves, and what stops it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.fleet.cascade import ENDS, GONE_WRONG, Decision, Part, Plan, Progress, Stage, decide, stopped

PLAN = Plan(wave=2, go_on_percent=50, stop_after=2, deadline=600)
LETTERS = {
    "w": Stage.WAITING,
    "s": Stage.SENT,
    "e": Stage.EXECUTING,
    "o": Stage.SUCCESSFUL,
    "f": Stage.FAILED,
    "d": Stage.OVERDUE,
    "n": Stage.NOT_SENT,
}


def _parts(letters: str, sent_at: float = 0.0) -> list[Part]:
    return [Part(LETTERS[one], None if one in "wn" else sent_at) for one in letters]


def _letters(decision: Decision) -> str:
    return "".join(next(letter for letter, stage in LETTERS.items() if stage is one) for one in decision.stages)


@pytest.mark.parametrize(
    ("before", "now", "after", "progress"),
    [
        ("wwww", 0, "ssww", Progress.RUNNING),  # the first wave
        ("esww", 10, "esww", Progress.RUNNING),
        ("osww", 10, "osss", Progress.RUNNING),  # half of it is successful: the next goes out
        ("fsww", 10, "fsww", Progress.RUNNING),  # the other may yet make the half
        ("foww", 10, "foss", Progress.RUNNING),
        ("ffww", 10, "ffnn", Progress.STOPPED),  # so many failures
        ("fosd", 10, "fosd", Progress.STOPPED),
        ("ossw", 10, "osss", Progress.RUNNING),  # a wave that a crash left half sent
        ("oooo", 10, "oooo", Progress.FINISHED),
        ("ooof", 10, "ooof", Progress.FINISHED),
        ("ooo", 10, "ooo", Progress.FINISHED),
        ("osss", 601, "oddd", Progress.STOPPED),  # the deadline
        ("oses", 600, "oses", Progress.RUNNING),
        ("", 0, "", Progress.FINISHED),
    ],
)
def test_what_goes_out_next(before: str, now: float, after: str, progress: Progress) -> None:
    decision = decide(PLAN, _parts(before), now)
    assert (_letters(decision), decision.progress) == (after, progress)
    assert bool(decision.why) is (progress is Progress.STOPPED)


@pytest.mark.parametrize(("percent", "progress"), [(0, Progress.RUNNING), (51, Progress.STOPPED)])
def test_a_wave_that_did_not_do_well_enough_is_the_last(percent: float, progress: Progress) -> None:
    decision = decide(PLAN._replace(go_on_percent=percent), _parts("ofww"), 10)
    assert decision.progress is progress
    assert "50 % of a wave" in decision.why or progress is Progress.RUNNING


def test_the_last_wave_needs_no_share_as_nothing_waits_for_it() -> None:
    assert decide(PLAN._replace(go_on_percent=100), _parts("oof"), 10).progress is Progress.FINISHED


def test_a_person_may_stop_it() -> None:
    assert _letters(stopped([Stage.SENT, Stage.WAITING], "by ada")) == "sn"


@given(
    st.builds(Plan, st.integers(1, 5), st.sampled_from([0.0, 50.0, 100.0]), st.integers(1, 5), st.floats(1, 1000)),
    st.lists(st.sampled_from("fodos"), max_size=30),
)
def test_whatever_boxes_do_it_ends_and_one_wave_at_most_fails_where_all_must_do_well(
    plan: Plan, fates: list[str]
) -> None:
    parts, now, progress = [Part(Stage.WAITING) for _ in fates], 0.0, Progress.RUNNING
    for _ in range(4 * len(fates) + 2):
        decision = decide(plan, parts, now)
        progress = decision.progress
        sent = [
            part.stage is Stage.WAITING and stage is Stage.SENT
            for part, stage in zip(parts, decision.stages, strict=True)
        ]
        parts = [
            Part(stage, now if new else part.sent_at)
            for part, stage, new in zip(parts, decision.stages, sent, strict=True)
        ]
        if progress is not Progress.RUNNING:
            break
        for place, part in enumerate(parts):
            if part.stage is Stage.SENT and fates[place] in "fo":
                parts[place] = part._replace(stage=LETTERS[fates[place]])
        now += plan.deadline / 2 + 1
    assert progress is not Progress.RUNNING
    if plan.go_on_percent == 100:
        assert sum(part.stage in GONE_WRONG for part in parts) <= plan.wave
    if progress is Progress.FINISHED:
        assert all(part.stage in ENDS for part in parts)
