"""A patient's results are found among all without opening the others."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from edge.records import Subject
from edge.store import Store
from edge.store.retention import Removal
from tests.store.samples import arrival, claimed, flagged


def commit(store: Store, patient_id: str | None) -> str:
    """A result for an image of this patient; its id."""
    store.accept(os.urandom(16), arrival())
    return store.commit(claimed(store), flagged(), Subject(patient_id=patient_id)).id


def found(store: Store, patient_id: str, limit: int = 10, before: str | None = None) -> list[str]:
    return [stored.id for stored in store.results_of_patient(patient_id, limit, before)]


def test_a_patients_results_are_found_the_newest_first(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        ids = [commit(store, patient) for patient in ("A", "B", " A ", "e\u0301", None, "", "A")]
        assert found(store, "A") == [ids[6], ids[2], ids[0]]
        assert found(store, "A ", limit=2) == [ids[6], ids[2]]
        assert found(store, "A", before=ids[6]) == [ids[2], ids[0]]
        assert found(store, "A", before=ids[0]) == found(store, "A", before="none") == []
        assert found(store, "\u00e9") == [ids[3]]
        for nobody in ("a", "C", "", " ", "%", "x" * 100_000):
            assert found(store, nobody) == []


def test_a_result_that_goes_takes_its_mark_along(tmp_path: Path) -> None:
    with closing(Store(tmp_path)) as store:
        gone, left = (commit(store, "A") for _ in range(2))
        store.holdings.remove([Removal(gone.partition("-")[0], None)])
        assert found(store, "A") == [left]
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as sql:
        assert sql.execute("SELECT count(*) FROM patients").fetchone() == (1,)


def test_a_mark_says_nothing_without_the_key_and_is_another_under_another_key(tmp_path: Path) -> None:
    marks = set()
    for folder in (tmp_path / "one", tmp_path / "other"):
        with closing(Store(folder)) as store:
            commit(store, "SYN-1")
        with closing(sqlite3.connect(folder / "journal.sqlite")) as sql:
            marks |= {mark for (mark,) in sql.execute("SELECT mark FROM patients")}
        assert not [path for path in folder.iterdir() if path.is_file() and b"SYN-1" in path.read_bytes()]
    assert len(marks) == 2
