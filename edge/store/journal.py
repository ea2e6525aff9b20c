"""The journal: the SQLite file that says what was accepted, answered and is owed.

WAL with `synchronous=FULL`: a commit that returned is on the disk (https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

SCHEMA = """
CREATE TABLE IF NOT EXISTS instances (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    sop_instance_uid TEXT,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    arrival TEXT NOT NULL,
    priority INTEGER NOT NULL,
    received_at REAL NOT NULL,
    state TEXT NOT NULL DEFAULT 'accepted' CHECK (state IN ('accepted', 'processing', 'done')),
    attempts INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS same_object ON instances (sha256, ifnull(sop_instance_uid, ''));
CREATE INDEX IF NOT EXISTS same_uid ON instances (sop_instance_uid);
CREATE INDEX IF NOT EXISTS queue ON instances (priority, number) WHERE state = 'accepted';
CREATE INDEX IF NOT EXISTS in_work ON instances (number) WHERE state = 'processing';
CREATE TABLE IF NOT EXISTS results (
    id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES instances (id),
    seq INTEGER NOT NULL UNIQUE,
    committed_at REAL NOT NULL,
    subject TEXT NOT NULL,
    result TEXT NOT NULL,
    explanation TEXT,
    acknowledged_at REAL,
    acknowledged_by TEXT,
    acknowledged_as TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS newest ON results (committed_at, id);
CREATE INDEX IF NOT EXISTS unacknowledged_flags ON results (committed_at, id)
    WHERE acknowledged_at IS NULL AND json_extract(result, '$.status') = 'flagged';
CREATE TABLE IF NOT EXISTS owed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    result_id TEXT NOT NULL REFERENCES results (id),
    body TEXT NOT NULL,
    UNIQUE (kind, result_id)
);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counter VALUES ('seq', 0);
"""


class Journal:
    """One connection, shared by a process's threads one at a time."""

    def __init__(self, path: Path) -> None:
        """Open the file, or create it with its schema."""
        self._lock = RLock()
        self._connection = connect(path)
        with self.transaction() as sql:
            for statement in SCHEMA.split(";\n"):
                sql.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; on the disk when it returns."""
        with self._lock, transaction(self._connection):
            yield self._connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For queries; never waits for writers of other processes (WAL)."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All of it or nothing, also when the COMMIT itself finds no room: the connection is free for the next.

    After some errors SQLite has rolled back by itself (https://www.sqlite.org/lang_transaction.html#immediate).
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def connect(path: Path) -> sqlite3.Connection:
    """A connection as every file of the store wants it: WAL, FULL, rows by name, transactions by hand, mode 0600."""
    path.touch(mode=0o600, exist_ok=True)
    connection = sqlite3.connect(path, timeout=20.0, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    with _alone_in(path.parent):  # SQLite does not wait for another process that is just changing the mode
        connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """One process at a time, by a lock on the folder (flock(2)): one on the file would meddle with SQLite's own."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
