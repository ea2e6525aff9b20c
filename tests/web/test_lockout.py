"""How often a sign-in may fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.web.lockout import FORGET_AFTER, FREE_PER_ACCOUNT, FREE_PER_ADDRESS, LONGEST_LOCK, Failures, locked_for
from tests.web.conftest import Box


@pytest.mark.parametrize(
    ("failures", "since_last", "expected"),
    [
        (0, 0, 0),
        (4, 0, 0),
        (5, 0, 60),
        (5, 59, 1),
        (5, 60, 0),
        (6, 0, 120),
        (8, 0, 480),
        (9, 0, 900),
        (500, 0, 900),
        (500, 899, 1),
        (500, 900, 0),
        (5, -3600, 60),
    ],
)
def test_the_lock_doubles_up_to_a_quarter_of_an_hour(failures: int, since_last: float, expected: float) -> None:
    assert locked_for(failures, 1000.0, 1000.0 + since_last, free=5) == expected


@given(st.integers(0, 10**9), st.floats(0, 1e10), st.floats(0, 1e10), st.integers(1, 100))
def test_the_lock_always_ends(failures: int, last_at: float, now: float, free: int) -> None:
    wait = locked_for(failures, last_at, now, free)
    assert 0 <= wait <= LONGEST_LOCK
    assert locked_for(failures, last_at, max(last_at, now) + LONGEST_LOCK, free) == 0


def test_an_account_is_locked_from_every_address_and_others_are_not(box: Box) -> None:
    failures = Failures(box.file)
    for number in range(FREE_PER_ACCOUNT):
        assert not failures.locked_for("ada", "10.0.0.9", box.clock())
        failures.count("ada", f"10.0.0.{number}", box.clock())
    assert failures.locked_for("ada", "10.0.0.9", box.clock()) == 60
    assert not failures.locked_for("bob", "10.0.0.9", box.clock())


def test_an_address_that_tries_many_names_is_locked_for_all_of_them(box: Box) -> None:
    failures = Failures(box.file)
    for number in range(FREE_PER_ADDRESS):
        failures.count(f"name{number}", "10.0.0.66", box.clock())
    assert failures.locked_for("ada", "10.0.0.66", box.clock()) == 60
    assert not failures.locked_for("ada", "10.0.0.7", box.clock())


def test_signing_in_clears_the_account_but_not_the_address(box: Box) -> None:
    failures = Failures(box.file)
    for _ in range(FREE_PER_ADDRESS):
        failures.count("ada", "10.0.0.66", box.clock())
    failures.clear("ada")
    assert not failures.locked_for("ada", "10.0.0.7", box.clock())
    assert failures.locked_for("ada", "10.0.0.66", box.clock())


def test_a_day_later_all_is_forgotten(box: Box) -> None:
    failures = Failures(box.file)
    for _ in range(50):
        failures.count("ada", "10.0.0.66", box.clock())
    box.clock.now += FORGET_AFTER
    assert not failures.locked_for("ada", "10.0.0.66", box.clock())
    assert failures.count("bob", "10.0.0.1", box.clock()) == 1
    with box.file.reading() as sql:
        assert sql.execute("SELECT count(*) AS n FROM failures").fetchone()["n"] == 2
