"""The journal: the SQLite file that says what was accepted, answered and is owed, and how its columns are sealed.

What can identify is sealed, or marked where it must be found again; in clear stands what queries need: states, times,
sizes, the kind of answer, and the summaries that are to leave the box anyway.
"""

from __future__ import annotations

import sqlite3
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from edge import reasons
from edge.records import Arrival, Instance, Kept, OrderDifference, Priority, Result, StoredResult, Subject
from edge.store import lifetime
from edge.store.damage import Damaged
from edge.store.database import Database
from edge.store.keys import VaultLocked
from edge.store.lifetime import Moment
from edge.store.vault import Tampered, Vault

VERSION = 4
"""Of the schema (`PRAGMA user_version`); 2 had no `patients`, 3 no `unanswered`. Older ones are not read: 0 was that of
journals in clear, 1 did not know how long a result took."""

_PATIENTS = """CREATE TABLE IF NOT EXISTS patients (
    number INTEGER PRIMARY KEY REFERENCES results (number) ON DELETE CASCADE,
    mark TEXT NOT NULL
)"""

# Lifetimes are the box's (`lifetime.py`). Those of a result stand beside times that are not known to be right.
# `unanswered` says again what the results say, for the index of what may go: its triggers alone write it.
SCHEMA = """
CREATE TABLE IF NOT EXISTS vault (id INTEGER PRIMARY KEY CHECK (id = 1), sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS instances (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    object_mark TEXT NOT NULL,
    uid_mark TEXT,
    bytes_mark TEXT NOT NULL,
    size INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    received_at REAL NOT NULL,
    received_lifetime REAL NOT NULL,
    unsynchronised INTEGER NOT NULL,
    kept TEXT NOT NULL DEFAULT 'all' CHECK (kept IN ('all', 'image', 'nothing')),
    state TEXT NOT NULL DEFAULT 'accepted' CHECK (state IN ('accepted', 'processing', 'done')),
    attempts INTEGER NOT NULL DEFAULT 0,
    record BLOB NOT NULL,
    unanswered INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX IF NOT EXISTS same_object ON instances (object_mark) WHERE kept != 'nothing';
CREATE INDEX IF NOT EXISTS same_uid ON instances (uid_mark);
CREATE INDEX IF NOT EXISTS queue ON instances (number, priority, received_lifetime) WHERE state = 'accepted';
CREATE INDEX IF NOT EXISTS oldest_to_go ON instances (kept, unanswered, number) WHERE state = 'done';
CREATE INDEX IF NOT EXISTS unsynchronised ON instances (received_lifetime) WHERE unsynchronised;
CREATE INDEX IF NOT EXISTS in_work ON instances (number) WHERE state = 'processing';
CREATE TABLE IF NOT EXISTS results (
    id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES instances (id),
    seq INTEGER NOT NULL UNIQUE,
    number INTEGER NOT NULL UNIQUE,
    committed_at REAL NOT NULL,
    committed_lifetime REAL,
    waited REAL NOT NULL,
    status TEXT NOT NULL,
    subject BLOB NOT NULL,
    result BLOB NOT NULL,
    explanation BLOB,
    acknowledged_at REAL,
    acknowledged_lifetime REAL,
    acknowledged_by BLOB,
    acknowledged_as TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS of_instance ON results (instance_id);
CREATE INDEX IF NOT EXISTS committed_unsynchronised ON results (committed_lifetime)
    WHERE committed_lifetime IS NOT NULL;
CREATE INDEX IF NOT EXISTS acknowledged_unsynchronised ON results (acknowledged_lifetime)
    WHERE acknowledged_lifetime IS NOT NULL;
CREATE INDEX IF NOT EXISTS unacknowledged_flags ON results (number)
    WHERE acknowledged_at IS NULL AND status = 'flagged';
CREATE TRIGGER IF NOT EXISTS answered AFTER INSERT ON results BEGIN UPDATE instances
    SET unanswered = new.status = 'flagged' AND new.acknowledged_at IS NULL WHERE id = new.instance_id; END;
CREATE TRIGGER IF NOT EXISTS acknowledged AFTER UPDATE OF acknowledged_at ON results BEGIN UPDATE instances
    SET unanswered = new.status = 'flagged' AND new.acknowledged_at IS NULL WHERE id = new.instance_id; END;
CREATE TABLE IF NOT EXISTS owed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    result_id TEXT NOT NULL REFERENCES results (id),
    body TEXT NOT NULL,
    UNIQUE (kind, result_id)
);
CREATE INDEX IF NOT EXISTS owed_of_result ON owed (result_id);
CREATE TABLE IF NOT EXISTS deliveries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    result_id TEXT NOT NULL REFERENCES results (id),
    destination TEXT NOT NULL,
    object TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('waiting', 'stored', 'parked')),
    form TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    UNIQUE (result_id, destination, object)
);
CREATE INDEX IF NOT EXISTS delivery_order ON deliveries (destination, state, number);
CREATE TABLE IF NOT EXISTS order_differences (
    result_id TEXT PRIMARY KEY REFERENCES results (id) ON DELETE CASCADE,
    names TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT OR IGNORE INTO counter VALUES ('seq', 0);
"""
SCHEMA += f"{_PATIENTS};\nCREATE INDEX IF NOT EXISTS of_patient ON patients (mark, number);\n" + lifetime.TABLE.lstrip()


SEALED = {
    "instances": ("record",),
    "results": ("subject", "result", "explanation", "acknowledged_by"),
}
"""The sealed columns of each table whose rows are named by `id`."""


def order_of(priority: Priority) -> int:
    """As the journal has a priority: what comes first is less."""
    return list(Priority).index(priority)


class Marks(NamedTuple):
    """By what an object is found again.

    Attributes:
        object: The same for the same bytes under the same UID with the same statements of modality and age.
        uid: The same for the same SOP Instance UID; None where there is none.
        bytes: The same for the same bytes.
    """

    object: str
    uid: str | None
    bytes: str


def check_key(journal: Database, vault: Vault) -> None:
    """See at once whether the ring opens this journal, and not only when its first row is read.

    Raises:
        VaultLocked: The ring lacks the key.
        Damaged: The journal's proof is not what was sealed.
    """
    with journal.transaction() as sql:
        _prove(sql, vault)


def migrations(vault: Callable[[], Vault]) -> dict[int, Callable[[sqlite3.Connection], None]]:
    """What brings an older journal forward: the step from each version that is still read to the next."""

    def mark_all(sql: sqlite3.Connection) -> None:
        _prove(sql, vault())  # under another ring nothing would open, and that is no damage
        sql.execute(_PATIENTS)
        mark_patients(sql, Columns(vault()))

    return {2: mark_all, 3: know_unanswered}


def know_unanswered(sql: sqlite3.Connection) -> None:
    """The step from version 3 to 4: say of each object whether it was flagged and nobody has acknowledged that."""
    sql.execute("ALTER TABLE instances ADD COLUMN unanswered INTEGER NOT NULL DEFAULT 0")
    sql.execute("DROP INDEX IF EXISTS oldest_kept")
    sql.execute(
        "UPDATE instances SET unanswered = 1 WHERE id IN"
        " (SELECT instance_id FROM results WHERE status = 'flagged' AND acknowledged_at IS NULL)"
    )


def mark_patient(sql: sqlite3.Connection, number: int, subject: Subject, columns: Columns) -> None:
    """Make a result findable by its patient, where it says one. Under the ring's first key, whatever it was before."""
    _add_marks(sql, number, columns.patient_marks(subject.patient_id))


def mark_patients(sql: sqlite3.Connection, columns: Columns) -> None:
    """The same for every result. Raises `Damaged`."""
    for row in sql.execute("SELECT id, number, subject FROM results"):
        mark_patient(sql, row["number"], columns.subject(row), columns)


class Received(NamedTuple):
    """When an object came, in the box's lifetime, and whether the wall clock was not known to be right then."""

    lifetime: float
    unsynchronised: bool


def insert_instance(sql: sqlite3.Connection, instance: Instance, columns: Columns, received: Received) -> str | None:
    """Add an object that is not known yet; another one that has its UID but other bytes, where there is one.

    Raises:
        sqlite3.IntegrityError: The object is known.
    """
    every = columns.marks(instance.arrival, instance.sha256)
    conflict = None
    for marks in every:
        others = "SELECT id FROM instances WHERE uid_mark = ? AND bytes_mark != ? LIMIT 1"
        other = sql.execute(others, (marks.uid, marks.bytes)).fetchone()
        conflict = other["id"] if other else conflict
    sql.execute(
        "INSERT INTO instances (id, object_mark, uid_mark, bytes_mark, size, priority, received_at,"
        " received_lifetime, unsynchronised, record) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            instance.id,
            *every[0],
            instance.size,
            order_of(instance.arrival.priority),
            instance.received_at,
            *received,
            columns.seal("instances.record", instance.id, instance),
        ),
    )
    return conflict


class Answer(NamedTuple):
    """A result as the journal's columns have it, and the patient's marks: `Columns.answer`, before a transaction."""

    id: str
    status: str
    patient: tuple[str, ...]
    subject: bytes
    result: bytes
    explanation: bytes | None


def insert_result(sql: sqlite3.Connection, instance_id: str, answer: Answer, now: Moment) -> float:
    """Add an instance's answer, findable by its patient; for how many seconds the instance has waited for it."""
    seq, lifetime = next_seq(sql), None if now.synchronised else now.lifetime
    (received,) = sql.execute("SELECT received_lifetime FROM instances WHERE id = ?", (instance_id,)).fetchone()
    waited: float = max(0.0, now.lifetime - received)
    sql.execute(
        "INSERT INTO results (id, instance_id, seq, number, committed_at, committed_lifetime, waited,"
        " status, subject, result, explanation) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(answer.id, instance_id, seq, seq, now.wall, lifetime, waited),
            *(answer.status, answer.subject, answer.result, answer.explanation),
        ),
    )
    _add_marks(sql, seq, answer.patient)
    return waited


def next_seq(sql: sqlite3.Connection) -> int:
    """The number of a new change, never given before."""
    row = sql.execute("UPDATE counter SET value = value + 1 WHERE name = 'seq' RETURNING value").fetchone()
    return int(row["value"])


def owe(sql: sqlite3.Connection, kind: str, result_id: str, body: str) -> None:
    """Record what a result owes to others. `body` stays in clear: only what may leave the box."""
    sql.execute("INSERT INTO owed (kind, result_id, body) VALUES (?, ?, ?)", (kind, result_id, body))


class Columns:
    """Records to the journal's columns and back."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def marks(self, arrival: Arrival, sha256: str) -> list[Marks]:
        """An object's marks by each key of the ring; the first are those of new rows."""
        uid = arrival.sop_instance_uid
        age = arrival.stated_age_years
        same = (sha256, uid or "", arrival.stated_modality or "", "" if age is None else float(age))
        objects = self._vault.marks(msgspec.json.encode(same), "instances.object")
        uids = self._vault.marks(uid, "instances.uid") if uid else (None,) * len(objects)
        contents = self._vault.marks(sha256, "instances.bytes")
        return [Marks(*each) for each in zip(objects, uids, contents, strict=True)]

    def patient_marks(self, patient_id: str | None) -> tuple[str, ...]:
        """A patient's marks by each key of the ring, that of new rows first; none for a patient who is not known.

        Of the id (0010,0020) in composed letters, without spaces around it: they mean nothing (PS3.5 6.2, LO).
        """
        known = unicodedata.normalize("NFC", patient_id or "").strip()
        return self._vault.marks(known, "patients") if known else ()

    def seal(self, column: str, row_id: str, value: bytes | str | msgspec.Struct) -> bytes:
        """A value for a column (`results.subject`) of a row; a record as JSON."""
        plain = value.encode() if isinstance(value, str) else value
        plain = plain if isinstance(plain, bytes) else msgspec.json.encode(plain)
        return self._vault.seal(plain, f"{column}:{row_id}")

    def unseal(self, column: str, row_id: str, sealed: object) -> bytes:
        """What `seal` was given. Raises `Damaged` for a value that is not what was sealed there."""
        if not isinstance(sealed, bytes):
            raise Damaged(reasons.NOT_SEALED.format(place=f"{column}:{row_id}"))
        try:
            return self._vault.unseal(sealed, f"{column}:{row_id}")
        except (Tampered, VaultLocked) as error:
            raise Damaged(str(error)) from error

    def opens(self, table: str, row: sqlite3.Row) -> bool:
        """Whether every sealed value of a row is what was sealed there."""
        try:
            for name in SEALED[table]:
                if row[name] is not None:
                    self.unseal(f"{table}.{name}", row["id"], row[name])
        except Damaged:
            return False
        return True

    def is_current(self, sealed: bytes) -> bool:
        """Whether the ring's first key has sealed it."""
        return sealed.startswith(self._vault.prefix)

    def instance(self, row: sqlite3.Row) -> Instance:
        """A row of `instances`. Raises `Damaged`."""
        _check(row, "received_at", "attempts")
        record = msgspec.json.decode(self.unseal("instances.record", row["id"], row["record"]), type=Instance)
        return msgspec.structs.replace(record, received_at=row["received_at"], attempts=row["attempts"])

    def answer(self, result_id: str, result: Result, subject: Subject, explanation: str | None) -> Answer:
        """What `insert_result` puts into the row of a result."""
        return Answer(
            id=result_id,
            status=result.status,
            patient=self.patient_marks(subject.patient_id),
            subject=self.seal("results.subject", result_id, subject),
            result=self.seal("results.result", result_id, result),
            explanation=self.seal("results.explanation", result_id, explanation) if explanation else None,
        )

    def subject(self, row: sqlite3.Row) -> Subject:
        """Whose image a row of `results` is about. Raises `Damaged`."""
        return msgspec.json.decode(self.unseal("results.subject", row["id"], row["subject"]), type=Subject)

    def stored_result(self, row: sqlite3.Row) -> StoredResult:
        """A row as `answers.RESULT_COLUMNS` names its columns. Raises `Damaged`."""
        _check(row, "received_at", "committed_at", "waited", "seq", "number")
        result_id, person = row["id"], row["acknowledged_by"]
        differences = (row["order_differences"] or "").split()
        result = self.unseal("results.result", result_id, row["result"])
        return StoredResult(
            id=result_id,
            seq=row["seq"],
            number=row["number"],
            instance_id=row["instance_id"],
            received_at=row["received_at"],
            committed_at=row["committed_at"],
            waited=row["waited"],
            acknowledged_at=row["acknowledged_at"],
            acknowledged_by=self.unseal("results.acknowledged_by", result_id, person).decode() if person else None,
            acknowledged_as=row["acknowledged_as"],
            synchronised=not row["unsynchronised"]
            and row["committed_lifetime"] is None
            and row["acknowledged_lifetime"] is None,
            kept=Kept(row["kept"]),
            subject=self.subject(row),
            result=msgspec.json.decode(result, type=Result),
            order_differences=tuple(each for each in OrderDifference if each in differences),
        )


def _add_marks(sql: sqlite3.Connection, number: int, marks: tuple[str, ...]) -> None:
    for mark in marks[:1]:
        sql.execute("INSERT OR REPLACE INTO patients VALUES (?, ?)", (number, mark))


def _prove(sql: sqlite3.Connection, vault: Vault) -> None:
    """Whether the ring opens this journal. Raises as `check_key`."""
    sql.execute("INSERT OR IGNORE INTO vault VALUES (1, ?)", (vault.seal(b"", "journal"),))
    (sealed,) = sql.execute("SELECT sealed FROM vault").fetchone()
    try:
        vault.unseal(sealed, "journal")
    except Tampered as error:
        raise Damaged(str(error)) from error


def _check(row: sqlite3.Row, *names: str) -> None:
    """What stands in clear has a form at least: SQLite reads a page of zeros as rows without values."""
    for name in ("id", *names):
        if row[name] is None:
            raise Damaged(reasons.ROW_INCOMPLETE.format(column=name))
