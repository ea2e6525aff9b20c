"""Damaged and lost SQLite files: found, set aside as they are, made again; nothing else is taken for damage."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Thread

import pytest

from edge.records import Kept
from edge.store import Damaged, Store, VaultLocked, repairs
from edge.store.damage import is_damage, is_suspicion
from edge.store.database import Database, OtherVersion
from edge.store.keys import KeyRing, new_key, open_ring, write_ring
from edge.store.repair import MOST_KEPT, MOST_TRIES, Contents, copy_row, reading, repaired_lately, rows
from edge.store.retention import Removal
from edge.store.rotation import rotate
from edge.store.salvage import SEQ_GAP
from tests.store.samples import SUBJECT, arrival, claimed, flagged, spooled, summary
from tests.store.test_durability import end_of

IMAGES = 20


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A store that was closed: images of which all but two are answered, the first result acknowledged."""
    folder = tmp_path / "state"
    with closing(Store(folder)) as store:
        for number in range(IMAGES):
            store.accept(b"%d" % number, arrival(f"1.2.{number}"))
        results = [store.commit(claimed(store), flagged(), SUBJECT, summary=summary) for _ in range(IMAGES - 2)]
        store.acknowledge(results[0].id, "ada", "agree")
        store.settle([debt.number for kind in ("preview", "summary") for debt in store.owed(kind, limit=1000)])
    return folder


def overwritten(start: int, data: bytes) -> Callable[[Path], None]:
    def damage(journal: Path) -> None:
        with journal.open("r+b") as file:
            file.seek(start)
            file.write(data)

    return damage


def cut(size: int) -> Callable[[Path], None]:
    return lambda journal: os.truncate(journal, size)


def gone_with_its_log_left(journal: Path) -> None:
    journal.unlink()
    journal.with_name("journal.sqlite-wal").write_bytes(b"log")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first page of zeros": overwritten(0, bytes(4096)),
    "another format": overwritten(0, b"PK\x03\x04" * 1024),
    "all zeros": lambda journal: journal.write_bytes(bytes(journal.stat().st_size)),
    "cut in the middle": cut(4096 * 5),
    "cut in a page": cut(4096 * 3 + 100),
    "empty": cut(0),
    "gone": lambda journal: journal.unlink(),
    "gone, its log left": gone_with_its_log_left,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_broken_journal_is_made_again_from_the_spool(state: Path, damage: Callable[[Path], object]) -> None:
    journal = state / "journal.sqlite"
    damage(journal)
    left = journal.read_bytes() if journal.exists() else None
    with closing(Store(state)) as store:
        assert store.queue().depth + len(store.changed_since(0, 100)) == IMAGES == len(spooled(state))
        order = []
        while instance := store.claim():
            order.append(instance.received_at)
            store.commit(instance, flagged(), SUBJECT, summary=summary)
        assert order == sorted(order)
        assert len({result.instance_id for result in store.changed_since(0, 100)}) == IMAGES
        assert len(store.results_of_patient("SYN-1", 100)) == IMAGES
        assert store.must_resend()
    (repair,) = repairs(state)
    kept = repair.folder / "journal.sqlite"
    assert (kept.read_bytes() if kept.exists() else None) == left
    assert (repair.folder / "found.txt").read_text().startswith("journal.sqlite: ")
    assert repaired_lately(state).startswith("the journal was damaged and was made again on ")


def test_an_image_whose_result_is_lost_again_and_again_is_not_blamed_for_it(state: Path) -> None:
    for _ in range(5):
        with closing(sqlite3.connect(state / "journal.sqlite", isolation_level=None)) as sql:
            sql.execute("UPDATE results SET result = ?", (os.urandom(100),))
        with closing(Store(state)) as store, pytest.raises(Damaged):
            store.results()
        with closing(Store(state)) as store:
            store.recover()
            while instance := store.claim():
                assert instance.attempts == 1
                store.commit(instance, flagged(), SUBJECT, summary=summary)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_answers_to_images_that_are_gone_outlive_the_journal(state: Path, damage: Callable[[Path], object]) -> None:
    with closing(Store(state)) as store:
        answered = store.changed_since(0, 100)
        gone = {result.instance_id for result in answered[:12]}
        assert len(store.holdings.remove([Removal(each, Kept.NOTHING) for each in gone])) == len(gone)
        store.holdings.remove([Removal(answered[0].instance_id, None)])
        kept = {result.instance_id: result for result in store.changed_since(0, 100)}
    damage(state / "journal.sqlite")
    with closing(Store(state)) as store:
        found = {result.instance_id: result for result in store.changed_since(0, 100)}
        assert {each: found.get(each) for each in gone} == {each: kept.get(each) for each in gone}
        assert answered[0].instance_id not in found, "its time was over"
        assert {store.holdings.kept(each) for each in gone} == {Kept.NOTHING}
        store.sweep()
        assert len(found) + store.queue().depth == IMAGES - 1
    assert not gone & set(spooled(state))


class _FailingDisk:
    """A connection that reads every third time."""

    def __init__(self, sql: sqlite3.Connection) -> None:
        self.asked = 0
        self._sql = sql

    def execute(self, query: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        self.asked += 1
        if self.asked % 3:
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error
        return self._sql.execute(query, values)

    def close(self) -> None:
        self._sql.close()


def test_a_second_copy_on_a_disk_that_fails_now_and_then_is_read_whole(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(Store(state)) as store:
        gone = {result.id: result for result in store.changed_since(0, 100)[:12]}
        store.holdings.remove([Removal(result.instance_id, Kept.NOTHING) for result in gone.values()])
    cut(0)(state / "journal.sqlite")
    monkeypatch.setattr("edge.store.salvage.reading", lambda path: _FailingDisk(reading(path)))
    with closing(Store(state)) as store:
        assert {result.id for result in store.changed_since(0, 100)} >= set(gone)


def test_a_second_copy_that_is_gone_or_damaged_is_made_anew(state: Path) -> None:
    with closing(Store(state)) as store:
        first, second, third, *_ = store.changed_since(0, 100)
        store.holdings.remove([Removal(first.instance_id, Kept.NOTHING)])
    overwritten(0, bytes(4096))(state / "second_copy.sqlite")
    with closing(Store(state)) as store:
        store.holdings.remove([Removal(second.instance_id, Kept.NOTHING)])
    rotate(state)
    with closing(Store(state)) as store:
        store.holdings.remove([Removal(third.instance_id, Kept.NOTHING)])
    cut(0)(state / "journal.sqlite")
    with closing(Store(state)) as store:
        assert {each.id for each in store.changed_since(0, 100)} >= {first.id, second.id, third.id}


def index_page(journal: Path) -> int:
    """The first page of the index by which the page's list is read: that of the results' numbers."""
    with closing(sqlite3.connect(journal)) as sql:
        indexes = [row[1] for row in sql.execute("PRAGMA index_list(results)") if row[3] == "u"]
        by_number = next(
            name for name in indexes if [row[2] for row in sql.execute(f"PRAGMA index_info({name})")] == ["number"]
        )
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        return int(sql.execute(query, (by_number,)).fetchone()[0])


def test_what_can_be_read_of_a_broken_journal_is_carried_over(state: Path) -> None:
    with closing(Store(state)) as store:
        before, last = store.changed_since(0, 100), store.last_seq()
    overwritten(4096 * (index_page(state / "journal.sqlite") - 1), bytes(4096))(state / "journal.sqlite")
    with closing(Store(state)) as store, pytest.raises(Damaged):
        store.results()
    with closing(Store(state)) as store:
        assert store.changed_since(0, 100) == before
        assert store.results(100)[-1].acknowledged_by == "ada"
        assert store.queue().depth == 2
        assert store.last_seq() == last + SEQ_GAP, "no page takes a new change for one that it knows"
        assert store.recover() == 0


def test_a_value_that_does_not_open_costs_its_row_alone(state: Path) -> None:
    with closing(Store(state)) as store:
        first, second, *_ = store.changed_since(0, 100)
    with closing(sqlite3.connect(state / "journal.sqlite", isolation_level=None)) as sql:
        sql.execute("UPDATE results SET result = ? WHERE id = ?", (os.urandom(100), first.id))
        sql.execute("UPDATE instances SET record = ? WHERE id = ?", (os.urandom(100), second.instance_id))
    with closing(Store(state)) as store, pytest.raises(Damaged):
        store.result(first.id)
    with closing(Store(state)) as store:
        assert store.result(first.id) is None
        assert store.result(second.id) == second, "its instance came back from the spool"
        assert {claimed(store).id for _ in range(3)} > {first.instance_id}
        assert store.claim() is None


def test_who_has_it_open_is_told_and_the_repair_waits_for_all_of_them(state: Path) -> None:
    one, other = Store(state), Store(state)
    page = index_page(state / "journal.sqlite")
    overwritten(4096 * (page - 1), bytes(4096))(state / "journal.sqlite")
    with pytest.raises(Damaged):
        one.results()
    for use in (other.check, other.claim, other.last_seq, lambda: other.accept(b"new", arrival())):
        with pytest.raises(Damaged):
            use()
    opened: list[Store] = []
    opening = Thread(target=lambda: opened.append(Store(state)))
    opening.start()
    one.close()
    opening.join(0.2)
    assert not opened, "the other one still has it"
    other.close()
    opening.join()
    assert opened[0].queue().depth == 2
    assert opened[0].accept(b"new", arrival()).new, "it was not taken before, and its sender was told so"
    opened[0].close()


def test_a_journal_that_others_have_open_stays_where_it_is(state: Path) -> None:
    """A service that starts beside others looks at nothing."""
    with closing(Store(state)) as first, closing(Store(state)) as second:
        assert first.queue() == second.queue()
    assert not repairs(state)


def test_a_journal_of_another_version_is_no_damage(state: Path) -> None:
    with closing(sqlite3.connect(state / "journal.sqlite", isolation_level=None)) as sql:
        sql.execute("PRAGMA user_version = 99")
    before = (state / "journal.sqlite").read_bytes()
    with pytest.raises(OtherVersion):
        Store(state)
    assert (state / "journal.sqlite").read_bytes() == before
    assert not repairs(state)


@pytest.mark.parametrize("unclean", [False, True])
def test_a_journal_under_another_key_is_no_damage(state: Path, unclean: bool) -> None:
    ring = open_ring(state)
    if unclean:
        end_of(lambda _report: _accept_and_die(state))
    write_ring(KeyRing(ring.file, (new_key(),)))
    for _ in range(2):
        with pytest.raises(VaultLocked):
            Store(state)
    write_ring(ring)
    assert not (state / "broken").exists()
    with closing(Store(state)) as store:
        assert store.queue().depth == 2 + unclean


def _accept_and_die(state: Path) -> None:
    Store(state).accept(b"last", arrival())
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_newest_broken_ones_are_kept(state: Path) -> None:
    for _ in range(MOST_KEPT + 2):
        cut(0)(state / "journal.sqlite")
        Store(state).close()
    assert len(repairs(state)) == MOST_KEPT


def test_a_file_whose_reading_kills_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "file.sqlite"
    schema = "CREATE TABLE IF NOT EXISTS things (data BLOB)"
    with closing(Database(path, schema)) as file, file.transaction() as sql:
        sql.executemany("INSERT INTO things VALUES (?)", [(bytes(3000),)] * 10)
    overwritten(4096 * 4, bytes(4096))(path)
    with closing(Database(path, schema)) as file, pytest.raises(Damaged), file.reading() as sql:
        sql.execute("SELECT max(data) FROM things").fetchall()
    seen: list[bool] = []

    def carry_over(broken: sqlite3.Connection | None, _new: sqlite3.Connection) -> str:
        if broken:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(broken is None)
        return "nothing"

    contents = Contents(carry_over=carry_over)
    for _ in range(MOST_TRIES):
        status = end_of(lambda _report: Database(path, schema, contents=contents).close())
        assert os.WTERMSIG(status) == signal.SIGKILL
    Database(path, schema, contents=contents).close()
    assert seen == [True]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "EIO"), sqlite3.OperationalError("disk I/O error")])
def test_a_disk_that_fails_during_a_repair_costs_nothing_of_what_can_be_read(tmp_path: Path, error: Exception) -> None:
    """However often: the damaged file is read again, until the new one is made."""
    path = tmp_path / "file.sqlite"
    schema = "CREATE TABLE IF NOT EXISTS things (data BLOB)"
    with closing(Database(path, schema)) as file, file.transaction() as sql:
        sql.executemany("INSERT INTO things VALUES (?)", [(bytes(3000),)] * 10)
    overwritten(4096 * 4, bytes(4096))(path)
    with closing(Database(path, schema)) as file, pytest.raises(Damaged), file.reading() as sql:
        sql.execute("SELECT max(data) FROM things").fetchall()
    failures = 2 * MOST_TRIES

    def carry_over(broken: sqlite3.Connection | None, new: sqlite3.Connection) -> str:
        nonlocal failures
        assert broken
        if failures:
            failures -= 1
            raise error
        for row in rows(broken, "SELECT * FROM things"):
            copy_row(new, "things", row)
        return "all"

    contents = Contents(carry_over=carry_over)
    while failures:
        with pytest.raises(type(error)):
            Database(path, schema, contents=contents)
    with closing(Database(path, schema, contents=contents)) as file, file.reading() as sql:
        assert sql.execute("SELECT count(*) FROM things").fetchone()[0] > 0


@pytest.mark.parametrize(
    ("code", "damage", "suspicion"),
    [
        (sqlite3.SQLITE_CORRUPT, True, True),
        (sqlite3.SQLITE_NOTADB, True, True),
        (sqlite3.SQLITE_IOERR_READ, True, True),
        (sqlite3.SQLITE_IOERR_FSYNC, False, True),
        (sqlite3.SQLITE_IOERR_WRITE, False, True),
        (sqlite3.SQLITE_FULL, False, False),
        (sqlite3.SQLITE_IOERR_SHMSIZE, False, False),
        (sqlite3.SQLITE_BUSY, False, False),
        (sqlite3.SQLITE_CANTOPEN, False, False),
        (sqlite3.SQLITE_READONLY, False, False),
        (sqlite3.SQLITE_CONSTRAINT_UNIQUE, False, False),
    ],
)
def test_what_counts_as_damage(code: int, damage: bool, suspicion: bool) -> None:
    error = sqlite3.DatabaseError()
    error.sqlite_errorcode = code
    assert (is_damage(error), is_suspicion(error)) == (damage, suspicion)
    assert is_damage(Damaged())
    assert not is_suspicion(OSError())


def test_a_copy_of_the_state_without_its_standing_opens(state: Path, tmp_path: Path) -> None:
    """As a backup puts it back."""
    copy = tmp_path / "copy"
    shutil.copytree(state, copy, ignore=shutil.ignore_patterns("doorbells*", "*.standing", "locks"))
    with closing(Store(copy)) as store:
        assert store.queue().depth == 2
    assert not repairs(copy)
