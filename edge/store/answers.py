"""What was answered, by whom it was seen, and what is still owed for it: what the page and the relay read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from edge.records import OrderDifference, StoredResult
from edge.store.database import Database
from edge.store.doorbell import ring
from edge.store.journal import Columns, next_seq
from edge.store.lifetime import JournalLifetime

RESULT_COLUMNS = (
    "r.*, i.received_at, i.unsynchronised, i.kept,"
    " (SELECT names FROM order_differences WHERE result_id = r.id) AS order_differences"
    " FROM results r JOIN instances i ON i.id = r.instance_id"
)
"""What `Columns.stored_result` reads, and from where."""


class Owed(NamedTuple):
    """Something a committed result owes to others, until `settle` is called with its number."""

    number: int
    kind: str
    result_id: str
    instance_id: str
    body: str


class Queue(NamedTuple):
    """How much waits.

    Attributes:
        depth: Images without a result.
        oldest_received_at: When the oldest arrived, seconds since the epoch; None when none waits.
        oldest_uptime: The same by the machine's uptime, negative before this boot: how long it waits, no clock changes.
    """

    depth: int
    oldest_received_at: float | None
    oldest_uptime: float | None


class Answers:
    """The results in the journal, whoever has committed them.

    Attributes:
        state_dir: The state folder.
        lifetime: What time it is, by clocks that jump and by one that does not.
    """

    def __init__(self, state_dir: Path, journal: Database, columns: Columns, lifetime: JournalLifetime) -> None:
        """Read from an open journal."""
        self.state_dir = state_dir
        self.lifetime = lifetime
        self._journal = journal
        self._columns = columns

    def result(self, result_id: str) -> StoredResult | None:
        """One result, or None."""
        return next(iter(self._results("r.id = ?", (result_id,), 1)), None)

    def result_of(self, instance_id: str) -> StoredResult | None:
        """The result of one accepted object, or None while there is none."""
        return next(iter(self._results("r.instance_id = ?", (instance_id,), 1)), None)

    def results(self, limit: int = 50, before: str | None = None) -> list[StoredResult]:
        """The newest results, newest first; those older than the result `before` when its id is given."""
        if before is None:
            return self._results("1 ORDER BY r.number DESC", (), limit)
        older = "r.number < (SELECT number FROM results WHERE id = ?)"
        return self._results(f"{older} ORDER BY r.number DESC", (before,), limit)

    def results_of_patient(self, patient_id: str, limit: int, before: str | None = None) -> list[StoredResult]:
        """A patient's results, newest first; those older than the result `before`. The others are not opened for it."""
        marks = self._columns.patient_marks(patient_id)
        theirs = f"SELECT number FROM patients WHERE mark IN ({', '.join('?' * len(marks))})"  # noqa: S608 - our own words
        older = " AND r.number < (SELECT number FROM results WHERE id = ?)" if before else ""
        values = (*marks, before) if before else marks
        return self._results(f"r.number IN ({theirs}){older} ORDER BY r.number DESC", values, limit)

    def unacknowledged_flags(self, limit: int = 50) -> list[StoredResult]:
        """Flagged results that no person has answered yet, newest first, however old they are."""
        unanswered = "r.acknowledged_at IS NULL AND r.status = 'flagged'"
        return self._results(f"{unanswered} ORDER BY r.number DESC", (), limit)

    def count_unacknowledged(self, most: int) -> int:
        """How many flagged results no person has answered yet, counted up to `most`; opens none of them."""
        some = (  # by the index, or SQLite reads the results themselves
            "SELECT 1 FROM results INDEXED BY unacknowledged_flags"
            " WHERE acknowledged_at IS NULL AND status = 'flagged' LIMIT ?"
        )
        with self._journal.reading() as sql:
            return int(sql.execute(f"SELECT count(*) FROM ({some})", (most,)).fetchone()[0])  # noqa: S608 - our own words

    def committed_since(self, number: int, limit: int) -> list[StoredResult]:
        """Results whose `number` is larger, in the order of their commits."""
        return self._results("r.number > ? ORDER BY r.number", (number,), limit)

    def changed_since(self, seq: int, limit: int = 100, *, received_since: float = float("-inf")) -> list[StoredResult]:
        """Results committed or acknowledged after `seq`, in that order; `received_since` is in the box's lifetime."""
        return self._results("r.seq > ? AND i.received_lifetime >= ? ORDER BY r.seq", (seq, received_since), limit)

    def last_seq(self) -> int:
        """The newest change's number; 0 before the first."""
        with self._journal.reading() as sql:
            return int(sql.execute("SELECT value FROM counter WHERE name = 'seq'").fetchone()["value"])

    def acknowledge(self, result_id: str, person: str, response: str) -> StoredResult | None:
        """Record that a person has seen a result and what they think of it; the first acknowledgement stands."""
        now = self.lifetime.now()
        lifetime = None if now.synchronised else now.lifetime
        acknowledged_by = self._columns.seal("results.acknowledged_by", result_id, person)
        with self._journal.transaction() as sql:
            sql.execute(
                "UPDATE results SET acknowledged_at = ?, acknowledged_lifetime = ?, acknowledged_by = ?,"
                " acknowledged_as = ?, seq = ? WHERE id = ? AND acknowledged_at IS NULL",
                (now.wall, lifetime, acknowledged_by, response, next_seq(sql), result_id),
            )
        ring(self.state_dir, "web")
        return self.result(result_id)

    def note_order_differences(self, result_id: str, differences: Iterable[OrderDifference]) -> None:
        """Say in what an image and its order in the worklist differ; open pages are told when that is new."""
        names = " ".join(differences)
        with self._journal.transaction() as sql:
            known = sql.execute("SELECT names FROM order_differences WHERE result_id = ?", (result_id,)).fetchone()
            if names == (known["names"] if known else ""):
                return
            sql.execute("INSERT OR REPLACE INTO order_differences VALUES (?, ?)", (result_id, names))
            sql.execute("UPDATE results SET seq = ? WHERE id = ?", (next_seq(sql), result_id))
        ring(self.state_dir, "web")

    def explanation(self, result_id: str) -> str | None:
        """What `commit` was given to draw the explanation."""
        with self._journal.reading() as sql:
            row = sql.execute("SELECT explanation FROM results WHERE id = ?", (result_id,)).fetchone()
            if row is None or row["explanation"] is None:
                return None
            return self._columns.unseal("results.explanation", result_id, row["explanation"]).decode()

    def owed(self, kind: str, limit: int = 100, *, instance_id: str | None = None) -> list[Owed]:
        """What is owed of one kind (`preview`, `summary`), by one instance or by all, oldest first."""
        with self._journal.reading() as sql:
            rows = sql.execute(
                "SELECT o.number, o.kind, o.result_id, r.instance_id, o.body FROM owed o"
                " JOIN results r ON r.id = o.result_id"
                " WHERE o.kind = ? AND r.instance_id = ifnull(?, r.instance_id) ORDER BY o.number LIMIT ?",
                (kind, instance_id, limit),
            ).fetchall()
        return [Owed(*row) for row in rows]

    def settle(self, numbers: Sequence[int]) -> None:
        """Strike out what was delivered."""
        with self._journal.transaction() as sql:
            sql.executemany("DELETE FROM owed WHERE number = ?", [(number,) for number in numbers])

    def must_resend(self) -> bool:
        """Whether summaries may have been lost with a journal, so that all are owed again, until `resent`."""
        with self._journal.reading() as sql:
            return sql.execute("SELECT 1 FROM counter WHERE name = 'resend'").fetchone() is not None

    def resent(self) -> None:
        """All summaries are in the outbox again."""
        with self._journal.transaction() as sql:
            sql.execute("DELETE FROM counter WHERE name = 'resend'")

    def queue(self) -> Queue:
        """How much waits."""
        with self._journal.reading() as sql:
            row = sql.execute(
                # Each half reads its partial index; one query with IN would read every instance there ever was.
                "SELECT count(*) AS depth, min(received_at) AS oldest, min(received_lifetime) AS lifetime FROM ("
                "SELECT received_at, received_lifetime FROM instances WHERE state = 'accepted' UNION ALL "
                "SELECT received_at, received_lifetime FROM instances WHERE state = 'processing')"
            ).fetchone()
        lifetime = row["lifetime"]
        return Queue(row["depth"], row["oldest"], None if lifetime is None else lifetime - self.lifetime.boot)

    def _results(self, condition: str, values: tuple[object, ...], limit: int) -> list[StoredResult]:
        query = f"SELECT {RESULT_COLUMNS} WHERE {condition} LIMIT ?"
        with self._journal.reading() as sql:
            rows = sql.execute(query, (*values, limit)).fetchall()
            return [self._columns.stored_result(row) for row in rows]
