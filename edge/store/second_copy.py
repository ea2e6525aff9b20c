"""The second copy: the answers to images that are gone.

As long as an image is in the spool, what a lost page of the journal said of it can be had again from its file. When it
goes, its row and its result are copied here, so that no page of one file is the only place of an answer.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from edge.store.database import Database
from edge.store.journal import SCHEMA, VERSION, know_unanswered
from edge.store.repair import Contents

FILE = "second_copy.sqlite"
_BATCH = 500
_CONTENTS = Contents(migrations={2: lambda _sql: None, 3: know_unanswered})  # what 2 lacks is not kept here
_TABLES = {"instances": "id", "results": "instance_id"}


def discard(state_dir: Path) -> None:
    """Remove the file, which is made anew when it is needed. While nobody has it open. Raises `OSError`."""
    for part in ("", "-wal", "-shm", ".standing"):
        (state_dir / f"{FILE}{part}").unlink(missing_ok=True)


class SecondCopy:
    """A file of the journal's shape, for the one process that removes images. It is opened when it is first needed."""

    def __init__(self, path: Path, journal: Database, has_room: Callable[[], bool]) -> None:
        self._path = path
        self._has_room = has_room
        self._journal = journal
        self._database: Database | None = None

    def add(self, ids: Iterable[str]) -> None:
        """Copy what the journal has of these instances durably; without room for that it is done with the next ones.

        Raises:
            OSError, sqlite3.Error: The disk.
        """
        if self._has_room():
            self._copy(self._opened(), ids)
        else:
            self.close()  # opened again, it is seen to what it lacks

    def forget(self, ids: Iterable[str]) -> None:
        """Remove these instances. Raises `OSError`, `sqlite3.Error`."""
        with self._opened().transaction() as sql:
            for instance_id in ids:
                sql.execute("DELETE FROM results WHERE instance_id = ?", (instance_id,))
                sql.execute("DELETE FROM instances WHERE id = ?", (instance_id,))

    def close(self) -> None:
        """Close the file."""
        if self._database:
            self._database.close()
            self._database = None

    def _opened(self) -> Database:
        """The file; what it lacks, because it is new or was damaged or the keys were changed, is copied first."""
        if self._database is None:
            database = Database(self._path, SCHEMA, VERSION, _CONTENTS)
            try:
                self._copy(database, self._lacking(database))
            except BaseException:
                database.close()
                raise
            self._database = database
        return self._database

    def _lacking(self, database: Database) -> list[str]:
        with database.reading() as sql:
            here = {row["id"] for row in sql.execute("SELECT id FROM instances")}
        with self._journal.reading() as sql:
            gone = [row["id"] for row in sql.execute("SELECT id FROM instances WHERE kept = 'nothing'")]
        return [each for each in gone if each not in here]

    def _copy(self, database: Database, ids: Iterable[str]) -> None:
        wanted = list(ids)
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            rows = [(table, row) for table in _TABLES for each in batch for row in self._rows(table, each)]
            with database.transaction() as sql:
                for table, row in rows:
                    values = ", ".join("?" * len(row))
                    sql.execute(f"INSERT OR REPLACE INTO {table} VALUES ({values})", tuple(row))  # noqa: S608 - our own words
                sql.executemany("UPDATE instances SET kept = 'nothing' WHERE id = ?", [(each,) for each in batch])

    def _rows(self, table: str, instance_id: str) -> list[sqlite3.Row]:
        query = f"SELECT * FROM {table} WHERE {_TABLES[table]} = ?"  # noqa: S608 - our own words
        with self._journal.reading() as sql:
            return sql.execute(query, (instance_id,)).fetchall()
