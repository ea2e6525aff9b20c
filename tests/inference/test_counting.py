"""Each answer is counted once for the fleet, whenever the counting service ends."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import msgspec
import pytest

from edge.inference.counting import Counting
from edge.messages.aggregate import Aggregate
from edge.store import Outbox, Store
from tests.store.conftest import Box
from tests.store.samples import SUBJECT, arrival, claimed, flagged

DAY = 86400.0


@pytest.fixture
def outbox(tmp_path: Path, box: Box) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path, box.wall, box.machine)) as opened:
        yield opened


_uids = itertools.count()


def _answer(store: Store, count: int) -> None:
    for _ in range(count):
        number = next(_uids)
        store.accept(b"%d" % number, arrival(f"1.{number}"))
        store.commit(claimed(store), flagged(), SUBJECT)


def _count(counting: Counting) -> None:
    while counting.turn():
        pass


def _aggregates(outbox: Outbox) -> list[Aggregate]:
    return [msgspec.json.decode(one.body, type=Aggregate) for one in outbox.waiting(limit=1000)]


def _flagged(outbox: Outbox) -> list[int]:
    tables = [table for one in _aggregates(outbox) for table in one.histograms if table.statistic == "answers"]
    return [one.images for table in tables for one in table.bins if one.name == "flagged"]


def test_a_day_is_told_in_fives_and_the_rest_goes_on_counting(store: Store, outbox: Outbox, box: Box) -> None:
    """MSG-AGGREGATE-02"""
    counting = Counting(store, outbox, box.wall)
    _answer(store, 13)
    _count(counting)
    assert _aggregates(outbox) == [], "the day is not over"
    box.live(DAY)
    _count(counting)
    (first,) = _aggregates(outbox)
    assert (first.day, first.clock) == ("2027-01-15", "right")
    _answer(store, 2)
    _count(counting)
    box.live(DAY)
    _count(counting)
    assert _flagged(outbox) == [10, 5], "three of the first day and two of the second"
    box.live(DAY)
    _count(counting)
    assert len(_aggregates(outbox)) == 2, "nothing is left to say"


def test_what_was_answered_before_it_counted_is_not_counted(store: Store, outbox: Outbox, box: Box) -> None:
    _answer(store, 7)
    counting = Counting(store, outbox, box.wall)
    _answer(store, 5)
    box.live(DAY)
    _count(counting)
    assert _flagged(outbox) == [5]


def test_ended_at_any_moment_each_answer_is_counted_once(store: Store, outbox: Outbox, box: Box) -> None:
    """MSG-AGGREGATE-02: as by a kill, what is in memory is forgotten; the wall clock steps forth and back meanwhile."""
    chance, answered = Random(7), 0
    counting = Counting(store, outbox, box.wall)
    for _ in range(60):
        count = chance.randrange(8)
        _answer(store, count)
        answered += count
        for _ in range(chance.randrange(3)):
            counting.turn()
        if chance.random() < 0.4:
            box.wall.now += chance.choice((-3, 1, 1, 40)) * DAY
        if chance.random() < 0.4:
            counting = Counting(store, outbox, box.wall)
    box.live(DAY)
    _count(counting)
    said = sum(_flagged(outbox))
    assert 0 <= answered - said < 5
    assert len({one.message_id for one in _aggregates(outbox)}) == len(_aggregates(outbox))


def test_it_goes_on_over_a_damaged_outbox_and_begins_anew_without_one(store: Store, box: Box, tmp_path: Path) -> None:
    """MSG-AGGREGATE-02: never twice."""
    with closing(Outbox(tmp_path, box.wall, box.machine)) as outbox:
        counting = Counting(store, outbox, box.wall)
        _answer(store, 8)
        box.live(DAY)
        _count(counting)
        assert _flagged(outbox) == [5]
        outbox.remove([one.number for one in outbox.waiting()])
    (tmp_path / "outbox" / "outbox.sqlite").write_bytes(b"no database any more" * 1000)
    with closing(Outbox(tmp_path, box.wall, box.machine)) as outbox:
        counting = Counting(store, outbox, box.wall)
        _answer(store, 6)
        box.live(DAY)
        _count(counting)
        assert _flagged(outbox) == [5], "the three that were left are gone with the file"
