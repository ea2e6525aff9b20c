"""SQLite as every file of the box that must survive a power cut wants it.

WAL with `synchronous=FULL`: a commit that returned is on the disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from edge.errors import ScansideError
from edge.store.lock import folder_lock


class OtherVersion(ScansideError):  # noqa: N818 - what was found, not what failed
    """The file was made by another version of the software, with another schema."""


class Database:
    """One connection, shared by a process's threads one at a time; other processes may have others meanwhile."""

    def __init__(self, path: Path, schema: str, version: int = 0) -> None:
        """Open the file, or create it with its schema: statements that change nothing where they have been run.

        Raises:
            OtherVersion: Its schema has another `version` (`PRAGMA user_version`).
        """
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = RLock()
        self._connection = _connect(path)
        with self.transaction() as sql:
            (found,) = sql.execute("PRAGMA user_version").fetchone()
            if found != version and sql.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise OtherVersion(
                    f"{path}: schema version {found}, this software reads {version}: start anew with another state_dir"
                )
            sql.execute(f"PRAGMA user_version = {version}")
            for statement in schema.split(";\n"):
                sql.execute(statement)

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, on the disk when it returns; without `durable`, on the disk with the next that is.

        Also when the COMMIT itself finds no room: the connection is free for the next. After some errors SQLite has
        rolled back by itself (https://www.sqlite.org/lang_transaction.html#immediate).
        """
        with self._lock:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For queries; never waits for writers of other processes (WAL)."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


def is_full(error: OSError | sqlite3.Error) -> bool:
    """Whether the disk has no room, or the quota is used up."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _connect(path: Path) -> sqlite3.Connection:
    """WAL, FULL, rows by name, transactions by hand, mode 0600."""
    path.touch(mode=0o600, exist_ok=True)
    connection = sqlite3.connect(path, timeout=20.0, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    with folder_lock(path.parent):  # SQLite does not wait for another process that is just changing the mode
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection
