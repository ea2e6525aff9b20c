"""What of the results must still reach a PACS: one row for each object and destination, and the objects' bytes.

An object is made once and kept as it is until every destination has it, so that what is sent again is the same to the
last byte. The reporting service is the one owner of rows and files; the keeper alone removes rows with their result.
"""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from edge.store.answers import Owed
from edge.store.database import Database
from edge.store.order import in_turn
from edge.store.spool import Spool
from edge.store.vault import Tampered, Vault

FOLDER = "reports"
OBJECTS = ("sr", "sc", "pr", "seg", "oru", "ups")
"""The kinds of objects that are made of a result."""

KIND = "report"
"""Of what is owed while a result has no rows here yet."""

MOST_TRIES = 10
"""How often a service may end while it makes the objects of one result, before that is parked."""

BACKLOG_AFTER = 60.0
"""Seconds of the box's lifetime since its image came, after which a result is backlog (`order.py`): twice as long as
its objects wait at most until they are made."""

_COMPRESSION = 1

_LOOKED_AT = 1000
"""Rows at either end of the queue among which a choice is made, so that it costs the same behind any backlog. What is
fresh is at its end."""

_PRIORITY = "iif(r.status = 'flagged', 0, i.priority)"
_BACKLOG = f"(i.received_lifetime < :since OR {_PRIORITY} >= 2)"


def _first(by_age: str, before: str = "") -> str:
    """SQL for the result that is first in the order of `order.py`, out of SQL for number, result_id ... by number."""
    return (
        f"SELECT d.*, r.instance_id FROM (SELECT * FROM ({by_age} LIMIT {_LOOKED_AT})"  # noqa: S608 - our own words
        f" UNION ALL SELECT * FROM ({by_age} DESC LIMIT {_LOOKED_AT})) d"
        " JOIN results r ON r.id = d.result_id JOIN instances i ON i.id = r.instance_id"
        f" ORDER BY {before}{in_turn(_BACKLOG, _PRIORITY, 'd.number')} LIMIT 1"
    )


_RESTING = "(SELECT value FROM json_each(:resting))"
_WAITING = f"destination = :destination AND state = 'waiting' AND number NOT IN {_RESTING}"
_BY_AGE = f"SELECT number, result_id FROM deliveries WHERE {_WAITING} ORDER BY number"  # noqa: S608 - our own words
_OF_RESULT = (
    "SELECT number, result_id, destination, object, form FROM deliveries"  # noqa: S608 - our own words
    f" WHERE result_id = :result AND {_WAITING} ORDER BY number"
)
_OWED = (
    "SELECT number, result_id, kind, body FROM owed"  # noqa: S608 - our own words
    f" WHERE kind = '{KIND}' AND result_id NOT IN {_RESTING} ORDER BY number"
)
_TRIES = "CAST(d.body AS INTEGER), "

_UNDELIVERED = (
    "EXISTS (SELECT 1 FROM results r JOIN deliveries d ON d.result_id = r.id"
    " WHERE r.instance_id = instances.id AND d.state != 'parked')"
    " OR EXISTS (SELECT 1 FROM results r JOIN owed o ON o.result_id = r.id"
    " WHERE r.instance_id = instances.id AND o.kind = 'report')"
)
UNDELIVERED = f"({_UNDELIVERED})"
"""Of a row of `instances`: whether its result must still reach a PACS. What is parked waits for a person."""


class Row(NamedTuple):
    """One object that a destination lacks.

    Attributes:
        number: Its place in the order.
        object: One of `OBJECTS`.
        form: The SOP Class that it was first sent as; empty before. It is kept to, or the same would have two UIDs.
    """

    number: int
    result_id: str
    destination: str
    object: str
    form: str


class Next(NamedTuple):
    """What a destination is to have next: all of one result that it lacks, and whether nothing older waits for it."""

    rows: tuple[Row, ...] = ()
    is_oldest: bool = True


class Standing(NamedTuple):
    """How many objects of a destination wait, lack their storage commitment, are parked."""

    waiting: int = 0
    stored: int = 0
    parked: int = 0


class Deliveries:
    """The journal's account of what is on its way to a PACS."""

    def __init__(self, journal: Database, vault: Vault, state_dir: Path) -> None:
        self._journal = journal
        self._vault = vault
        self._folder = state_dir / FOLDER

    def try_to_make(self, owed: int) -> int:
        """Count a try at the objects of what is owed under this number; how many there were with this one."""
        with self._journal.transaction(durable=False) as sql:
            sql.execute("UPDATE owed SET body = CAST(body AS INTEGER) + 1 WHERE number = ?", (owed,))
            row = sql.execute("SELECT body FROM owed WHERE number = ?", (owed,)).fetchone()
            return int(row["body"]) if row else 0

    def made(
        self, owed: int, result_id: str, objects: Mapping[str, bytes], wanted: Sequence[tuple[str, str, str]]
    ) -> None:
        """Keep a result's objects durably, and that they are wanted; from now on it is owed by destination.

        Args:
            owed: The number under which it was.
            result_id: The result.
            objects: Bytes by kind.
            wanted: Destination, kind and, for what cannot be sent, the reason for which it is parked.

        Raises:
            OSError, sqlite3.Error: The disk. Nothing was sent, so that all of it may be done again.
        """
        for name, data in objects.items():
            file = f"{result_id}.{name}"
            self._spool().write(file, self._vault.seal(zlib.compress(data, _COMPRESSION), f"{FOLDER}:{file}"))
        with self._journal.transaction() as sql:
            sql.executemany(
                "INSERT OR IGNORE INTO deliveries (result_id, destination, object, state, reason)"
                " VALUES (?, ?, ?, ?, ?)",
                [(result_id, to, name, "parked" if reason else "waiting", reason) for to, name, reason in wanted],
            )
            sql.execute("DELETE FROM owed WHERE number = ?", (owed,))

    def next_result(self, destination: str, resting: Collection[int], now: float, *, backlogs: bool) -> Next:
        """The result whose objects a destination is to have next, in the order of `order.py`, flags being urgent.

        Args:
            destination: Its name.
            resting: Numbers of the rows that are not due.
            now: The box's lifetime.
            backlogs: Whether it is the backlog's turn.
        """
        order = _order(resting, now, backlogs=backlogs) | {"destination": destination}
        with self._journal.reading() as sql:
            chosen = sql.execute(_first(_BY_AGE), order).fetchone()
            if chosen is None:
                return Next()
            oldest = sql.execute(f"{_BY_AGE} LIMIT 1", order).fetchone()
            rows = sql.execute(_OF_RESULT, order | {"result": chosen["result_id"]}).fetchall()
        return Next(tuple(Row(*row) for row in rows), chosen["result_id"] == oldest["result_id"])

    def next_to_make(self, resting: Collection[str], now: float, *, backlogs: bool) -> tuple[Owed | None, bool]:
        """The result whose objects are made next, in the same order, and whether nothing older is owed.

        What was in hand when a service ended goes after all that was less often. `resting`: results that are not ready.
        """
        order = _order(resting, now, backlogs=backlogs)
        with self._journal.reading() as sql:
            row = sql.execute(_first(_OWED, _TRIES), order).fetchone()
            if row is None:
                return None, True
            oldest = sql.execute(f"{_OWED} LIMIT 1", order).fetchone()
        owed = Owed(row["number"], row["kind"], row["result_id"], row["instance_id"], row["body"])
        return owed, owed.number == oldest["number"]

    def uncommitted(self, destination: str, limit: int) -> list[Row]:
        """What a destination has, but has not committed to keep."""
        query = (
            "SELECT number, result_id, destination, object, form FROM deliveries"
            " WHERE destination = ? AND state = 'stored' ORDER BY number LIMIT ?"
        )
        with self._journal.reading() as sql:
            return [Row(*row) for row in sql.execute(query, (destination, limit))]

    def sending(self, forms: Iterable[tuple[int, str]]) -> None:
        """Note, before the first byte goes, as what SOP Class objects are sent, by number."""
        with self._journal.transaction() as sql:
            sql.executemany("UPDATE deliveries SET form = ? WHERE number = ?", [(form, at) for at, form in forms])

    def stored(self, numbers: Iterable[int]) -> None:
        """A destination has these; it must still commit to keep them."""
        with self._journal.transaction() as sql:
            sql.executemany("UPDATE deliveries SET state = 'stored' WHERE number = ?", [(at,) for at in numbers])

    def again(self, numbers: Iterable[int]) -> None:
        """A destination does not keep these after all: they wait again."""
        with self._journal.transaction() as sql:
            sql.executemany("UPDATE deliveries SET state = 'waiting' WHERE number = ?", [(at,) for at in numbers])

    def park(self, number: int, reason: str) -> None:
        """A person must see to it; `reason` stays in clear: words of our own alone."""
        with self._journal.transaction() as sql:
            sql.execute("UPDATE deliveries SET state = 'parked', reason = ? WHERE number = ?", (reason, number))

    def unpark(self, destination: str | None = None) -> int:
        """Let parked objects wait again, of one destination or of all; how many. Those never made are made again."""
        chosen = "state = 'parked' AND destination = ifnull(?, destination)"
        with self._journal.transaction() as sql:
            query = f"SELECT DISTINCT result_id FROM deliveries WHERE {chosen}"  # noqa: S608 - our own words
            results = [row["result_id"] for row in sql.execute(query, (destination,))]
            changed = sql.execute(
                f"DELETE FROM deliveries WHERE {chosen} AND form = ''",  # noqa: S608 - our own words
                (destination,),
            ).rowcount
            changed += sql.execute(
                f"UPDATE deliveries SET state = 'waiting', reason = '' WHERE {chosen}",  # noqa: S608 - our own words
                (destination,),
            ).rowcount
            _owe(sql, results)
        return int(changed)

    def delivered(self, numbers: Iterable[int]) -> None:
        """Strike out what a destination has for good; a result's bytes are removed when nobody lacks any of them."""
        gone = []
        with self._journal.transaction() as sql:
            for number in numbers:
                row = sql.execute("DELETE FROM deliveries WHERE number = ? RETURNING result_id", (number,)).fetchone()
                wanted = "SELECT 1 FROM deliveries WHERE result_id = ?"
                if row and not sql.execute(wanted, (row["result_id"],)).fetchone():
                    gone.append(row["result_id"])
        spool = self._spool()
        for result_id in gone:
            for name in OBJECTS:
                spool.remove(f"{result_id}.{name}")

    def make_again(self, result_id: str) -> None:
        """The bytes of a result's objects are lost: it is owed anew, and the same is made under the same UIDs."""
        with self._journal.transaction() as sql:
            sql.execute("DELETE FROM deliveries WHERE result_id = ? AND state = 'waiting'", (result_id,))
            _owe(sql, [result_id])

    def owe_since(self, lifetime: float) -> int:
        """Owe the reports of all results received since then that are not on their way; how many. After a repair."""
        with self._journal.transaction() as sql:
            rows = sql.execute(
                "SELECT r.id FROM results r JOIN instances i ON i.id = r.instance_id WHERE i.received_lifetime >= ?"
                " AND i.kept != 'nothing' AND NOT EXISTS (SELECT 1 FROM deliveries d WHERE d.result_id = r.id)",
                (lifetime,),
            ).fetchall()
            _owe(sql, [row["id"] for row in rows])
            sql.execute("DELETE FROM counter WHERE name = 'report_again'")
        return len(rows)

    def must_owe_again(self) -> bool:
        """Whether rows may have been lost with a journal, until `owe_since`."""
        with self._journal.reading() as sql:
            return sql.execute("SELECT 1 FROM counter WHERE name = 'report_again'").fetchone() is not None

    def read(self, result_id: str, name: str) -> bytes | None:
        """An object's bytes; None when they are lost or are not what was written."""
        file = f"{result_id}.{name}"
        try:
            return zlib.decompress(self._vault.unseal(self._spool().read(file), f"{FOLDER}:{file}"))
        except (FileNotFoundError, Tampered, zlib.error):
            return None

    def standing(self) -> dict[str, Standing]:
        """How much waits, by destination."""
        query = "SELECT destination, state, count(*) AS number FROM deliveries GROUP BY destination, state"
        found: dict[str, Standing] = {}
        with self._journal.reading() as sql:
            for row in sql.execute(query):
                before = found.get(row["destination"], Standing())
                found[row["destination"]] = before._replace(**{row["state"]: row["number"]})
        return found

    def parked(self, limit: int = 100) -> list[tuple[str, str, str, str]]:
        """Destination, result, object and reason of what a person must see to, the newest first."""
        query = (
            "SELECT destination, result_id, object, reason FROM deliveries WHERE state = 'parked'"
            " ORDER BY number DESC LIMIT ?"
        )
        with self._journal.reading() as sql:
            return [tuple(row) for row in sql.execute(query, (limit,))]

    def sweep(self, destinations: Sequence[str]) -> int:
        """Forget destinations that are configured no more, and files that nobody lacks; how many files.

        For the one service that makes and sends, before it does.
        """
        with self._journal.transaction() as sql:
            others = ", ".join("?" * len(destinations))
            sql.execute(
                f"DELETE FROM deliveries WHERE destination NOT IN ({others})",  # noqa: S608 - question marks
                list(destinations),
            )
            wanted = {row["result_id"] for row in sql.execute("SELECT result_id FROM deliveries")}
        spool = self._spool()
        strays = [name for name in spool.names() if name.partition(".")[0] not in wanted]
        for name in strays:
            spool.remove(name)
        return len(strays) + spool.discard_incoming()

    def _spool(self) -> Spool:
        return Spool(self._folder)


def _order(resting: Collection[int] | Collection[str], now: float, *, backlogs: bool) -> dict[str, str | float]:
    return {"resting": json.dumps(list(resting)), "since": now - BACKLOG_AFTER, "turn": backlogs}


def _owe(sql: sqlite3.Connection, result_ids: Iterable[str]) -> None:
    sql.executemany(
        "INSERT OR IGNORE INTO owed (kind, result_id, body) VALUES (?, ?, '0')", [(KIND, each) for each in result_ids]
    )
