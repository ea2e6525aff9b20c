"""Commands of the fleet: what was ordered of this box, how far it is, and what the fleet has heard of that.

A file of its own, as the outbox: `sync` takes orders in and answers, the steward does what needs more than `sync` may.
Each next status is on the disk before anything is done for it, so that whoever is killed goes on where it stood.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.messages.commands import Line, Order, Status, topic
from edge.store.database import Database
from edge.store.doorbell import ring
from edge.store.repair import Contents, copy_row, rows

_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id TEXT PRIMARY KEY,
    operation TEXT NOT NULL,
    text TEXT NOT NULL,
    signature TEXT NOT NULL,
    issued REAL NOT NULL,
    not_after REAL NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL DEFAULT '',
    lines BLOB NOT NULL DEFAULT '[]',
    changed REAL NOT NULL,
    boot TEXT NOT NULL,
    since REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    step BLOB NOT NULL DEFAULT 'null',
    said TEXT NOT NULL DEFAULT ''
);
CREATE TABLE IF NOT EXISTS known (since REAL NOT NULL);
"""

STEWARDS = ("configure", "operating-point", "restart", "self-test")
"""Operations that need the steward; all others are `sync`'s own."""

MOST = 10_000
"""Orders that are remembered at once; more within a week are refused."""


class Now(NamedTuple):
    """A moment: seconds since the epoch, by the box's clock; the boot, and seconds since it."""

    wall: float
    boot: str
    uptime: float


class Ordered(NamedTuple):
    """An order that was taken, and how far it is.

    Attributes:
        id: The order's.
        operation: Its name.
        text: As it was signed, with its signature.
        status: How far it is.
        reason: Why it failed.
        lines: Its answer.
        changed: When it entered this status, seconds since the epoch.
        boot: In which boot it entered this status; `since` is in seconds of that.
        attempts: How often it was begun.
        step: What whoever executes it has noted, so as to go on after a kill; JSON.
    """

    id: str
    operation: str
    text: str
    signature: str
    status: str
    reason: str
    lines: tuple[Line, ...]
    changed: float
    boot: str
    since: float
    attempts: int
    step: bytes


class Orders:
    """The orders of one box. Safe to share between threads; each process opens its own."""

    def __init__(self, state_dir: Path) -> None:
        """Open the file, or create it."""
        self._state_dir = state_dir
        path = state_dir / "orders" / "orders.sqlite"
        self._file = Database(path, _SCHEMA, _VERSION, contents=Contents(carry_over=_carry_over))

    def floor(self) -> float:
        """When the newest order was signed that was ever taken; 0 before the first. No clock falls behind that."""
        with self._file.reading() as sql:
            return float(sql.execute("SELECT ifnull(max(issued), 0.0) FROM orders").fetchone()[0])

    def since(self) -> float:
        """From when on this file knows every order that was taken; 0 for from the first on."""
        with self._file.reading() as sql:
            return float(sql.execute("SELECT ifnull(max(since), 0.0) FROM known").fetchone()[0])

    def know_from(self, now: float) -> None:
        """Orders may have been taken of which this file knows nothing: those issued before `now` count as obeyed."""
        with self._file.transaction() as sql:
            sql.execute("INSERT INTO known VALUES (?)", (now,))

    def take(self, order: Order, signature: str, text: str, now: Now) -> bool:
        """Note an order durably, as `init`; False when there are too many. One that is known stays as it is.

        Forgotten is what ended and would be refused as too late in any case, by the signed times alone.
        """
        row = (order.id, topic(order).name, text, signature, order.issued_at.timestamp(), order.not_after.timestamp())
        with self._file.transaction() as sql:
            ends = (Status.SUCCESSFUL, Status.FAILED)
            newest = max(self.floor(), row[4])
            sql.execute(
                "DELETE FROM orders WHERE not_after < ? AND issued < ? AND status IN (?, ?) AND said = status",
                (newest, newest, *ends),
            )
            if sql.execute("SELECT count(*) FROM orders").fetchone()[0] >= MOST:
                return False
            sql.execute(
                "INSERT OR IGNORE INTO orders (id, operation, text, signature, issued, not_after, status, changed,"
                " boot, since) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*row, Status.INIT, now.wall, now.boot, now.uptime),
            )
        ring(self._state_dir, "steward")
        return True

    def get(self, order_id: str) -> Ordered | None:
        """One order, or None when it is not known."""
        with self._file.reading() as sql:
            row = sql.execute("SELECT * FROM orders WHERE id = ?", (order_id,)).fetchone()
        return _ordered(row) if row else None

    def open(self, operations: Iterable[str]) -> list[Ordered]:
        """Those of these operations that have not ended, oldest first."""
        names = tuple(operations)
        query = f"SELECT * FROM orders WHERE operation IN ({', '.join('?' * len(names))})"  # noqa: S608 - question marks
        query += " AND status IN (?, ?) ORDER BY rowid"
        with self._file.reading() as sql:
            return [_ordered(row) for row in sql.execute(query, (*names, Status.INIT, Status.EXECUTING)).fetchall()]

    def begin(self, order_id: str, now: Now) -> bool:
        """Note that it is being executed (again); False when it has ended meanwhile."""
        query = (
            "UPDATE orders SET status = ?, changed = iif(status = ?, ?, changed), boot = ?, since = ?,"
            " attempts = attempts + 1 WHERE id = ? AND status IN (?, ?)"
        )
        values = (
            Status.EXECUTING,
            Status.INIT,
            now.wall,
            now.boot,
            now.uptime,
            order_id,
            Status.INIT,
            Status.EXECUTING,
        )
        return self._change(query, values)

    def note(self, order_id: str, step: bytes) -> None:
        """Note how far the execution is, before the next thing is done."""
        self._change("UPDATE orders SET step = ? WHERE id = ?", (step, order_id))

    def end(self, order_id: str, status: Status, now: float, reason: str = "", lines: Iterable[Line] = ()) -> bool:
        """It was successful, or failed with a reason; False when it had ended already."""
        body = msgspec.json.encode(tuple(lines))
        query = "UPDATE orders SET status = ?, reason = ?, lines = ?, changed = ? WHERE id = ? AND status IN (?, ?)"
        return self._change(query, (status, reason, body, now, order_id, Status.INIT, Status.EXECUTING))

    def unsaid(self) -> list[Ordered]:
        """Those whose present status the broker has not acknowledged yet, oldest first."""
        with self._file.reading() as sql:
            query = "SELECT * FROM orders WHERE said != status AND status != ? ORDER BY rowid LIMIT 20"
            return [_ordered(row) for row in sql.execute(query, (Status.INIT,)).fetchall()]

    def said(self, order_id: str, status: str) -> None:
        """The broker has this status, or another one that should be said once more is forgotten (`status` empty)."""
        self._change("UPDATE orders SET said = ? WHERE id = ?", (status, order_id))

    def check(self) -> None:
        """Raise `Damaged` when some service has found the file damaged: end, so that the next start repairs it."""
        self._file.check()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _change(self, query: str, values: tuple[object, ...]) -> bool:
        with self._file.transaction() as sql:
            changed = sql.execute(query, values).rowcount > 0
        ring(self._state_dir, "sync")
        return changed


def _ordered(row: sqlite3.Row) -> Ordered:
    fields = {name: row[name] for name in Ordered._fields}
    fields["lines"] = msgspec.json.decode(row["lines"], type=tuple[Line, ...])
    return Ordered(**fields)


def _carry_over(broken: sqlite3.Connection | None, new: sqlite3.Connection) -> str:
    for row in rows(broken, "SELECT * FROM known") if broken else ():
        copy_row(new, "known", row)
    read = rows(broken, "SELECT * FROM orders ORDER BY rowid") if broken else ()
    return f"{sum(copy_row(new, 'orders', row) for row in read)} orders carried over"
