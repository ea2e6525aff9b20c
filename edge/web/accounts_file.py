"""The file of accounts, sessions and failed sign-ins: `<state>/accounts/accounts.sqlite`, mode 0600."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from edge.store.journal import connect

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS accounts (
    name TEXT PRIMARY KEY,
    role TEXT NOT NULL,
    password TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS first_boot (id INTEGER PRIMARY KEY CHECK (id = 1), code TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS sessions (
    token_hash TEXT PRIMARY KEY,
    name TEXT NOT NULL REFERENCES accounts (name) ON DELETE CASCADE,
    used_at REAL NOT NULL
) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS failures (
    subject TEXT PRIMARY KEY,
    count INTEGER NOT NULL,
    last_at REAL NOT NULL
) WITHOUT ROWID""",
)


class AccountsFile:
    """One connection, shared by a process's threads one at a time; `scanside user` may open another meanwhile."""

    def __init__(self, state_dir: Path) -> None:
        """Open the file, or create it with its schema."""
        folder = state_dir / "accounts"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = RLock()
        self._connection = connect(folder / "accounts.sqlite")
        with self.transaction() as sql:
            for statement in _SCHEMA:
                sql.execute(statement)

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it or nothing; on the disk when it returns."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """For queries."""
        with self._lock:
            yield self._connection

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
