"""Alarms rise after their grace period, fall after their calm period, and do not flap in between."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.fleet.alarms import RULES, Rule, Standing, step
from edge.fleet.standing import Condition, Facts, condition, measures
from tests.fleet.boxes import DIGEST, NOW, OTHER_SESSION, SESSION

RULE = Rule(name="x", measure="x", words="x", raise_above=90, clear_below=80, grace_seconds=60, calm_seconds=300)
OTHER_MODELS = json.dumps([{"id": "cxr", "version": "1.0.0", "digest": "sha256:" + "1" * 64}])


def _after(*steps: tuple[float, float | None]) -> Standing | None:
    standing: Standing | None = None
    for at, value in steps:
        standing = step(RULE, value, None if standing and standing.cleared_at else standing, at)
    return standing


@pytest.mark.parametrize(
    ("steps", "stands"),
    [
        ([(0, 90)], None),
        ([(0, 91)], Standing(0)),
        ([(0, 91), (59, 91)], Standing(0)),
        ([(0, 91), (60, 91)], Standing(0, 60)),
        ([(0, 91), (30, 85), (60, 91)], Standing(60)),
        ([(0, 91), (30, None), (60, 91)], Standing(0, 60)),
        ([(0, 91), (60, 91), (90, 85)], Standing(0, 60)),
        ([(0, 91), (60, 91), (90, 79)], Standing(0, 60, 90)),
        ([(0, 91), (60, 91), (90, 79), (100, 85)], Standing(0, 60)),
        ([(0, 91), (60, 91), (90, 79), (100, None), (389, 79)], Standing(0, 60, 90)),
        ([(0, 91), (60, 91), (90, 79), (390, 79)], Standing(0, 60, 90, 390)),
        ([(0, 91), (60, 91), (90, 79), (390, 79), (400, 91)], Standing(400)),
    ],
)
def test_an_alarm_rises_and_falls(steps: list[tuple[float, float | None]], stands: Standing | None) -> None:
    assert _after(*steps) == stands


@given(st.lists(st.tuples(st.floats(0, 50), st.none() | st.floats(70, 100)), max_size=60))
def test_no_alarm_is_raised_or_cleared_before_its_time(moves: list[tuple[float, float | None]]) -> None:
    now = 0.0
    standing: Standing | None = None
    for seconds, value in moves:
        now += seconds
        before, standing = standing, step(RULE, value, standing, now)
        if standing is None:
            assert before is None or before.raised_at is None
            continue
        if standing.raised_at is not None:
            assert standing.raised_at - standing.begun_at >= RULE.grace_seconds
        if standing.cleared_at is not None:
            assert standing.calm_since is not None
            assert standing.cleared_at - standing.calm_since >= RULE.calm_seconds
            standing = None


def _facts(**changes: object) -> Facts:
    heard = {"heard_at": NOW, "session": SESSION, "word": "ready", "word_session": SESSION, "software": "0.1.0"}
    return Facts(id=1, site="clinic", box="box-1", first_seen_at=NOW - 86400, **(heard | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "later", "expected"),
    [
        ({}, 0, Condition.RUNNING),
        ({}, 180, Condition.RUNNING),
        ({}, 181, Condition.LATE),
        ({}, 900, Condition.LATE),
        ({}, 901, Condition.LOST),
        ({}, 30 * 86400, Condition.LOST),
        ({}, -86400, Condition.LATE),
        ({"not_up": 1}, 0, Condition.DEGRADED),
        ({"not_up": 1}, 181, Condition.LATE),
        ({"heard_at": None}, 0, Condition.NEVER),
        ({"heard_at": None, "word": "ready"}, 30 * 86400, Condition.NEVER),
        ({"word": "lost"}, 0, Condition.LOST),
        ({"word": "lost", "word_session": OTHER_SESSION}, 0, Condition.RUNNING),
        ({"word": "stopping"}, 0, Condition.STOPPED),
        ({"word": "stopping"}, 30 * 86400, Condition.STOPPED),
        ({"word": "stopping", "word_session": OTHER_SESSION}, 901, Condition.LOST),
        ({"word": None, "word_session": None}, 0, Condition.RUNNING),
    ],
)
def test_a_box_is_never_said_to_run_on_old_data(changes: dict[str, object], later: float, expected: Condition) -> None:
    assert condition(_facts(**changes), NOW + later, interval=60) is expected


@given(st.floats(0, 1e9), st.floats(1, 3600), st.sampled_from([None, "ready", "stopping", "lost"]))
def test_running_needs_three_intervals_at_most(silence: float, interval: float, word: str | None) -> None:
    state = condition(_facts(word=word), NOW + silence, interval)
    assert state is not Condition.RUNNING or silence <= 3 * interval + 1e-3


def test_each_rule_looks_at_a_measure() -> None:
    known = measures(_facts(), NOW, 60)
    assert {rule.measure for rule in RULES} == set(known)
    assert len({rule.name for rule in RULES}) == len(RULES)


@pytest.mark.parametrize(
    ("rule", "changes", "later"),
    [
        ("lost", {}, 901),
        ("lost", {"word": "lost"}, 901),
        ("never_heard", {"heard_at": None}, 0),
        ("services", {"not_up": 1}, 0),
        ("queue", {"queue_oldest": 301}, 0),
        ("outbox", {"outbox_oldest": 901}, 0),
        ("disk", {"disk_used": 0.91}, 0),
        ("clock", {"clock_off": -301.0}, 0),
        ("clock", {"clock_off": 301.0}, 0),
        ("temperature", {"temperature": 86.0}, 0),
        ("refusals", {"results": 20, "refused": 11}, 0),
        ("messages", {"missing": 3}, 0),
        ("reconnects", {"connections": 21}, 0),
        ("restarts", {"unclean": 3}, 0),
        ("model", {"models": OTHER_MODELS}, 0),
    ],
)
def test_what_each_rule_is_raised_by(rule: str, changes: dict[str, object], later: float) -> None:
    def raised(facts: Facts, now: float) -> set[str]:
        values = measures(facts, now, 60, {"cxr": DIGEST, "never-served": DIGEST})
        return {one.name for one in RULES if (value := values[one.measure]) is not None and value > one.raise_above}

    assert raised(_facts(**changes), NOW + later) == {rule}
    assert raised(_facts(), NOW) == set()


def test_a_box_that_left_on_purpose_or_is_silent_raises_nothing_about_what_it_said_before() -> None:
    said = {"not_up": 1, "queue_oldest": 9999, "disk_used": 0.99, "clock_off": 9999.0}
    gone = measures(_facts(word="stopping", **said), NOW + 9999, 60)
    assert gone["silent_seconds"] == 0
    assert [gone[name] for name in ("services_not_up", "queue_oldest_seconds", "disk_used", "clock_off_seconds")] == [
        None
    ] * 4


def test_few_images_make_no_rate() -> None:
    assert measures(_facts(results=19, refused=19), NOW, 60)["refusal_rate"] is None


def test_the_model_that_is_wanted_and_one_of_which_nothing_is_said_are_no_others() -> None:
    def others(wanted: dict[str, str]) -> float | None:
        return measures(_facts(models=OTHER_MODELS), NOW, 60, wanted)["models_other"]

    assert others({"cxr": "sha256:" + "1" * 64}) == others({"mg": DIGEST}) == others({}) == 0
