"""What the services call: accept, claim, commit, and what the page and the relay read."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from edge import events
from edge.config import Storage
from edge.events import emit
from edge.records import Arrival, Instance, Result, StoredResult, Subject, Summary
from edge.store.adoption import Swept, adopt, tell
from edge.store.damage import Damaged
from edge.store.database import Database, is_full
from edge.store.delivery import Delivery
from edge.store.doorbell import ring
from edge.store.journal import SCHEMA, VERSION, Columns, check_key, insert_instance, next_seq, owe
from edge.store.keys import open_ring
from edge.store.lock import AlreadyRunning, folder_lock, hold_lock
from edge.store.repair import Contents
from edge.store.salvage import JournalContents
from edge.store.sealed_file import SealedFile, read_header, read_sealed
from edge.store.spool import Spool
from edge.store.vault import Vault

_RESULT_COLUMNS = "r.*, i.received_at FROM results r JOIN instances i ON i.id = r.instance_id"
_STORAGE = Storage()


class StorageFull(Exception):  # noqa: N818 - a state of the box that callers answer with 0xA700 or 507
    """The disk has no room: nothing was accepted, the sender must try again later."""


class Accepted(NamedTuple):
    """What `accept` did: the instance; whether it is new; another instance that has its UID but other bytes."""

    instance: Instance
    new: bool
    conflicts_with: str | None


class Owed(NamedTuple):
    """Something a committed result owes to others, until `settle` is called with its number."""

    number: int
    kind: str
    result_id: str
    instance_id: str
    body: str


class Queue(NamedTuple):
    """How much waits: images without a result, and when the oldest arrived (seconds since the epoch, or None)."""

    depth: int
    oldest_received_at: float | None


class Summarise(Protocol):
    """Makes the de-identified summary of a result once its id and the time of its commit are known."""

    def __call__(self, *, message_id: str, committed_at: float) -> Summary:
        """The summary."""


class Store:
    """The journal and the spool under one state folder. Safe to share between threads; each process opens its own."""

    def __init__(self, state_dir: Path, clock: Callable[[], float] = time.time, *, storage: Storage = _STORAGE) -> None:
        """Open the store, creating what is missing, readable for this user alone, and repairing what is damaged.

        Args:
            state_dir: The state folder.
            clock: Seconds since the epoch.
            storage: Where its keys are, see `open_ring`.

        Raises:
            VaultLocked: Its key is missing, another one, or not to be used.
            OtherVersion: Its journal was made by another version of the software.
            Damaged: Its journal waits for its repair, and others do not let go of it.
            AlreadyRunning: Its keys are being rotated.
        """
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.state_dir = state_dir
        self._clock = clock
        with ExitStack() as opened:
            try:
                opened.callback(os.close, hold_lock(state_dir, "store", shared=True))
            except AlreadyRunning:
                raise AlreadyRunning(f"{state_dir}: its keys are being rotated: start when that is done") from None
            journal = state_dir / "journal.sqlite"

            @cache
            def vault() -> Vault:
                return Vault(open_ring(state_dir, storage.key_file))

            if not journal.exists():
                vault()  # first the key: a journal without one is taken for one that lost it
            self._spool = Spool(state_dir / "spool")
            self._derived = Spool(state_dir / "derived")
            known = JournalContents(vault, self._spool, self._derived)
            contents = Contents(known.look, known.carry_over)
            self._journal = opened.enter_context(closing(Database(journal, SCHEMA, VERSION, contents)))
            self._vault = vault()
            self._columns = Columns(self._vault)
            check_key(self._journal, self._vault)
            self._opened = opened.pop_all()

    def check(self) -> None:
        """Raise `Damaged` when some service has found the journal damaged: end, so that the next start repairs it."""
        self._journal.check()

    def accept(self, data: bytes | memoryview, arrival: Arrival) -> Accepted:
        """Take an object durably: when this returns, bytes and journal row are on the disk (DESIGN rule 1).

        The same bytes under the same SOP Instance UID, with the same stated modality and age, are one instance, however
        often they come. The same UID with other bytes is another instance: both are kept.

        Raises:
            StorageFull: No room. Nothing was accepted.
            OSError, sqlite3.Error: The disk failed. Nothing was accepted.
        """
        with folder_lock(self._spool.folder, shared=True):  # no sweep while the file has no journal row
            delivery = self.begin()
            delivery.write(data)
            return self.keep(delivery, arrival)

    def begin(self) -> Delivery:
        """Start an object that comes in pieces, for `keep`: in the intake alone, before whose sweep nothing comes.

        Does not raise: `keep` does, for a disk that failed.
        """
        return Delivery(self._spool, self._vault)

    def keep(self, delivery: Delivery, arrival: Arrival) -> Accepted:
        """Accept what was delivered, as `accept` does with a whole object; raises what that raises."""
        try:
            accepted = self._keep(delivery, arrival)
        finally:
            delivery.discard()
        instance = accepted.instance
        if accepted.new:
            ring(self.state_dir, "inference")
            emit(events.STORED, instance=instance.id, size=instance.size, source=arrival.source)
        else:
            emit(events.STORED_AGAIN, instance=instance.id)
        if accepted.conflicts_with:
            emit(events.UID_CONFLICT, instance=instance.id, other=accepted.conflicts_with)
        return accepted

    def sweep(self) -> Swept:
        """See to what a crash left in the spool. For the intake service, before it listens.

        Waits for what other services are just accepting.
        """
        with folder_lock(self._spool.folder), self._journal.transaction() as sql:
            removed = self._spool.discard_incoming()
            adoption = adopt(sql, self._spool, self._vault, self._columns)
        swept = Swept(removed + adoption.doubles, adoption.adopted, adoption.broken, adoption.locked)
        tell(swept)
        if swept.adopted:
            ring(self.state_dir, "inference")
        return swept

    def recover(self) -> int:
        """Put back what a killed worker had claimed; how many. For the inference service, before its first claim."""
        with self._journal.transaction() as sql:
            return sql.execute("UPDATE instances SET state = 'accepted' WHERE state = 'processing'").rowcount

    def claim(self) -> Instance | None:
        """The most urgent image, oldest first, marked as in work and its attempt counted; None when nothing waits."""
        with self._journal.transaction() as sql:
            row = sql.execute(
                "UPDATE instances SET state = 'processing', attempts = attempts + 1 WHERE number = ("
                "SELECT number FROM instances WHERE state = 'accepted' ORDER BY priority, number LIMIT 1) RETURNING *"
            ).fetchone()
            return self._columns.instance(row) if row else None

    def read(self, instance_id: str) -> bytes:
        """The accepted object's bytes.

        Raises:
            FileNotFoundError: The spool has lost them.
            Tampered, VaultLocked: The file is not what was written there.
        """
        descriptor, secret = self.open(instance_id)
        try:
            return read_sealed(descriptor, secret).data
        finally:
            os.close(descriptor)

    def open(self, instance_id: str) -> SealedFile:
        """The accepted object's file for another process; the caller closes the descriptor. Raises as `read`."""
        descriptor = self._spool.open(instance_id)
        try:
            return SealedFile(descriptor, self._vault.file_key(instance_id, read_header(descriptor)))
        except BaseException:
            os.close(descriptor)
            raise

    def instance(self, instance_id: str) -> Instance | None:
        """One accepted object, or None."""
        with self._journal.reading() as sql:
            row = sql.execute("SELECT * FROM instances WHERE id = ?", (instance_id,)).fetchone()
            return self._columns.instance(row) if row else None

    def commit(
        self,
        instance: Instance,
        result: Result,
        subject: Subject,
        *,
        explanation: str | None = None,
        summary: Summarise | None = None,
    ) -> StoredResult:
        """Store a result and all that it owes in one transaction: the page's event, its pictures, its summary.

        Args:
            instance: What `claim` gave.
            result: The answer.
            subject: Whose image it is, for the page.
            explanation: What is needed to draw the explanation later, as JSON.
            summary: Makes the de-identified summary from its message id and the time of the commit; None owes none.

        Returns:
            The stored result; when one for this instance and model was there already, that one, unchanged.
        """
        result_id = f"{instance.id}-{result.model.digest[-8:] if result.model else '0'}"
        now = self._clock()
        sealed = (
            self._columns.seal("results.subject", result_id, subject),
            self._columns.seal("results.result", result_id, result),
            self._columns.seal("results.explanation", result_id, explanation) if explanation else None,
        )
        with self._journal.transaction() as sql:
            done = "UPDATE instances SET state = 'done' WHERE id = ? AND state != 'done'"
            if sql.execute(done, (instance.id,)).rowcount:
                values = (result_id, instance.id, next_seq(sql), now, result.status)
                sql.execute(
                    "INSERT INTO results (id, instance_id, seq, committed_at, status, subject, result, explanation)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (*values, *sealed),
                )
                owe(sql, "preview", result_id, "")
                if summary:
                    said = summary(message_id=result_id, committed_at=now)
                    owe(sql, "summary", result_id, msgspec.json.encode(said).decode())
            row = sql.execute(f"SELECT {_RESULT_COLUMNS} WHERE r.instance_id = ?", (instance.id,)).fetchone()
            stored = self._columns.stored_result(row)
        ring(self.state_dir, "web")
        return stored

    def result(self, result_id: str) -> StoredResult | None:
        """One result, or None."""
        return next(iter(self._results("r.id = ?", (result_id,), 1)), None)

    def result_of(self, instance_id: str) -> StoredResult | None:
        """The result of one accepted object, or None while there is none."""
        return next(iter(self._results("r.instance_id = ?", (instance_id,), 1)), None)

    def results(self, limit: int = 50, before: str | None = None) -> list[StoredResult]:
        """The newest results, newest first; those older than the result `before` when its id is given."""
        if before is None:
            return self._results("1 ORDER BY r.committed_at DESC, r.id DESC", (), limit)
        older = "(r.committed_at, r.id) < (SELECT committed_at, id FROM results WHERE id = ?)"
        return self._results(f"{older} ORDER BY r.committed_at DESC, r.id DESC", (before,), limit)

    def unacknowledged_flags(self, limit: int = 50) -> list[StoredResult]:
        """Flagged results that no person has answered yet, newest first, however old they are."""
        unanswered = "r.acknowledged_at IS NULL AND r.status = 'flagged'"
        return self._results(f"{unanswered} ORDER BY r.committed_at DESC, r.id DESC", (), limit)

    def changed_since(self, seq: int, limit: int = 100) -> list[StoredResult]:
        """Results committed or acknowledged after `seq`, in that order."""
        return self._results("r.seq > ? ORDER BY r.seq", (seq,), limit)

    def last_seq(self) -> int:
        """The newest change's number; 0 before the first."""
        with self._journal.reading() as sql:
            return int(sql.execute("SELECT value FROM counter WHERE name = 'seq'").fetchone()["value"])

    def acknowledge(self, result_id: str, person: str, response: str) -> StoredResult | None:
        """Record that a person has seen a result and what they think of it; the first acknowledgement stands."""
        acknowledged_by = self._columns.seal("results.acknowledged_by", result_id, person)
        with self._journal.transaction() as sql:
            sql.execute(
                "UPDATE results SET acknowledged_at = ?, acknowledged_by = ?, acknowledged_as = ?, seq = ?"
                " WHERE id = ? AND acknowledged_at IS NULL",
                (self._clock(), acknowledged_by, response, next_seq(sql), result_id),
            )
        ring(self.state_dir, "web")
        return self.result(result_id)

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
                "SELECT count(*) AS depth, min(received_at) AS oldest FROM ("
                "SELECT received_at FROM instances WHERE state = 'accepted' UNION ALL "
                "SELECT received_at FROM instances WHERE state = 'processing')"
            ).fetchone()
        return Queue(row["depth"], row["oldest"])

    def write_picture(self, instance_id: str, name: str, data: bytes) -> None:
        """Keep a derived picture (`preview.jpg`, `overlay.png`) of an instance."""
        file = f"{instance_id}.{name}"
        self._derived.write(file, self._vault.seal(data, f"derived:{file}"))

    def picture(self, instance_id: str, name: str) -> bytes | None:
        """A derived picture, or None when there is none (yet). Raises `Tampered` or `VaultLocked` as `read`."""
        file = f"{instance_id}.{name}"
        try:
            sealed = self._derived.read(file)
        except FileNotFoundError:
            return None
        return self._vault.unseal(sealed, f"derived:{file}")

    def close(self) -> None:
        """Close the journal."""
        self._opened.close()

    def _keep(self, delivery: Delivery, arrival: Arrival) -> Accepted:
        received_at = self._clock()
        digest = delivery.digest.hexdigest()
        known = self._find(digest, arrival)
        if known:
            return Accepted(known, new=False, conflicts_with=None)
        instance = Instance(
            id=delivery.id,
            arrival=arrival,
            sha256=digest,
            size=delivery.size,
            received_at=received_at,
            attempts=0,
        )
        try:
            with folder_lock(self._spool.folder, shared=True):  # no sweep between the file and its journal row
                delivery.bring_to_disk(msgspec.json.encode(instance))
                conflict = self._insert(instance)
        except sqlite3.IntegrityError:  # another association brought the same object meanwhile
            self._spool.remove(instance.id)
            known = self._find(digest, arrival)
            if known is None:
                raise
            return Accepted(known, new=False, conflicts_with=None)
        except (OSError, sqlite3.Error) as error:
            if not isinstance(error, Damaged):  # else the row may be there, or the sweep adopts the file
                self._spool.remove(instance.id)
            if is_full(error):
                raise StorageFull(f"no room for {delivery.size} bytes: free space on {self.state_dir}") from error
            raise
        return Accepted(instance, new=True, conflicts_with=conflict)

    def _find(self, digest: str, arrival: Arrival) -> Instance | None:
        """The instance that is the same object, whichever key has marked it."""
        with self._journal.reading() as sql:
            for marks in self._columns.marks(arrival, digest):
                row = sql.execute("SELECT * FROM instances WHERE object_mark = ?", (marks.object,)).fetchone()
                if row:
                    return self._columns.instance(row)
        return None

    def _insert(self, instance: Instance) -> str | None:
        with self._journal.transaction() as sql:
            return insert_instance(sql, instance, self._columns)

    def _results(self, condition: str, values: tuple[object, ...], limit: int) -> list[StoredResult]:
        query = f"SELECT {_RESULT_COLUMNS} WHERE {condition} LIMIT ?"
        with self._journal.reading() as sql:
            rows = sql.execute(query, (*values, limit)).fetchall()
            return [self._columns.stored_result(row) for row in rows]
