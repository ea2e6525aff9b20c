"""The outbox's contract: in order, once for each id, gone only when removed, bounded without silence."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.store import Doorbell, Outbox
from edge.store.lifetime import LONGEST_OFF
from edge.store.outbox import BOUNDS, LIFE, Bound, Class, OutboxFull
from tests.store.conftest import Box

DAY, YEAR = 86400.0, 365 * 86400.0
SMALL = {Class.FINDING: Bound(3, 1000, None), Class.TELEMETRY: Bound(3, 1000, 7 * DAY)}


@pytest.fixture
def outbox(tmp_path: Path, box: Box) -> Iterator[Outbox]:
    opened = Outbox(tmp_path, box.wall, box.machine)
    yield opened
    opened.close()


@pytest.fixture
def small(tmp_path: Path, box: Box) -> Iterator[Outbox]:
    """One that takes three of each class."""
    opened = Outbox(tmp_path, box.wall, box.machine, SMALL)
    yield opened
    opened.close()


def _ids(outbox: Outbox, of: Class | None = None) -> list[str]:
    return [message.message_id for message in outbox.waiting(of=of)]


def test_messages_wait_in_the_order_in_which_they_were_put(outbox: Outbox, box: Box) -> None:
    """OUTBOX-ORDER-01"""
    outbox.put([("a", "summary", b"1"), ("b", "summary", b"2")])
    box.live(5)
    outbox.put([("c", "summary", b"3")])
    waiting = outbox.waiting()
    assert [(message.message_id, message.kind, message.body) for message in waiting] == [
        ("a", "summary", b"1"),
        ("b", "summary", b"2"),
        ("c", "summary", b"3"),
    ]
    assert [waiting[2].put_at - message.put_at for message in waiting] == [5, 5, 0]
    assert outbox.waiting(limit=2) == waiting[:2]
    assert outbox.waiting(after=waiting[1].number) == waiting[2:]
    assert outbox.depth()[:2] == (3, 5)


@pytest.mark.parametrize("jump", [-50 * YEAR, -1.0, 10 * YEAR])
def test_ages_are_those_that_the_box_has_lived_whatever_the_clock_is_set_to(
    outbox: Outbox, box: Box, jump: float
) -> None:
    """OUTBOX-AGE-01"""
    outbox.put([("a", "summary", b"1")])
    box.live(60)
    box.wall.now += jump
    outbox.put([("b", "summary", b"2")])
    box.live(5)
    assert outbox.depth().oldest == 65
    assert outbox.waiting()[1].put_at - outbox.waiting()[0].put_at == 60


@pytest.mark.parametrize(
    ("comes_up_at", "believed_off"), [(None, 3600.0), (0.0, 0.0), (9e9, LONGEST_OFF)], ids=["right", "1970", "2255"]
)
def test_ages_go_on_after_a_power_cut(tmp_path: Path, box: Box, comes_up_at: float | None, believed_off: float) -> None:
    """OUTBOX-AGE-01"""
    first = Outbox(tmp_path, box.wall, box.machine)
    first.put([("a", "summary", b"1")])
    box.live(60)
    first.remember()
    first.close()
    box.off(3600, wall=comes_up_at)
    again = Outbox(tmp_path, box.wall, box.machine)
    assert again.depth().oldest == pytest.approx(60 + believed_off + box.up)
    again.close()


def test_two_processes_agree_on_the_age(tmp_path: Path, outbox: Outbox, box: Box) -> None:
    outbox.put([("a", "summary", b"1")])
    box.live(7)
    box.wall.now -= YEAR
    other = Outbox(tmp_path, box.wall, box.machine)
    assert other.depth() == outbox.depth()
    other.close()


def test_an_id_that_waits_already_is_left_as_it_is(outbox: Outbox) -> None:
    """OUTBOX-ID-01"""
    outbox.put([("a", "summary", b"1")])
    outbox.put([("a", "summary", b"another"), ("b", "summary", b"2")])
    assert [(message.message_id, message.body) for message in outbox.waiting()] == [("a", b"1"), ("b", b"2")]


def test_removed_messages_are_gone_and_their_numbers_are_not_used_again(outbox: Outbox) -> None:
    outbox.put([("a", "summary", b"1"), ("b", "summary", b"2")])
    a, b = outbox.waiting()
    outbox.remove([b.number])
    outbox.remove([b.number])
    outbox.put([("c", "summary", b"3")])
    assert _ids(outbox) == ["a", "c"]
    assert outbox.waiting()[-1].number > b.number
    outbox.remove([a.number])
    assert outbox.depth().rows == 1
    assert outbox.depth().delivered == 2, "each once"


def test_an_empty_outbox(outbox: Outbox) -> None:
    assert (outbox.waiting(), outbox.depth()) == ([], (0, None, False, 0, 0))
    outbox.put([])
    outbox.remove([])
    assert outbox.depth().rows == 0


def test_a_put_that_fails_in_the_middle_puts_nothing_and_the_next_one_works(outbox: Outbox) -> None:
    with pytest.raises(sqlite3.Error):
        outbox.put([("a", "summary", b"1"), ("b", "summary", object())])  # type: ignore[list-item]
    assert outbox.depth().rows == 0
    outbox.put([("a", "summary", b"1")])
    assert outbox.depth().rows == 1


def test_findings_that_find_no_room_are_refused_and_none_that_waits_goes(small: Outbox) -> None:
    """OUTBOX-FULL-01"""
    small.put([("a", "summary", b"1"), ("b", "summary", b"2")])
    with pytest.raises(OutboxFull):
        small.put([("c", "summary", b"3"), ("d", "summary", b"4")])
    assert _ids(small) == ["a", "b"], "all of them or none"
    assert not small.depth().full
    small.put([("c", "summary", b"3")])
    assert small.depth().full
    small.put([("a", "summary", b"1")])
    small.remove([small.waiting()[0].number])
    small.put([("d", "summary", b"4")])
    assert (_ids(small), small.depth().dropped) == (["b", "c", "d"], 0)


def test_findings_are_bounded_by_bytes_too(small: Outbox) -> None:
    small.put([("a", "summary", b"x" * 450)])
    assert not small.depth().full
    small.put([("b", "summary", b"x" * 450)])
    assert small.depth().full, "no room for another like these"
    with pytest.raises(OutboxFull):
        small.put([("c", "summary", b"x" * 450)])
    assert _ids(small) == ["a", "b"]


def test_telemetry_drops_its_oldest_and_each_drop_is_counted(small: Outbox) -> None:
    """OUTBOX-DROP-01"""
    small.put([("finding", "summary", b"1")])
    small.put([(f"t{number}", "aggregate", b"1") for number in range(5)])
    assert (_ids(small), small.depth().dropped) == (["finding", "t2", "t3", "t4"], 2)
    small.put([("large", "aggregate", b"x" * 999)])
    assert (_ids(small), small.depth().dropped) == (["finding", "t4", "large"], 4)


def test_telemetry_is_dropped_when_it_is_old_by_the_time_that_the_box_has_lived(small: Outbox, box: Box) -> None:
    """OUTBOX-DROP-01"""
    small.put([("finding", "summary", b"1"), ("old", "aggregate", b"1")])
    box.live(7 * DAY + 1)
    small.put([("new", "aggregate", b"1")])
    box.wall.now += 10 * YEAR
    small.drop_old()
    assert (_ids(small), small.depth().dropped) == (["finding", "new"], 1)


def test_a_class_is_read_by_itself(outbox: Outbox) -> None:
    """OUTBOX-ORDER-01"""
    outbox.put([("t", "aggregate", b"1"), ("f", "summary", b"1")])
    assert (_ids(outbox, Class.FINDING), _ids(outbox, Class.TELEMETRY)) == (["f"], ["t"])


def test_what_may_have_been_sent_is_not_corrected(outbox: Outbox) -> None:
    """OUTBOX-CLOCK-01"""
    outbox.put([("a", "summary", b"1"), ("b", "summary", b"1")])
    a, b = outbox.waiting()
    outbox.mark_sent(a.number)
    for message in (a, b):
        outbox.correct(message.number, b"corrected")
    assert [(message.body, message.sent) for message in outbox.waiting()] == [(b"1", True), (b"corrected", False)]


def test_findings_are_never_old_and_telemetry_goes_before_they_expire() -> None:
    assert BOUNDS[Class.FINDING].life is None
    telemetry = BOUNDS[Class.TELEMETRY].life
    assert telemetry is not None
    assert telemetry < LIFE


def test_putting_wakes_sync(outbox: Outbox, tmp_path: Path) -> None:
    bell = Doorbell(tmp_path, "sync")
    outbox.put([("a", "summary", b"1")])
    assert bell.wait(3600.0)
    bell.close()


def test_messages_outlive_the_process(outbox: Outbox, tmp_path: Path) -> None:
    outbox.put([("a", "summary", b"1")])
    waiting = outbox.waiting()
    again = Outbox(tmp_path)
    assert again.waiting() == waiting
    again.close()


def test_the_outbox_is_a_file_of_its_own(outbox: Outbox, tmp_path: Path) -> None:
    """`sync` needs nothing else of the state folder but health and doorbells."""
    outbox.put([("a", "summary", b"1")])
    assert {path.name for path in tmp_path.iterdir()} <= {"outbox", "doorbells"}
