"""The outbox: a file of its own, so that `sync` can send what it holds without being able to read about any patient.

Messages leave it only when the broker has acknowledged them. The relay that fills it repeats itself harmlessly: a
message's id is the same each time.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from edge.store.database import Database
from edge.store.doorbell import ring
from edge.store.repair import Contents, copy_row, rows

LIFE = 30 * 86400.0
"""Seconds after which a summary is old news: the broker hands it on no more, and a repair does not put it again."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS incomplete (id INTEGER PRIMARY KEY CHECK (id = 1))
"""


def oldest_news(now: float) -> float:
    """From when on what was answered is still news, at `now`; both in the box's lifetime."""
    return now - LIFE


class OutboxMessage(NamedTuple):
    """One message that waits: its number (order), id (for the receiver), kind (`summary`) and JSON body."""

    number: int
    message_id: str
    kind: str
    body: bytes
    created_at: float


class Outbox:
    """The waiting messages, oldest first. Safe to share between threads; each process opens its own."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.time) -> None:
        """Open the file, or create it."""
        self._state_dir = state_dir
        self._clock = clock
        self._file = Database(
            state_dir / "outbox" / "outbox.sqlite", _SCHEMA, contents=Contents(carry_over=_carry_over)
        )

    def put(self, messages: Iterable[tuple[str, str, bytes]]) -> None:
        """Add (message id, kind, body) durably, all of them or none; ids that wait already are left as they are."""
        now = self._clock()
        with self._file.transaction() as sql:
            sql.executemany(
                "INSERT OR IGNORE INTO messages (message_id, kind, body, created_at) VALUES (?, ?, ?, ?)",
                [(*message, now) for message in messages],
            )
        ring(self._state_dir, "sync")

    def waiting(self, after: int = 0, limit: int = 20) -> list[OutboxMessage]:
        """The oldest messages with a number above `after`."""
        query = "SELECT * FROM messages WHERE number > ? ORDER BY number LIMIT ?"
        with self._file.reading() as sql:
            return [OutboxMessage(*row) for row in sql.execute(query, (after, limit)).fetchall()]

    def remove(self, number: int) -> None:
        """Strike out a message that the broker has acknowledged."""
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM messages WHERE number = ?", (number,))

    def depth(self) -> tuple[int, float | None]:
        """How many messages wait, and since when the oldest does."""
        with self._file.reading() as sql:
            row = sql.execute("SELECT count(*), min(created_at) FROM messages").fetchone()
        return int(row[0]), row[1]

    def check(self) -> None:
        """Raise `Damaged` when some service has found the file damaged: end, so that the next start repairs it."""
        self._file.check()

    def is_incomplete(self) -> bool:
        """Whether messages may have been lost with a broken file, until `completed`."""
        with self._file.reading() as sql:
            return sql.execute("SELECT 1 FROM incomplete").fetchone() is not None

    def completed(self) -> None:
        """All that may have been lost has been put again."""
        with self._file.transaction() as sql:
            sql.execute("DELETE FROM incomplete")

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _carry_over(broken: sqlite3.Connection | None, new: sqlite3.Connection) -> str:
    """Messages that can be read, and a mark that there were more.

    Who repairs it may have no key to the journal, as `sync`: inference, which has, fills it again.
    """
    new.execute("INSERT INTO incomplete VALUES (1)")
    read = rows(broken, "SELECT * FROM messages ORDER BY number") if broken else ()
    count = sum(copy_row(new, "messages", row, leave_out=("number",)) for row in read)
    return f"{count} messages carried over, those of all results are owed again"
