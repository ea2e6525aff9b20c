"""The queue for PACS survives what the journal survives."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.records import OrderDifference, Subject
from edge.store import Damaged, Store
from edge.store.deliveries import Standing
from edge.store.rotation import rotate
from tests.reporting import samples
from tests.reporting.peers import answer

OBJECTS = {"sr": b"report", "sc": b"picture"}
WANTED = [("one", "sr", ""), ("one", "sc", ""), ("two", "sr", "")]


def _queued(store: Store) -> str:
    stored = answer(store, samples.radiograph())
    (owed,) = store.owed("report")
    store.deliveries.made(owed.number, stored.id, OBJECTS, WANTED)
    return stored.id


def test_bytes_stay_until_the_last_destination_has_its_last_object(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        result = _queued(store)
        store.deliveries.delivered([row.number for row in store.deliveries.waiting("one", 10)])
        assert store.deliveries.read(result, "sr") == b"report"
        (last,) = store.deliveries.waiting("two", 10)
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
