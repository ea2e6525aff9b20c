"""The queue for PACS survives what the journal survives."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.records import OrderDifference, Priority, Status, Subject
from edge.store import Damaged, Store
from edge.store.deliveries import BACKLOG_AFTER, Next, Standing
from edge.store.order import Turns
from edge.store.rotation import rotate
from tests.reporting import samples
from tests.reporting.peers import answer
from tests.store.conftest import Box
from tests.store.samples import arrival, claimed

OBJECTS = {"sr": b"report", "sc": b"picture"}
WANTED = [("one", "sr", ""), ("one", "sc", ""), ("two", "sr", "")]


def _queued(store: Store) -> str:
    stored = answer(store, samples.radiograph())
    (owed,) = store.owed("report")
    store.deliveries.made(owed.number, stored.id, OBJECTS, WANTED)
    return stored.id


def _next(store: Store, destination: str, turns: Turns | None = None, resting: tuple[int, ...] = ()) -> Next:
    now = store.lifetime.now().lifetime
    backlogs = turns is not None and turns.is_backlogs
    return store.deliveries.next_result(destination, resting, now, backlogs=backlogs)


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        ("|RFR", "F2 R1 R3"),
        ("RFR|", "F2 R1 R3"),
        ("FFF|R", "R4 F1 F2 F3"),
        ("RR|F", "F3 R1 R2"),
        ("FR|RFU", "F4 U5 R3 F1 R2"),
        ("RF|FFFFFFF", "F3 F4 F5 R1 F6 F7 F8 F2 F9"),
        ("|LRU", "U3 R2 L1"),
        ("L|RRRR", "R2 R3 R4 L1 R5"),
    ],
)
def test_fresh_flags_go_first_and_the_backlog_in_the_gaps(tmp_path: Path, box: Box, waiting: str, order: str) -> None:
    """Flagged, urgent, routine and low; what stands before the bar waits since an outage, what is after it is fresh."""
    old, fresh = waiting.split("|")
    priorities = {"F": Priority.ROUTINE, **dict(zip("URL", Priority, strict=True))}
    with closing(Store(tmp_path, box.wall, machine=box.machine)) as store:
        names = {}
        for number, letter in enumerate(old + fresh, 1):
            if number == len(old) + 1:
                box.live(BACKLOG_AFTER + 1)
            store.accept(b"%d" % number, arrival(f"{number}", priorities[letter]))
            status = Status.FLAGGED if letter == "F" else Status.CLEAR
            stored = store.commit(claimed(store), samples.result(status), Subject(modality="DX"), report=True)
            (owed,) = store.owed("report")
            store.deliveries.made(owed.number, stored.id, {}, [("one", "sr", ""), ("one", "sc", "")])
            names[stored.id] = f"{letter}{number}"
        if not fresh:
            box.live(BACKLOG_AFTER + 1)
        turns, taken = Turns(), []
        while (following := _next(store, "one", turns)).rows:
            turns.taken(the_oldest=following.is_oldest)
            assert [row.object for row in following.rows] == ["sr", "sc"], "a result goes whole"
            taken.append(names[following.rows[0].result_id])
            store.deliveries.delivered([row.number for row in following.rows])
    assert taken == order.split()


def test_a_fresh_flag_is_made_first_too(tmp_path: Path, box: Box) -> None:
    with closing(Store(tmp_path, box.wall, machine=box.machine)) as store:
        ids = []
        for number, letter in enumerate("RRFRRR"):
            if number == 2:
                box.live(BACKLOG_AFTER + 1)
            store.accept(b"%d" % number, arrival(f"{number}"))
            status = Status.FLAGGED if letter == "F" else Status.CLEAR
            ids.append(store.commit(claimed(store), samples.result(status), Subject(modality="DX"), report=True).id)
        store.deliveries.try_to_make(store.owed("report")[3].number)
        turns, made = Turns(), []
        while True:
            now = store.lifetime.now().lifetime
            owed, oldest = store.deliveries.next_to_make([ids[5]], now, backlogs=turns.is_backlogs)
            if owed is None:
                break
            turns.taken(the_oldest=oldest)
            made.append(ids.index(owed.result_id))
            store.settle([owed.number])
        assert made == [2, 4, 0, 1, 3], "what was in hand when a service ended is last, what is not ready waits"


def test_what_rests_keeps_nothing_waiting(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        _queued(store)
        first, second = (row.number for row in _next(store, "one").rows)
        assert [row.number for row in _next(store, "one", resting=(first,)).rows] == [second]
        assert _next(store, "one", resting=(first, second)) == Next()


def test_bytes_stay_until_the_last_destination_has_its_last_object(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        result = _queued(store)
        store.deliveries.delivered([row.number for row in _next(store, "one").rows])
        assert store.deliveries.read(result, "sr") == b"report"
        (last,) = _next(store, "two").rows
        store.deliveries.delivered([last.number])
        assert store.deliveries.read(result, "sr") is None


def test_making_again_after_a_crash_doubles_nothing(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        result = _queued(store)
        store.deliveries.made(0, result, OBJECTS, WANTED)
        assert store.deliveries.standing() == {"one": Standing(waiting=2), "two": Standing(waiting=1)}


def test_a_destination_that_is_configured_no_more_is_forgotten(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        result = _queued(store)
        store.deliveries.sweep(["two"])
        assert store.deliveries.standing() == {"two": Standing(waiting=1)}
        store.deliveries.sweep([])
        assert store.deliveries.read(result, "sr") is None


def test_what_differs_from_the_order_is_a_change_of_the_result_that_outlives_a_repair(tmp_path: Path) -> None:
    said = (OrderDifference.BIRTH_DATE, OrderDifference.SEX)
    with closing(Store(tmp_path)) as store:
        other, stored = (answer(store, samples.radiograph(SOPInstanceUID=f"1.2.3.{each}")) for each in (1, 2))
        for differences in ((), said, said):
            store.note_order_differences(stored.id, differences)
        (changed,) = store.changed_since(stored.seq)
        assert (changed.id, changed.order_differences) == (stored.id, said)
        assert store.last_seq() == stored.seq + 1, "said once"
    with closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as sql:
        sql.execute("UPDATE results SET result = x'00' WHERE id = ?", (other.id,))
    with closing(Store(tmp_path)) as store, pytest.raises(Damaged):
        store.results()
    with closing(Store(tmp_path)) as store:
        assert [result.order_differences for result in store.results()] == [said]


def test_a_rotation_of_keys_keeps_the_bytes(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        result = _queued(store)
    before = (tmp_path / "reports" / f"{result}.sr").read_bytes()
    rotate(tmp_path)
    assert (tmp_path / "reports" / f"{result}.sr").read_bytes() != before
    with closing(Store(tmp_path)) as store:
        assert store.deliveries.read(result, "sr") == b"report"


def test_what_lies_there_is_sealed(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        result = _queued(store)
    data = (tmp_path / "reports" / f"{result}.sr").read_bytes()
    assert b"report" not in data
    (tmp_path / "reports" / f"{result}.sr").replace(tmp_path / "reports" / f"{result}.sc")
    with closing(Store(tmp_path)) as store:
        assert store.deliveries.read(result, "sc") is None, "one file in the place of another"


def test_a_journal_that_was_lost_owes_all_again_and_a_readable_queue_is_carried_over(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        result = _queued(store)
    journal = tmp_path / "journal.sqlite"
    journal.unlink()
    with closing(Store(tmp_path)) as store:
        assert store.deliveries.must_owe_again()
        claimed = store.claim()
        assert claimed is not None and result.startswith(claimed.id), "analysed again, under the same id"
        store.commit(claimed, samples.result(), Subject(modality="DX"), report=True)
        assert [item.result_id for item in store.owed("report")] == [result]
        assert store.deliveries.owe_since(0.0) == 1
        assert not store.deliveries.must_owe_again()
        assert len(store.owed("report")) == 1
