"""A patient's results are found among all without opening the others, and a journal of the old schema learns it."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.records import Kept, Subject
from edge.store import Store, VaultLocked, repairs
from edge.store import journal as journal_module
from edge.store.backup import back_up, restore
from edge.store.journal import VERSION
from edge.store.keys import KeyRing, new_key, open_ring, write_ring
from edge.store.retention import Removal
from edge.store.rotation import rotate
from tests.store.samples import arrival, claimed, flagged
from tests.store.test_durability import forked

PATIENTS = ("SYN-1", "SYN-2", "", None, "SYN-1")
"""Whose images the old store holds, in their order."""


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


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The state folder of a box whose journal is of schema 2, one image of it gone and in the second copy."""
    folder = tmp_path / "state"
    with closing(Store(folder)) as store:
        ids = [commit(store, patient) for patient in PATIENTS]
        store.holdings.remove([Removal(ids[0].partition("-")[0], Kept.NOTHING)])
    for name in ("journal.sqlite", "second_copy.sqlite"):
        made_with_schema_2(folder / name)
    return folder


def made_with_schema_2(path: Path) -> None:
    """Replace a file by one that the old schema has made, with the same rows."""
    new = path.with_name("new.sqlite")
    path.rename(new)
    schema = Path(__file__).with_name("journal_2.sql").read_text(encoding="utf-8")
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.executescript(f"PRAGMA journal_mode = WAL; {schema}; PRAGMA user_version = 2; ATTACH '{new}' AS new")
        for table in ("vault", "instances", "results", "owed", "lifetime", "counter"):
            sql.execute(f"INSERT OR REPLACE INTO main.{table} SELECT * FROM new.{table}")
    for part in ("", "-wal", "-shm"):
        path.with_name(f"new.sqlite{part}").unlink(missing_ok=True)


def version(state: Path) -> int:
    with closing(sqlite3.connect(state / "journal.sqlite")) as sql:
        return int(sql.execute("PRAGMA user_version").fetchone()[0])


def check(state: Path) -> None:
    """All results are there, and their patients are found."""
    with closing(Store(state)) as store:
        ids = [stored.id for stored in store.changed_since(0)]
        assert len(ids) == len(PATIENTS)
        assert sorted(found(store, "SYN-1")) == sorted((ids[0], ids[4]))
        assert found(store, "SYN-2") == [ids[1]]
        store.sweep()
    assert version(state) == VERSION


def test_a_journal_of_the_old_schema_is_brought_forward_once(old: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert version(old) == 2
    with caplog.at_level("INFO", logger="scanside"):
        check(old)
        check(old)
    said = [record.getMessage() for record in caplog.records if " is of schema version " in record.getMessage()]
    assert sorted(said) == [
        f"SC326 {name}.sqlite is of schema version 2: brought forward to {VERSION}"
        for name in ("journal", "second_copy")
    ]
    assert not repairs(old)


def test_a_kill_in_the_middle_leaves_the_old_one_and_the_next_start_does_it(old: Path) -> None:
    def killed(_report: object) -> None:
        mark, calls = journal_module.mark_patient, iter(range(3))

        def kill(*values: object) -> None:
            if next(calls) == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            mark(*values)  # type: ignore[arg-type]

        journal_module.mark_patient = kill  # type: ignore[assignment]
        Store(old)

    child, _ = forked(killed)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert version(old) == 2
    check(old)


def test_under_another_ring_an_old_journal_is_refused_and_left_as_it_is(old: Path) -> None:
    ring = open_ring(old)
    write_ring(KeyRing(ring.file, (new_key(),)))
    with pytest.raises(VaultLocked):
        Store(old)
    assert version(old) == 2
    write_ring(ring)
    check(old)
    assert not repairs(old)


@pytest.mark.parametrize("broken", ["a page", "a value"])
def test_a_damaged_journal_of_the_old_schema_is_made_again_as_a_new_one(old: Path, broken: str) -> None:
    with closing(sqlite3.connect(old / "journal.sqlite", isolation_level=None)) as sql:
        if broken == "a value":
            sql.execute("UPDATE results SET subject = ? WHERE seq = 2", (os.urandom(80),))
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if broken == "a page":
        with (old / "journal.sqlite").open("r+b") as file:
            file.write(bytes(4096))
    with closing(Store(old)) as store:
        ids = {stored.id for stored in store.changed_since(0)}
        while store.queue().depth:
            store.commit(claimed(store), flagged(), Subject(patient_id="SYN-9"))
        assert set(found(store, "SYN-1")) == ids & set(found(store, "SYN-1")) != set()
    assert repairs(old)
    assert version(old) == VERSION


def test_an_old_backup_comes_back_and_an_old_journal_is_rotated(old: Path, tmp_path: Path) -> None:
    back_up(old, tmp_path / "backup", "correct horse battery")
    restore(tmp_path / "backup", tmp_path / "restored", "correct horse battery")
    check(tmp_path / "restored")
    shutil.copytree(old, tmp_path / "rotated", ignore=shutil.ignore_patterns("doorbells*"))
    assert rotate(tmp_path / "rotated").left == ()
    check(tmp_path / "rotated")
