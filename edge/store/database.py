"""SQLite as every file of the box that must survive a power cut wants it.

WAL with `synchronous=FULL`: a commit that returned is on the disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path
from threading import RLock

from edge import events, reasons
from edge.errors import ScansideError
from edge.events import emit
from edge.modes import file_mode, make_folder
from edge.store.damage import Damaged, is_suspicion
from edge.store.lock import folder_lock
from edge.store.repair import Contents, repair
from edge.store.standing import Line, Standing, Word


class OtherVersion(ScansideError):  # noqa: N818 - what was found, not what failed
    """The file was made by another version of the software, with another schema."""


Migration = Callable[[sqlite3.Connection], None]

_UNKNOWN = Contents()
_CACHED_KIB = 512
"""Of SQLite's 2,000 for each connection of each service: the system keeps the file's pages once for all of them."""


class Database:
    """One connection, shared by a process's threads one at a time; other processes may have others meanwhile."""

    def __init__(self, path: Path, schema: str, version: int = 0, contents: Contents = _UNKNOWN) -> None:
        """Open the file, or create it with its schema: statements that change nothing where they have been run.

        One that is damaged or gone is replaced first, see `repair`.

        Args:
            path: The file; its folder is made.
            schema: Statements, each with `;` at its line's end.
            version: Of the schema (`PRAGMA user_version`).
            contents: What the file should hold, what of a damaged one is carried over, and what brings an older one
                forward.

        Raises:
            OtherVersion: Its schema has another version, from which no step leads to this one.
            Damaged: It waits for its repair, and others do not let go of it.
        """
        make_folder(path.parent)
        self._path = path
        self._lock = RLock()
        try:
            self._enter(schema, version, contents)
        except Damaged:  # found only now: the look before has not seen it
            self._enter(schema, version, contents)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, on the disk when it returns; without `durable`, on the disk with the next that is.

        Also when the COMMIT itself finds no room: the connection is free for the next. After some errors SQLite has
        rolled back by itself (https://www.sqlite.org/lang_transaction.html#immediate). Raises `Damaged` as `check`.
        """
        with self._lock, self._watched():
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            with _transaction(self._connection) as sql:
                yield sql

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For queries; never waits for writers of other processes (WAL). Raises `Damaged` as `check`."""
        with self._lock, self._watched():
            yield self._connection

    def check(self) -> None:
        """Raise `Damaged` when some process has found the file damaged: let go of it, so that it can be repaired."""
        if self._standing.is_suspect():
            raise Damaged(reasons.REPAIR_DUE.format(file=self._path))

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._opened.close()

    def _enter(self, schema: str, version: int, contents: Contents) -> None:
        with ExitStack() as opened:
            self._standing = opened.enter_context(closing(Standing(self._path)))
            make = partial(_open, self._path, schema, version, contents.migrations)
            self._standing.enter(lambda: repair(self._path, self._standing, version, contents, make))
            with self._watched():
                self._connection = opened.enter_context(closing(make()))
            self._standing.begin()
            self._opened = opened.pop_all()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Tell all who have the file open when an error says that it should not be used any more."""
        self.check()
        try:
            yield
        except sqlite3.DatabaseError as error:
            if not is_suspicion(error):
                raise
            if not self._standing.is_suspect():
                emit(events.DATABASE_SUSPECT, file=self._path.name, error=error)
                self._standing.say(Line(Word.SUSPECT))
            raise Damaged(reasons.DATABASE_DAMAGED.format(file=self._path, error=error)) from error


def is_full(error: OSError | sqlite3.Error) -> bool:
    """Whether the disk has no room, or the quota is used up."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


@contextmanager
def _transaction(sql: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    sql.execute("BEGIN IMMEDIATE")
    try:
        yield sql
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:
            sql.execute("ROLLBACK")
        raise


def _open(path: Path, schema: str, version: int, migrations: Mapping[int, Migration]) -> sqlite3.Connection:
    """With its schema, of this version; an older one is brought forward, all of it or nothing."""
    connection = _connect(path)
    try:
        with _transaction(connection) as sql:
            for step in _steps(sql, path, version, migrations):
                step(sql)
            for statement in schema.split(";\n"):
                sql.execute(statement)
            sql.execute(f"PRAGMA user_version = {version}")
    except BaseException:
        connection.close()
        raise
    return connection


def _steps(
    sql: sqlite3.Connection, path: Path, version: int, migrations: Mapping[int, Migration]
) -> Sequence[Migration]:
    """From the file's version to ours; none for a new file."""
    (found,) = sql.execute("PRAGMA user_version").fetchone()
    if found == version or not sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return ()
    if found not in migrations:
        raise OtherVersion(
            f"{path}: schema version {found}, this software reads {version}: start anew with another state_dir"
        )
    emit(events.DATABASE_MIGRATED, file=path.name, found=found, version=version)
    return [migrations[each] for each in range(found, version)]


def _connect(path: Path) -> sqlite3.Connection:
    """WAL, FULL, rows by name, transactions by hand, mode 0600."""
    path.touch(mode=file_mode(path.parent), exist_ok=True)
    connection = sqlite3.connect(path, timeout=20.0, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    with folder_lock(path.parent):  # SQLite does not wait for another process that is just changing the mode
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA cache_size = -{_CACHED_KIB}")
    return connection
