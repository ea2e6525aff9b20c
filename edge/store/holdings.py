"""What is kept of the objects that were answered: which are the oldest, and how one goes without a trace of a half."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from edge.records import Kept
from edge.store.database import Database
from edge.store.deliveries import UNDELIVERED
from edge.store.retention import Held, Removal
from edge.store.second_copy import SecondCopy
from edge.store.spool import Spool

PICTURES = ("preview.jpg", "overlay.png")
"""The derived pictures of an instance."""

# Nothing that waits for its result, and nothing of which somebody is still owed something. A picture that was not
# drawn yet is owed to nobody but the page, and goes with its image. What a PACS lacks goes last (`retention.py`): one
# that is away for weeks must not fill the disk.
_MAY_GO = (
    "state = 'done' AND NOT EXISTS (SELECT 1 FROM results r JOIN owed o ON o.result_id = r.id"
    " WHERE r.instance_id = instances.id AND o.kind NOT IN ('preview', 'report'))"
)

_OLDEST = (
    f"SELECT *, {UNDELIVERED} AS undelivered FROM instances"  # noqa: S608 - our own words
    f" WHERE kept = ? AND unanswered = ? AND {_MAY_GO} ORDER BY number LIMIT ?"
)
_FIND = f"SELECT 1 FROM instances WHERE id = ? AND {_MAY_GO}"  # noqa: S608 - our own words
_DROP_PREVIEW = (
    "DELETE FROM owed WHERE kind = 'preview' AND result_id IN (SELECT id FROM results WHERE instance_id = ?)"
)
_DROP_OF = {
    table: f"DELETE FROM {table} WHERE result_id IN (SELECT id FROM results WHERE instance_id = ?)"  # noqa: S608 - ours
    for table in ("owed", "deliveries")
}


class Holdings:
    """The journal's account of spool and derived pictures, for the one process that removes from them."""

    def __init__(self, journal: Database, spool: Spool, derived: Spool, second: SecondCopy) -> None:
        self._journal = journal
        self._second = second
        self._spool = spool
        self._derived = derived

    def oldest(self, now: float, limit: int) -> list[Held]:
        """What may go, oldest first: of each kind of `Kept` the oldest `limit` that are unanswered, and as many others.

        `now` is in the box's lifetime.
        """
        with self._journal.reading() as sql:
            rows = [row for kept in Kept for one in (0, 1) for row in sql.execute(_OLDEST, (kept, one, limit))]
        rows.sort(key=lambda row: int(row["number"]))
        return [
            Held(
                row["id"],
                now - row["received_lifetime"],
                Kept(row["kept"]),
                row["size"],
                bool(row["unanswered"]),
                bool(row["undelivered"]),
            )
            for row in rows
        ]

    def remove(self, removals: Iterable[Removal]) -> list[Removal]:
        """Remove what may go of these; those that were.

        Pictures go at once: on a disk without a free byte that makes the room in which the journal can write. Of images
        the journal says it first: what a crash leaves then are files that it knows as removed, and `sweep` has them.
        The other way round it would promise an image that is gone. What it knows of them is copied in the room they
        leave, so that no page of it is the only place of an answer for long.

        Raises:
            OSError, sqlite3.Error: The disk; then a part of it may be done.
        """
        asked, done = list(removals), []
        for removal in asked:
            self.remove_pictures(removal.id)
        with self._journal.transaction() as sql:
            for removal in asked:
                if not sql.execute(_FIND, (removal.id,)).fetchone():
                    continue
                done.append(removal)
                sql.execute(_DROP_PREVIEW, (removal.id,))
                sql.execute("UPDATE instances SET kept = ? WHERE id = ?", (removal.leaves or Kept.NOTHING, removal.id))
        for removal in done:
            self.remove_pictures(removal.id)  # one that was drawn meanwhile
            if removal.leaves is not Kept.IMAGE:
                self._spool.remove(removal.id)
        self._second.add(removal.id for removal in done if removal.leaves is Kept.NOTHING)
        with self._journal.transaction() as sql:  # last the row: a file without one is taken for an image that came
            for removal in done:
                if removal.leaves is None:
                    for table in ("owed", "deliveries"):
                        sql.execute(_DROP_OF[table], (removal.id,))
                    sql.execute("DELETE FROM results WHERE instance_id = ?", (removal.id,))
                    sql.execute("DELETE FROM instances WHERE id = ?", (removal.id,))
        self._second.forget(removal.id for removal in done if removal.leaves is None)
        return done

    def remove_pictures(self, instance_id: str) -> None:
        """Remove the files of an instance's derived pictures. Raises `OSError`."""
        for name in PICTURES:
            self._derived.remove(f"{instance_id}.{name}")

    def kept(self, instance_id: str) -> Kept:
        """What is kept of an object; of one that is not known, nothing."""
        with self._journal.reading() as sql:
            row = sql.execute("SELECT kept FROM instances WHERE id = ?", (instance_id,)).fetchone()
        return Kept(row["kept"]) if row else Kept.NOTHING

    def copy_answers(self) -> None:
        """See to what a crash has kept from being copied. Raises `OSError`, `sqlite3.Error`."""
        self._second.add(())

    def sweep(self, sql: sqlite3.Connection) -> int:
        """Remove the files of what the journal knows as removed; how many. While nobody accepts.

        What is being drawn at the moment stays: its object has its pictures.
        """
        kept = {row["id"]: row["kept"] for row in sql.execute("SELECT id, kept FROM instances")}
        gone = [name for name in self._spool.names() if kept.get(name) == Kept.NOTHING]
        strays = [name for name in self._derived.names() if kept.get(name.partition(".")[0]) != Kept.ALL]
        for name in gone:
            self._spool.remove(name)
        for name in strays:
            self._derived.remove(name)
        return len(gone) + len(strays)
