"""A journal that an older version has made is brought forward whole: what the new schema knows, it learns."""

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
from tests.store.samples import claimed, flagged
from tests.store.test_durability import forked
from tests.store.test_patients import commit, found

PATIENTS = ("SYN-1", "SYN-2", "", None, "SYN-1")
"""Whose images the old store holds, in their order; the first is gone, and somebody has answered the second's flag."""

_LEARNT_BY = {
    3: """
CREATE TABLE IF NOT EXISTS patients (
    number INTEGER PRIMARY KEY REFERENCES results (number) ON DELETE CASCADE,
    mark TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS of_patient ON patients (mark, number);
"""
}
"""What each version after 2 has added to `journal_2.sql`."""


@pytest.fixture(params=[2, 3])
def schema(request: pytest.FixtureRequest) -> int:
    """The old journal's version."""
    return int(request.param)


@pytest.fixture
def old(tmp_path: Path, schema: int) -> Path:
    """The state folder of a box whose journal is of an old schema, one image of it gone and in the second copy."""
    folder = tmp_path / "state"
    with closing(Store(folder)) as store:
        ids = [commit(store, patient) for patient in PATIENTS]
        store.acknowledge(ids[1], "ada", "agree")
        store.holdings.remove([Removal(ids[0].partition("-")[0], Kept.NOTHING)])
    for name in ("journal.sqlite", "second_copy.sqlite"):
        made_with(schema, folder / name)
    return folder


def made_with(schema: int, path: Path) -> None:
    """Replace a file by one that an old schema has made, with the same rows."""
    new = path.with_name("new.sqlite")
    path.rename(new)
    made = Path(__file__).with_name("journal_2.sql").read_text(encoding="utf-8")
    made += "".join(learnt for version, learnt in _LEARNT_BY.items() if version <= schema)
    with closing(sqlite3.connect(path, isolation_level=None)) as sql:
        sql.executescript(f"PRAGMA journal_mode = WAL; {made}; PRAGMA user_version = {schema}; ATTACH '{new}' AS new")
        tables = [name for (name,) in sql.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")]
        for table in tables:
            names = ", ".join(name for _, name, *_ in sql.execute(f"PRAGMA main.table_info({table})"))
            sql.execute(f"INSERT OR REPLACE INTO main.{table} ({names}) SELECT {names} FROM new.{table}")
    for part in ("", "-wal", "-shm"):
        path.with_name(f"new.sqlite{part}").unlink(missing_ok=True)


def version(state: Path, name: str = "journal") -> int:
    with closing(sqlite3.connect(state / f"{name}.sqlite")) as sql:
        return int(sql.execute("PRAGMA user_version").fetchone()[0])


def check(state: Path) -> None:
    """All results are there, their patients are found, and of each it is known whether its flag waits for a person."""
    with closing(Store(state)) as store:
        ids = [stored.id for stored in sorted(store.changed_since(0), key=lambda stored: stored.number)]
        assert len(ids) == len(PATIENTS)
        assert found(store, "SYN-1") == [ids[4], ids[0]]
        assert found(store, "SYN-2") == [ids[1]]
        unanswered = {one.id: one.unanswered for one in store.holdings.oldest(0.0, 10)}
        assert unanswered == {each.partition("-")[0]: each != ids[1] for each in ids}
        store.sweep()
    assert version(state) == VERSION


def test_a_journal_of_an_old_schema_is_brought_forward_once(
    old: Path, schema: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert version(old) == schema
    with caplog.at_level("INFO", logger="scanside"):
        check(old)
        check(old)
    said = [record.getMessage() for record in caplog.records if " is of schema version " in record.getMessage()]
    assert sorted(said) == [
        f"SC326 {name}.sqlite is of schema version {schema}: brought forward to {VERSION}"
        for name in ("journal", "second_copy")
    ]
    assert not repairs(old)


@pytest.mark.parametrize("schema", [2], indirect=True)
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


def test_under_another_ring_an_old_journal_is_refused_and_can_be_opened_later(old: Path) -> None:
    ring = open_ring(old)
    write_ring(KeyRing(ring.file, (new_key(),)))
    with pytest.raises(VaultLocked):
        Store(old)
    write_ring(ring)
    check(old)
    assert not repairs(old)


@pytest.mark.parametrize(("schema", "broken"), [(2, "a page"), (2, "a value"), (3, "a page")], indirect=["schema"])
def test_a_damaged_journal_of_an_old_schema_is_made_again_as_a_new_one(old: Path, broken: str) -> None:
    with closing(sqlite3.connect(old / "journal.sqlite", isolation_level=None)) as sql:
        if broken == "a value":
            sql.execute("UPDATE results SET subject = ? WHERE number = 2", (os.urandom(80),))
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
