"""Salvage: what is known of a journal's contents by who opens it, and what of a broken one goes into the new one.

Rows are read one by one, each under its own key, so that a damaged page costs what stands on it and nothing else. A row
is believed when all its sealed values open. What was lost of it comes from the spool, or is owed again: an image
without its row is accepted once more, one without its result is analysed again under the same result id. Answers to
images that are gone have their second copy (`second_copy.py`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from edge.store.adoption import adopt
from edge.store.damage import is_failing_disk
from edge.store.journal import SEALED, Columns, mark_patients
from edge.store.keys import VaultLocked
from edge.store.repair import copy_row, reading, rows
from edge.store.spool import Spool
from edge.store.vault import Tampered, Vault

SEQ_GAP = 1_000_000
"""How far the numbers of changes leap: those that open pages know must not come again, readable or not."""

MOST_FAILURES = 20_000
"""After how many rows in a row that cannot be read the rest is given up."""

MOST_READS = 50
"""How often a row is read on a disk that fails now and then, before it counts as unreadable."""

MOST_AGAIN = 10_000
"""How often that is tried in all: on a disk that always fails it would take for ever."""

_WITH_PICTURES = "SELECT r.id, r.instance_id FROM results r JOIN instances i ON i.id = r.instance_id AND i.kept = 'all'"
_NEXT = "SELECT * FROM instances WHERE number > ? ORDER BY number LIMIT 1"


class JournalContents:
    """Knows the journal's rows. The vault is made when it is first needed: a journal of another version has no key."""

    def __init__(self, vault: Callable[[], Vault], spool: Spool, derived: Spool, second: Path) -> None:
        """`second` is where the second copy of answers is whose image is gone, if there is one."""
        self._vault = vault
        self._second = second
        self._spool = spool
        self._derived = derived

    def look(self, sql: sqlite3.Connection, thorough: bool) -> str:
        """Whether the ring's proof opens; `thorough` tries each sealed value. Another ring's journal is not damaged."""
        vault = self._vault()
        for (sealed,) in sql.execute("SELECT sealed FROM vault"):
            try:
                vault.unseal(sealed, "journal")
            except VaultLocked:
                return ""  # whoever opens it says so
            except Tampered:
                return "what proves its key does not open"
        if thorough:
            columns = Columns(vault)
            for table in SEALED:
                for row in sql.execute(f"SELECT * FROM {table}"):  # noqa: S608 - our own words
                    if not columns.opens(table, row):
                        return f"a row of {table} does not open"
        return ""

    def carry_over(self, broken: sqlite3.Connection | None, new: sqlite3.Connection) -> str:
        """All that can be read, the spool's files of which nothing could be read, and what of both is owed again."""
        vault, spool = self._vault(), self._spool
        columns = Columns(vault)
        with ExitStack() as opened:
            second = self._open_second(opened)
            sources = [_Broken(sql, columns) for sql in (broken, second) if sql]
            instances = sum(copy_row(new, "instances", row) for source in sources for row in source.instances())
            adoption = adopt(new, spool, vault, columns)
            ids = [row["id"] for row in new.execute("SELECT id FROM instances")]
            results = sum(copy_row(new, "results", row) for source in sources for row in source.results(ids))
        if broken:
            for row in rows(broken, "SELECT * FROM owed ORDER BY number"):
                copy_row(new, "owed", row, leave_out=("number",))
            for row in rows(broken, "SELECT * FROM deliveries ORDER BY number"):
                copy_row(new, "deliveries", row, leave_out=("number",))
            for row in rows(broken, "SELECT * FROM order_differences"):
                copy_row(new, "order_differences", row)
            for row in rows(broken, "SELECT * FROM lifetime"):
                copy_row(new, "lifetime", row)
        mark_patients(new, columns)
        self._settle(new)
        return (
            f"{instances} images and {results} results carried over, {adoption.adopted} images put back from the spool;"
            f" {adoption.broken} spool files set aside, {adoption.locked} under another key"
        )

    def _open_second(self, opened: ExitStack) -> sqlite3.Connection | None:
        if not self._second.exists():
            return None
        with suppress(sqlite3.Error):
            return opened.enter_context(closing(reading(self._second)))
        return None

    def _settle(self, new: sqlite3.Connection) -> None:
        """Make states and debts fit what is there now."""
        answered = "EXISTS (SELECT 1 FROM results r WHERE r.instance_id = instances.id)"
        new.execute(f"DELETE FROM instances WHERE kept = 'nothing' AND NOT {answered}")  # noqa: S608 - our own words
        # Who had an answer is not to blame for its loss: attempts that ended without one begin anew.
        new.execute("UPDATE instances SET attempts = 0 WHERE state = 'done'")
        new.execute(f"UPDATE instances SET state = iif({answered}, 'done', 'accepted')")  # noqa: S608 - our own words
        drawn = {name.partition(".")[0] for name in self._derived.names()}
        undrawn = [(row[0],) for row in new.execute(_WITH_PICTURES) if row[1] not in drawn]
        new.executemany("INSERT OR IGNORE INTO owed (kind, result_id, body) VALUES ('preview', ?, '')", undrawn)
        new.execute(
            "UPDATE counter SET value = max(value, (SELECT ifnull(max(seq), 0) FROM results)) + ? WHERE name = 'seq'",
            (SEQ_GAP,),
        )
        new.execute("INSERT OR REPLACE INTO counter VALUES ('resend', 1), ('report_again', 1)")


class _Broken:
    """A broken journal, of which any query may fail. Debts that cannot be read are owed again as a whole."""

    def __init__(self, sql: sqlite3.Connection, columns: Columns) -> None:
        self._columns = columns
        self._sql = sql
        self._again = MOST_AGAIN

    def instances(self) -> Iterator[sqlite3.Row]:
        """Those that can be read, in their order."""
        number, failures = 0, 0
        while failures < MOST_FAILURES:
            try:
                row = self._read(_NEXT, number)
            except sqlite3.Error:
                row, failures, number = None, failures + 1, number + 1
                continue
            if row is None:
                return
            if row["number"] <= number:  # a damaged page leads back
                failures, number = failures + 1, number + 1
                continue
            failures, number = 0, row["number"]
            if self._columns.opens("instances", row):
                yield row

    def results(self, instance_ids: Sequence[str]) -> Iterator[sqlite3.Row]:
        """The results of these instances that can be read."""
        for instance_id in instance_ids:
            row = None
            with suppress(sqlite3.Error):
                row = self._read("SELECT * FROM results WHERE id > ? AND id < ?", f"{instance_id}-", f"{instance_id}.")
            if row and self._columns.opens("results", row):
                yield row

    def _read(self, query: str, *values: object) -> sqlite3.Row | None:
        """The first row. An image that is gone has its answer here alone, so a disk that fails is asked again."""
        for _ in range(MOST_READS - 1):
            try:
                return self._first(query, values)
            except sqlite3.Error as error:
                if not is_failing_disk(error) or not self._again:
                    raise
                self._again -= 1
        return self._first(query, values)

    def _first(self, query: str, values: Sequence[object]) -> sqlite3.Row | None:
        row: sqlite3.Row | None = self._sql.execute(query, values).fetchone()
        return row
