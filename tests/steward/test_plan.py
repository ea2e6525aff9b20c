"""What the steward does next, whatever the services do."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.steward.plan import KILL_AFTER, Act, Next, Step, decide, elapsed
from edge.steward.processes import Seen
from edge.steward.service import checks

OLD, NEW = "100:5:boot", "101:9:boot"


@pytest.mark.parametrize(
    ("seen", "seconds", "then"),
    [
        ({"web": Seen(OLD, True)}, 0.0, Next(Act.ASK, (OLD,))),
        ({"web": Seen(OLD, True)}, KILL_AFTER, Next(Act.KILL, (OLD,))),
        ({"web": Seen("", False)}, 9.0, Next(Act.WAIT, ("web",))),
        ({}, 9.0, Next(Act.WAIT, ("web",))),
        ({"web": Seen(NEW, False)}, 9.0, Next(Act.WAIT, ("web",))),
        ({"web": Seen(NEW, True)}, 9.0, Next(Act.DONE)),
        ({"web": Seen(NEW, True)}, 99.0, Next(Act.DONE)),
        ({"web": Seen(NEW, False)}, 30.0, Next(Act.GIVE_UP, ("web",))),
        ({"web": Seen(OLD, True)}, 30.0, Next(Act.GIVE_UP, ("web",))),
    ],
)
def test_one_service(seen: dict[str, Seen], seconds: float, then: Next) -> None:
    """CMD-RESTART-01"""
    assert decide({"web": OLD}, seen, seconds, 30.0) == then


def test_no_service_has_to_start_anew() -> None:
    assert decide({}, {}, 0.0, 30.0) == Next(Act.DONE)


def test_a_service_that_was_not_there_is_waited_for() -> None:
    assert decide({"web": ""}, {}, 0.0, 30.0) == Next(Act.WAIT, ("web",))
    assert decide({"web": ""}, {"web": Seen(NEW, True)}, 0.0, 30.0) == Next(Act.DONE)


_NAMES = st.sampled_from(["intake", "inference", "web", "sync"])
_LEADERS = st.sampled_from(["", OLD, NEW])


@given(
    st.dictionaries(_NAMES, _LEADERS),
    st.dictionaries(_NAMES, st.builds(Seen, _LEADERS, st.booleans())),
    st.floats(0, 1000),
    st.floats(1, 900),
)
def test_it_always_comes_to_an_end_and_ends_no_process_but_those_noted(
    leaders: dict[str, str], seen: dict[str, Seen], seconds: float, limit: float
) -> None:
    """CMD-RESUME-01 CMD-TIMEOUT-01"""
    act, whom = decide(leaders, seen, seconds, limit)
    if act in (Act.ASK, Act.KILL):
        assert set(whom) <= set(leaders.values()) - {""}
    if act is Act.DONE:
        assert all(seen[name].up and seen[name].leader != old for name, old in leaders.items())
    if seconds >= limit:
        assert act in (Act.DONE, Act.GIVE_UP)


@pytest.mark.parametrize(("boot", "uptime", "lived"), [("a", 15.0, 5.0), ("b", 3.0, 3.0)])
def test_how_long_a_step_has_lasted_survives_a_boot(boot: str, uptime: float, lived: float) -> None:
    step = Step(phase="ahead", leaders={}, boot="a", since=10.0)
    assert elapsed(step, boot, uptime) == lived


def test_of_the_doctors_words_only_the_names_of_checks_and_whether_they_are_well_leave_the_box() -> None:
    """CMD-SELFTEST-01"""
    lines = checks("ok   disk: 5 GB free of /home/doe\nBAD  key: /etc/secret is gone\nsomething else\n")
    assert [(line.name, line.well, line.text) for line in lines] == [("disk", True, ""), ("key", False, "")]
