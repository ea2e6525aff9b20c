"""The box's lifetime: seconds that grow as the box lives, whatever anybody sets its clocks to.

Order, waiting times and ages are measured by it, so that a wall clock that leaps by years makes nothing old. Within a
boot it is the machine's uptime. Between two boots it goes on by what the wall clock says has passed, between nothing
and `LONGEST_OFF`: a hardware clock without a battery can be wrong by decades.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from edge.store.database import Database
from edge.store.machine import Machine

LONGEST_OFF = 3 * 86400.0
"""Seconds that the box may have been off, at most, as far as it believes: a weekend."""

TABLE = """
CREATE TABLE IF NOT EXISTS lifetime (
    boot_id TEXT NOT NULL,
    boot REAL NOT NULL,
    seen REAL NOT NULL,
    seen_at REAL NOT NULL
);
"""
"""Where a file keeps it."""

_NEWEST = """
SELECT max(at) FROM (
    SELECT * FROM (SELECT received_lifetime AS at FROM instances ORDER BY number DESC LIMIT 1)
    UNION ALL SELECT max(committed_lifetime) FROM results WHERE committed_lifetime IS NOT NULL
    UNION ALL SELECT max(acknowledged_lifetime) FROM results WHERE acknowledged_lifetime IS NOT NULL
)
"""
"""The last time in the journal. After a power cut, on a box whose clock begins anew, it is all that is known."""

_CORRECTIONS = (
    "UPDATE instances SET received_at = :zero + received_lifetime, unsynchronised = 0"
    " WHERE unsynchronised AND received_lifetime > :boot",
    "UPDATE results SET committed_at = :zero + committed_lifetime, committed_lifetime = NULL"
    " WHERE committed_lifetime > :boot",
    "UPDATE results SET acknowledged_at = :zero + acknowledged_lifetime, acknowledged_lifetime = NULL"
    " WHERE acknowledged_lifetime > :boot",
)


class Seen(NamedTuple):
    """When the box last said that it lives: in its lifetime, and by the wall clock."""

    lifetime: float
    wall: float


class Moment(NamedTuple):
    """One moment: by the wall clock (seconds since the epoch), whether that is known to be right, in the lifetime."""

    wall: float
    synchronised: bool
    lifetime: float


def at_boot(seen: Seen | None, uptime: float, wall: float) -> float:
    """The lifetime at which this boot began, from what was seen of the boot before: of a new box that is minus uptime.

    Args:
        seen: None on a new box, whose lifetime begins now.
        uptime: Seconds that this boot has lasted.
        wall: What the wall clock says now.
    """
    if seen is None:
        return -uptime
    off = min(max(0.0, wall - seen.wall - uptime), LONGEST_OFF)
    return seen.lifetime + off


class Lifetime:
    """The clocks of what one file holds."""

    def __init__(self, file: Database, wall: Callable[[], float], machine: Machine, newest: str) -> None:
        """Go on from where the file says that the box was; the first to come after a boot writes down where.

        Args:
            file: One with a `TABLE`.
            wall: Seconds since the epoch.
            machine: The clocks under it.
            newest: Query for the lifetime that the newest row states: the lifetime never goes back behind it.
        """
        self._file = file
        self._wall = wall
        self._machine = machine
        self._newest = newest
        self.boot = self._begin()

    def now(self) -> Moment:
        """This moment."""
        return Moment(self._wall(), self._machine.synchronised(), self.boot + self._machine.uptime())

    def remember(self) -> None:
        """Write down that the box lives: from here its lifetime goes on after a power cut."""
        now = self.now()
        with self._file.transaction() as sql:
            sql.execute("UPDATE lifetime SET seen = ?, seen_at = ?", (now.lifetime, now.wall))

    def _begin(self) -> float:
        boot_id = self._machine.boot_id()
        with self._file.transaction() as sql:
            row = sql.execute("SELECT * FROM lifetime").fetchone()
            if row and row["boot_id"] == boot_id:
                return float(row["boot"])
            uptime, wall = self._machine.uptime(), self._wall()
            boot = at_boot(self._seen(sql, row, wall), uptime, wall)
            sql.execute("DELETE FROM lifetime")
            sql.execute("INSERT INTO lifetime VALUES (?, ?, ?, ?)", (boot_id, boot, boot + uptime, wall))
        return boot

    def _seen(self, sql: sqlite3.Connection, row: sqlite3.Row | None, wall: float) -> Seen | None:
        found = sql.execute(self._newest).fetchone()
        newest = found[0] if found else None
        if row is None:  # a new box, or one whose file was made again
            return None if newest is None else Seen(newest, wall)
        return Seen(row["seen"] if newest is None else max(row["seen"], newest), row["seen_at"])


class JournalLifetime(Lifetime):
    """The clocks of the journal, which sets right what was written down while the wall clock was not."""

    def __init__(self, journal: Database, wall: Callable[[], float], machine: Machine) -> None:
        """Go on from where the journal says that the box was."""
        super().__init__(journal, wall, machine, _NEWEST)

    def correct(self) -> int:
        """Once the wall clock is known to be right: set the times right that were taken in this boot before; how many.

        Those of an earlier boot stay marked: by how much its clock was wrong is not known.
        """
        now = self.now()
        if not now.synchronised:
            return 0
        known = {"zero": now.wall - now.lifetime, "boot": self.boot}  # a time is zero + its lifetime
        with self._file.transaction() as sql:
            return sum(sql.execute(statement, known).rowcount for statement in _CORRECTIONS)
