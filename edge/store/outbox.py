"""The outbox: a file of its own, so that `sync` can send what it holds without being able to read about any patient.

Messages leave it only when the broker has acknowledged them. The relay that fills it repeats itself harmlessly: a
message's id is the same each time. Ages are in the box's lifetime, which no setting of a clock changes.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from edge.errors import ScansideError
from edge.store import lifetime
from edge.store.database import Database
from edge.store.doorbell import ring
from edge.store.lifetime import Lifetime, Moment
from edge.store.machine import Machine
from edge.store.repair import Contents, copy_row, rows

LIFE = 30 * 86400.0
"""Seconds after which a summary is old news: the broker hands it on no more, and a repair does not put it again."""


class Class(IntEnum):
    """What kind of thing a message is; the lesser number is sent first."""

    FINDING = 0
    TELEMETRY = 1


class Bound(NamedTuple):
    """How much of one class may wait.

    Attributes:
        rows: Messages, at most.
        bytes: Of their bodies together, at most.
        life: Seconds after which one is dropped; None for never.
    """

    rows: int
    bytes: int
    life: float | None


BOUNDS = {
    Class.FINDING: Bound(rows=1_000_000, bytes=1 << 30, life=None),
    Class.TELEMETRY: Bound(rows=10_000, bytes=32 << 20, life=7 * 86400.0),
}
"""Where findings are full, none is taken: who owes it keeps owing it. Telemetry makes room: its oldest are dropped."""

_OF_KIND = {"summary": Class.FINDING}


def class_of(kind: str) -> Class:
    """What kind of thing messages of this kind are."""
    return _OF_KIND.get(kind, Class.TELEMETRY)


_VERSION = 1
"""Of the schema; 0 knew neither classes nor the box's lifetime."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS messages (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    message_id TEXT NOT NULL UNIQUE,
    class INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    put_at REAL NOT NULL,
    sent INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS in_order ON messages (class, number);
CREATE TABLE IF NOT EXISTS totals (class INTEGER PRIMARY KEY, rows INTEGER NOT NULL, bytes INTEGER NOT NULL);
INSERT OR IGNORE INTO totals VALUES (0, 0, 0), (1, 0, 0);
CREATE TRIGGER IF NOT EXISTS counted AFTER INSERT ON messages BEGIN UPDATE totals
    SET rows = rows + 1, bytes = bytes + length(new.body) WHERE class = new.class; END;
CREATE TRIGGER IF NOT EXISTS discounted AFTER DELETE ON messages BEGIN UPDATE totals
    SET rows = rows - 1, bytes = bytes - length(old.body) WHERE class = old.class; END;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT OR IGNORE INTO counters VALUES ('dropped', 0), ('delivered', 0);
CREATE TABLE IF NOT EXISTS counting (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS incomplete (id INTEGER PRIMARY KEY CHECK (id = 1));
"""


_PUT = "INSERT OR IGNORE INTO messages (message_id, class, kind, body, put_at) VALUES (?, ?, ?, ?, ?)"


class OutboxFull(ScansideError):  # noqa: N818 - a state of the box, not a failure of the call
    """As many findings wait as may: none of these was taken."""


def oldest_news(now: float) -> float:
    """From when on what was answered is still news, at `now`; both in the box's lifetime."""
    return now - LIFE


class OutboxMessage(NamedTuple):
    """One message that waits.

    Attributes:
        number: Its place in the order.
        message_id: What the receiver knows it by.
        kind: `summary`, or one of telemetry.
        body: JSON.
        put_at: When it was put, in the outbox's lifetime.
        sent: It may have been sent as it is: see `mark_sent`.
    """

    number: int
    message_id: str
    kind: str
    body: bytes
    put_at: float
    sent: bool


class Depth(NamedTuple):
    """What waits, and what became of the rest.

    Attributes:
        rows: Messages that wait.
        oldest: Seconds for which the oldest has waited; None when none waits.
        full: No finding is taken any more.
        dropped: Messages of telemetry that were dropped unsent, since the outbox was made.
        delivered: Summaries that a broker has acknowledged, likewise.
    """

    rows: int
    oldest: float | None
    full: bool
    dropped: int
    delivered: int


class Outbox:
    """The waiting messages, oldest first. Safe to share between threads; each process opens its own."""

    def __init__(
        self,
        state_dir: Path,
        clock: Callable[[], float] = time.time,
        machine: Machine | None = None,
        bounds: dict[Class, Bound] = BOUNDS,
    ) -> None:
        """Open the file, or create it.

        Args:
            state_dir: It lies in `outbox/` under it.
            clock: Seconds since the epoch.
            machine: The clocks under it; None for this one's.
            bounds: How much may wait.
        """
        self._state_dir = state_dir
        self._bounds = bounds
        schema = _SCHEMA + lifetime.TABLE.lstrip()
        path = state_dir / "outbox" / "outbox.sqlite"
        self._file = Database(path, schema, _VERSION, contents=Contents(carry_over=_carry_over))
        newest = "SELECT put_at FROM messages ORDER BY number DESC LIMIT 1"
        self._lifetime = Lifetime(self._file, clock, machine or Machine(), newest)

    @property
    def boot(self) -> float:
        """When this boot began, in the outbox's lifetime."""
        return self._lifetime.boot

    def now(self) -> Moment:
        """This moment, its lifetime the outbox's."""
        return self._lifetime.now()

    def remember(self) -> None:
        """Write down that the box lives, so that ages go on from here after a power cut."""
        self._lifetime.remember()

    def put(self, messages: Iterable[tuple[str, str, bytes]]) -> None:
        """Add (message id, kind, body) durably, all of them or none; ids that wait already are left as they are.

        Raises:
            OutboxFull: Findings among them find no room.
        """
        now = self.now().lifetime
        new = [(name, class_of(kind), kind, body, now) for name, kind, body in messages]
        with self._file.transaction() as sql:
            sql.executemany(_PUT, new)
            if any(row[1] is Class.FINDING for row in new) and self._is_over(sql, Class.FINDING):
                raise OutboxFull("the outbox is full: what is found stays owed until the broker takes some of it")
            self._make_room(sql)
        ring(self._state_dir, "sync")

    def put_back(self, messages: Iterable[tuple[str, str, bytes]]) -> None:
        """Add again what was delivered, as it was sent, where the broker may have forgotten it after all."""
        now = self.now().lifetime
        with self._file.transaction() as sql:
            for name, kind, body in messages:
                added = sql.execute(
                    "INSERT OR IGNORE INTO messages (message_id, class, kind, body, put_at, sent)"
                    " VALUES (?, ?, ?, ?, ?, 1)",
                    (name, class_of(kind), kind, body, now),
                )
                if kind == "summary":
                    _count(sql, "delivered", -added.rowcount)
            self._make_room(sql)

    def counting(self) -> bytes | None:
        """What `keep_counting` was given last; None before the first."""
        with self._file.reading() as sql:
            row = sql.execute("SELECT state FROM counting").fetchone()
        return row["state"] if row else None

    def keep_counting(self, state: bytes, messages: Iterable[tuple[str, str, bytes]] = ()) -> None:
        """Keep how far somebody has counted, and put what comes of it, in one transaction: neither without the other.

        Args:
            state: What `counting` is to give.
            messages: Of telemetry, as in `put`.
        """
        now = self.now().lifetime
        with self._file.transaction() as sql:
            sql.execute("INSERT OR REPLACE INTO counting VALUES (1, ?)", (state,))
            sql.executemany(_PUT, [(name, class_of(kind), kind, body, now) for name, kind, body in messages])
            self._make_room(sql)
        ring(self._state_dir, "sync")

    def waiting(self, after: int = 0, limit: int = 20, of: Class | None = None) -> list[OutboxMessage]:
        """The oldest messages with a number above `after`: of one class, or of all."""
        where = "number > ?" if of is None else "class = ? AND number > ?"
        query = (
            f"SELECT number, message_id, kind, body, put_at, sent FROM messages WHERE {where} ORDER BY number LIMIT ?"  # noqa: S608 - our own words
        )
        values = (after, limit) if of is None else (of, after, limit)
        with self._file.reading() as sql:
            return [OutboxMessage(*row) for row in sql.execute(query, values).fetchall()]

    def correct(self, number: int, body: bytes) -> None:
        """Let a message that was not sent yet read otherwise: under one id it always reads the same outside."""
        with self._file.transaction() as sql:
            sql.execute("UPDATE messages SET body = ? WHERE number = ? AND NOT sent", (body, number))

    def mark_sent(self, number: int) -> None:
        """This message is about to be sent as it is, and is corrected no more."""
        with self._file.transaction() as sql:
            sql.execute("UPDATE messages SET sent = 1 WHERE number = ?", (number,))

    def remove(self, numbers: Sequence[int]) -> None:
        """Strike out messages that the broker has acknowledged.

        Not waited for: a power cut may bring some of them back, and the receiver knows their ids.
        """
        with self._file.transaction(durable=False) as sql:
            for number in numbers:
                row = sql.execute("DELETE FROM messages WHERE number = ? RETURNING kind", (number,)).fetchone()
                if row and row["kind"] == "summary":
                    _count(sql, "delivered", 1)

    def drop_old(self) -> None:
        """Drop what has outlived its class."""
        now = self.now().lifetime
        with self._file.transaction() as sql:
            for kind, bound in self._bounds.items():
                if bound.life is not None:
                    old = sql.execute("DELETE FROM messages WHERE class = ? AND put_at < ?", (kind, now - bound.life))
                    _count(sql, "dropped", old.rowcount)

    def depth(self) -> Depth:
        """What waits."""
        with self._file.reading() as sql:
            total = sql.execute("SELECT sum(rows) FROM totals").fetchone()[0]
            oldest = sql.execute("SELECT put_at FROM messages ORDER BY number LIMIT 1").fetchone()
            counted = dict(sql.execute("SELECT name, value FROM counters").fetchall())
            full = self._is_over(sql, Class.FINDING, one_more=True)
        age = max(0.0, self.now().lifetime - oldest[0]) if oldest else None
        return Depth(total, age, full, counted["dropped"], counted["delivered"])

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

    def _is_over(self, sql: sqlite3.Connection, of: Class, *, one_more: bool = False) -> bool:
        """Whether more waits than may, or would with one more message of the usual size."""
        held, size = sql.execute("SELECT rows, bytes FROM totals WHERE class = ?", (of,)).fetchone()
        bound = self._bounds[of]
        usual = size / held if one_more and held else 0
        return bool(held + one_more > bound.rows or size + usual > bound.bytes)

    def _make_room(self, sql: sqlite3.Connection) -> None:
        """Drop the oldest of telemetry while there is too much of it."""
        while self._is_over(sql, Class.TELEMETRY):
            oldest = "SELECT min(number) FROM messages WHERE class = ?"
            sql.execute(f"DELETE FROM messages WHERE number = ({oldest})", (Class.TELEMETRY,))  # noqa: S608 - our own words
            _count(sql, "dropped", 1)


def _count(sql: sqlite3.Connection, name: str, more: int) -> None:
    sql.execute("UPDATE counters SET value = value + ? WHERE name = ?", (more, name))


def _carry_over(broken: sqlite3.Connection | None, new: sqlite3.Connection) -> str:
    """Messages that can be read, and a mark that there were more.

    Who repairs it may have no key to the journal, as `sync`: inference, which has, fills it again.
    """
    new.execute("INSERT INTO incomplete VALUES (1)")
    read = rows(broken, "SELECT * FROM messages ORDER BY number") if broken else ()
    count = sum(copy_row(new, "messages", row, leave_out=("number",)) for row in read)
    for table in ("lifetime", "counting"):
        for row in rows(broken, f"SELECT * FROM {table}") if broken else ():  # noqa: S608 - our own words
            copy_row(new, table, row)
    for row in rows(broken, "SELECT * FROM counters") if broken else ():
        new.execute("UPDATE counters SET value = ? WHERE name = ?", (row["value"], row["name"]))
    return f"{count} messages carried over, those of all results are owed again"
