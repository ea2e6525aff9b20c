"""The box's own time: it grows as the box lives, and nothing that happens to the wall clock moves it."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.messages.summary import summarise
from edge.records import Kept
from edge.store import Machine, Store
from edge.store.lifetime import LONGEST_OFF, Seen, at_boot
from edge.store.machine import boot_id, synchronised, uptime
from tests.store.conftest import Box, Clock
from tests.store.samples import SUBJECT, arrival, claimed, flagged

HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0


@pytest.mark.parametrize(
    ("passed_by_the_wall", "believed"),
    [
        (8 * HOUR, 8 * HOUR),
        (LONGEST_OFF, LONGEST_OFF),
        (10 * YEAR, LONGEST_OFF),
        (0, 0),
        (-HOUR, 0),
        (-30 * YEAR, 0),
    ],
)
def test_what_is_believed_of_the_time_between_two_boots(passed_by_the_wall: float, believed: float) -> None:
    up = 20.0
    assert at_boot(Seen(5 * DAY, 1e9), up, 1e9 + passed_by_the_wall + up) == 5 * DAY + believed


def test_a_new_box_begins_with_nothing() -> None:
    assert at_boot(None, 1000.0, 1e9) + 1000.0 == 0


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(["live", "set", "off"]), st.floats(-40 * YEAR, 40 * YEAR)), max_size=8))
def test_whatever_the_wall_clock_does_the_lifetime_grows_by_what_was_lived(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("state")
    box = Box(Clock())
    store = Store(folder, box.wall, machine=box.machine)
    for kind, seconds in steps:
        before = store.lifetime.now().lifetime
        if kind == "live":
            box.live(abs(seconds) / 1e4)
            assert store.lifetime.now().lifetime == pytest.approx(before + abs(seconds) / 1e4)
        elif kind == "set":
            box.wall.now += seconds
            assert store.lifetime.now().lifetime == before
        else:
            store.lifetime.remember()
            store.close()
            box.off(seconds)
            store = Store(folder, box.wall, machine=box.machine)
            assert before <= store.lifetime.now().lifetime <= before + LONGEST_OFF + box.up
    store.close()


def test_two_processes_of_one_boot_agree(tmp_path: Path, box: Box, clock: Clock) -> None:
    first = Store(tmp_path, clock, machine=box.machine)
    box.live(HOUR)
    clock.now -= YEAR
    second = Store(tmp_path, clock, machine=box.machine)
    assert first.lifetime.now() == second.lifetime.now()
    first.close()
    second.close()


def test_after_a_power_cut_it_is_never_before_the_newest_image(tmp_path: Path, box: Box, clock: Clock) -> None:
    """The box lived for an hour without writing it down, and comes up in 1970."""
    store = Store(tmp_path, clock, machine=box.machine)
    box.live(HOUR)
    store.accept(b"image", arrival())
    before = store.lifetime.now().lifetime
    store.close()
    box.off(60, wall=0.0)
    again = Store(tmp_path, clock, machine=box.machine)
    assert again.lifetime.now().lifetime >= before
    again.close()


def test_results_keep_the_order_of_their_commits_when_the_clock_is_set(store: Store, clock: Clock) -> None:
    ids = []
    for number, jump in enumerate([0, -YEAR, 10 * YEAR, -10 * YEAR, 1]):
        clock.now += jump
        store.accept(b"%d" % number, arrival(f"1.{number}"))
        ids.append(store.commit(claimed(store), flagged(), SUBJECT).id)
    assert [result.id for result in store.results()] == ids[::-1]
    assert [result.id for result in store.unacknowledged_flags()] == ids[::-1]
    assert [result.id for result in store.results(before=ids[3])] == ids[2::-1]


def test_the_queue_keeps_its_order_when_the_clock_is_set(store: Store, clock: Clock) -> None:
    for number, jump in enumerate([0, -YEAR, 10 * YEAR, -10 * YEAR, 1]):
        clock.now += jump
        store.accept(b"%d" % number, arrival(f"1.{number}"))
    assert [claimed(store).arrival.sop_instance_uid for _ in range(5)] == [f"1.{number}" for number in range(5)]


def test_times_are_marked_until_the_clock_is_right_and_corrected_then(store: Store, box: Box) -> None:
    """The box comes up in 1970, takes an image, answers it, a person answers; an hour later NTP sets the clock."""
    right = box.wall.now
    box.wall.now, box.synchronised = 0.0, False
    store.accept(b"image", arrival())
    box.live(5)
    result = store.commit(claimed(store), flagged(), SUBJECT)
    assert (result.received_at, result.committed_at, result.synchronised) == (0.0, 5.0, False)
    box.live(55)
    store.acknowledge(result.id, "ada", "agree")
    assert store.lifetime.correct() == 0, "not yet"
    box.live(HOUR)
    box.wall.now, box.synchronised = right + 60 + HOUR, True
    assert store.lifetime.correct() == 3
    corrected = store.result(result.id)
    assert corrected is not None
    times = (corrected.received_at, corrected.committed_at, corrected.acknowledged_at)
    assert times == pytest.approx((right, right + 5, right + 60), abs=1e-3)
    assert corrected.synchronised
    assert store.lifetime.correct() == 0, "once"


@pytest.mark.parametrize("comes_up_at", [None, 0.0], ids=["right", "1970, after a power cut"])
def test_times_of_an_earlier_boot_stay_marked_and_as_they_are(
    tmp_path: Path, box: Box, clock: Clock, comes_up_at: float | None
) -> None:
    box.synchronised = False
    store = Store(tmp_path, clock, machine=box.machine)
    box.live(DAY)
    store.accept(b"image", arrival())
    box.live(1)
    answer = store.commit(claimed(store), flagged(), SUBJECT).id
    box.live(1)
    store.acknowledge(answer, "ada", "agree")
    result = store.result(answer)
    assert result is not None
    if comes_up_at is None:
        store.lifetime.remember()
    store.close()
    box.off(HOUR, wall=comes_up_at)
    box.synchronised = True
    again = Store(tmp_path, clock, machine=box.machine)
    assert again.lifetime.correct() == 0
    assert again.result(result.id) == result
    assert not result.synchronised
    assert result.kept is Kept.ALL
    again.close()


def test_what_was_taken_by_a_right_clock_is_not_touched(store: Store, box: Box) -> None:
    store.accept(b"image", arrival())
    result = store.commit(claimed(store), flagged(), SUBJECT)
    assert result.synchronised
    box.wall.now += HOUR
    assert store.lifetime.correct() == 0
    assert store.result(result.id) == result


def test_a_real_machine_answers() -> None:
    before = uptime()
    assert 0 < before <= uptime()
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36
    assert synchronised() in (True, False)
    assert Machine().uptime() >= before


@pytest.mark.parametrize("leap", [0.0, -30 * YEAR, -60.0, 60.0, 400 * DAY])
def test_how_long_an_answer_took_is_measured_by_no_clock_that_can_be_set(tmp_path: Path, leap: float) -> None:
    """Between acceptance and answer the wall clock leaps, and other processes ask."""
    box = Box(Clock())
    with closing(Store(tmp_path, box.wall, machine=box.machine)) as store:
        store.accept(b"image", arrival("1.2.3"))
        box.live(1.5)
        box.wall.now += leap
        depth, _, oldest = store.queue()
        assert depth == 1
        assert oldest is not None and box.up - oldest == pytest.approx(1.5)
        with closing(Store(tmp_path, box.wall, machine=box.machine)) as other:
            stored = other.commit(claimed(other), flagged(), SUBJECT, summary=partial(summarise, flagged()))
        assert stored.waited == pytest.approx(1.5)
        assert store.result(stored.id) == stored, "for ever: a repetition of its summary says the same"
        (owed,) = store.owed("summary")
        assert '"latency_ms":1500' in owed.body


def test_an_answer_after_a_power_cut_took_as_long_as_the_box_lived_and_was_off(tmp_path: Path) -> None:
    box = Box(Clock())
    with closing(Store(tmp_path, box.wall, machine=box.machine)) as store:
        store.accept(b"image", arrival("1.2.3"))
        box.live(5.0)
        store.lifetime.remember()
    box.off(HOUR)
    with closing(Store(tmp_path, box.wall, machine=box.machine)) as store:
        _, _, oldest = store.queue()
        assert oldest is not None and box.up - oldest == pytest.approx(HOUR + 15)
        assert store.commit(claimed(store), flagged(), SUBJECT).waited == pytest.approx(HOUR + 15)
