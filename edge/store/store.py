"""What the services call: accept, claim, commit; what the page and the relay read is in `answers.py`."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import cache
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec

from edge import events
from edge.config import Storage
from edge.events import emit
from edge.modes import make_folder
from edge.records import Arrival, Instance, Kept, Result, StoredResult, Subject, Summary
from edge.store import deliveries, second_copy
from edge.store.adoption import Swept, adopt, tell
from edge.store.answers import RESULT_COLUMNS, Answers
from edge.store.arriving import announce
from edge.store.damage import Damaged
from edge.store.database import Database, is_full
from edge.store.deliveries import Deliveries
from edge.store.delivery import Delivery, is_whole
from edge.store.doorbell import ring
from edge.store.holdings import Holdings
from edge.store.journal import (
    SCHEMA,
    VERSION,
    Columns,
    Received,
    check_key,
    insert_instance,
    insert_result,
    migrations,
    owe,
)
from edge.store.keys import open_ring
from edge.store.lifetime import JournalLifetime, Moment
from edge.store.lock import AlreadyRunning, folder_lock, hold_lock
from edge.store.machine import Machine, Room
from edge.store.order import BACKLOG_AFTER, CLAIM, OLDEST, POSTPONED, Turns
from edge.store.repair import Contents
from edge.store.retention import Band, next_band
from edge.store.salvage import JournalContents
from edge.store.sealed_file import SealedFile, read_header, read_sealed
from edge.store.second_copy import SecondCopy
from edge.store.spool import Spool
from edge.store.urgent_orders import UrgentOrders
from edge.store.vault import Vault

_STORAGE, _MACHINE = Storage(), Machine()


class StorageFull(Exception):  # noqa: N818 - a state of the box that callers answer with 0xA700 or 507
    """The disk has no room: nothing was accepted, the sender must try again later."""


class Accepted(NamedTuple):
    """What `accept` did: the instance; whether it is new; another instance that has its UID but other bytes."""

    instance: Instance
    new: bool
    conflicts_with: str | None


class Summarise(Protocol):
    """Makes the de-identified summary of a result once it is known when it was committed, and after how long."""

    def __call__(self, *, message_id: str, committed_at: float, synchronised: bool, waited: float) -> Summary:
        """The summary."""


class Store(Answers):
    """The journal and the spool under one state folder. Safe to share between threads; each process opens its own.

    Attributes:
        holdings: What is kept of what was answered.
        deliveries: What of the results must still reach a PACS.
        urgent_orders: Which images the worklist calls urgent.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Callable[[], float] = time.time,
        *,
        storage: Storage = _STORAGE,
        machine: Machine = _MACHINE,
    ) -> None:
        """Open the store, creating what is missing, readable for this user alone, and repairing what is damaged.

        Args:
            state_dir: The folder.
            clock: The wall clock, seconds since the epoch.
            storage: Where its keys are, see `open_ring`, and how much room it leaves on the disk.
            machine: The other clocks, and the disk.

        Raises:
            VaultLocked: Its key is missing, another one, or not to be used.
            OtherVersion: Its journal was made by another version of the software.
            Damaged: Its journal waits for its repair, and others do not let go of it.
            AlreadyRunning: Its keys are being rotated.
        """
        make_folder(state_dir)
        self._storage = storage
        self._machine = machine
        self._band = Band.ROOM
        self._line = 0
        self._turns = Turns()
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
            known = JournalContents(vault, self._spool, self._derived, state_dir / second_copy.FILE)
            contents = Contents(known.look, known.carry_over, migrations(vault))
            database = opened.enter_context(closing(Database(journal, SCHEMA, VERSION, contents)))
            self._vault = vault()
            check_key(database, self._vault)
            super().__init__(state_dir, database, Columns(self._vault), JournalLifetime(database, clock, machine))
            second = SecondCopy(state_dir / second_copy.FILE, database, lambda: self.band() < Band.FULL)
            opened.callback(second.close)
            self.holdings = Holdings(self._journal, self._spool, self._derived, second)
            self.deliveries = Deliveries(self._journal, self._vault, state_dir)
            self.urgent_orders = UrgentOrders(self._vault, state_dir)
            self._opened = opened.pop_all()

    def check(self) -> None:
        """Raise `Damaged` when some service has found the journal damaged: end, so that the next start repairs it."""
        self._journal.check()

    def room(self) -> Room:
        """How much room there is on its disk. Raises `OSError`."""
        return self._machine.room(self.state_dir)

    def band(self) -> Band:
        """Which band the disk is in now; asks the disk each time, which takes microseconds. Raises `OSError`."""
        self._band = next_band(self.room(), self._band, self._storage)
        return self._band

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
        return Delivery(self._spool, self._vault, has_room=lambda: self.band() < Band.FULL)

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
        """See to what a crash left in spool and pictures. For the intake service, before it listens.

        Waits for what other services are just accepting.
        """
        with folder_lock(self._spool.folder), self._journal.transaction() as sql:
            removed = self._spool.discard_incoming() + self.holdings.sweep(sql)
            adoption = adopt(sql, self._spool, self._vault, self._columns)
        self.holdings.copy_answers()
        swept = Swept(removed + adoption.doubles, adoption.adopted, adoption.broken, adoption.locked)
        tell(swept)
        if swept.adopted:
            ring(self.state_dir, "inference")
        return swept

    def recover(self) -> int:
        """Put back what a killed worker had claimed; how many. For the inference service, before its first claim.

        What waits now is backlog from here on (`order.py`).
        """
        with self._journal.transaction() as sql:
            self._line = sql.execute("SELECT ifnull(max(number), 0) FROM instances").fetchone()[0]
            return sql.execute("UPDATE instances SET state = 'accepted' WHERE state = 'processing'").rowcount

    def claim(self) -> Instance | None:
        """The next image by `order.py`, marked as in work and its attempt counted; None when nothing waits.

        A power cut may undo the mark, after which the image waits as before; a killed process does not.
        """
        now = self.lifetime.now().lifetime
        order = {"line": self._line, "since": now - BACKLOG_AFTER, "turn": self._turns.is_backlogs}
        with self._journal.transaction(durable=False) as sql:
            oldest = sql.execute(OLDEST).fetchone()[0]
            row = sql.execute(CLAIM, order).fetchone()
            instance = self._columns.instance(row) if row else None
        self._turns.taken(the_oldest=row is None or row["number"] == oldest)
        return instance

    def postpone(self, instance: Instance) -> None:
        """Put back what was claimed: others go first, backlog too (`order.py`)."""
        postponed = "UPDATE instances SET state = 'accepted', priority = ? WHERE id = ? AND state = 'processing'"
        with self._journal.transaction(durable=False) as sql:
            sql.execute(postponed, (POSTPONED, instance.id))

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
        report: bool = False,
    ) -> StoredResult:
        """Store a result and all that it owes in one transaction: the page's event, its pictures, its summary.

        Args:
            instance: What `claim` gave.
            result: The answer.
            subject: Whose image it is, for the page.
            explanation: What is needed to draw the explanation later, as JSON.
            summary: Makes the de-identified summary; None owes none.
            report: Whether a PACS is to have it.

        Returns:
            The stored result; when one for this instance and model was there already, that one, unchanged.
        """
        result_id = f"{instance.id}-{result.model.digest[-8:] if result.model else '0'}"
        now = self.lifetime.now()
        answer = self._columns.answer(result_id, result, subject, explanation)
        with self._journal.transaction() as sql:
            done = "UPDATE instances SET state = 'done' WHERE id = ? AND state != 'done'"
            if sql.execute(done, (instance.id,)).rowcount:
                waited = insert_result(sql, instance.id, answer, now)
                owe(sql, "preview", result_id, "")
                if summary:
                    said = summary(
                        message_id=result_id, committed_at=now.wall, synchronised=now.synchronised, waited=waited
                    )
                    owe(sql, "summary", result_id, msgspec.json.encode(said).decode())
                if report:
                    owe(sql, deliveries.KIND, result_id, "0")
            row = sql.execute(f"SELECT {RESULT_COLUMNS} WHERE r.instance_id = ?", (instance.id,)).fetchone()
            stored = self._columns.stored_result(row)
        ring(self.state_dir, "web")
        return stored

    def write_picture(self, instance_id: str, name: str, data: bytes) -> None:
        """Keep a derived picture, one of `PICTURES`, of an instance, unless it was meanwhile removed."""
        file = f"{instance_id}.{name}"
        self._derived.write(file, self._vault.seal(data, f"derived:{file}"))
        if self.holdings.kept(instance_id) is not Kept.ALL:
            self.holdings.remove_pictures(instance_id)

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
        received = self.lifetime.now()
        digest = delivery.digest.hexdigest()
        known = self._find(digest, arrival)
        if known:
            self._put_back_if_lost(known, delivery)
            return Accepted(known, new=False, conflicts_with=None)
        instance = Instance(
            id=delivery.id,
            arrival=arrival,
            sha256=digest,
            size=delivery.size,
            received_at=received.wall,
            attempts=0,
        )
        try:
            with folder_lock(self._spool.folder, shared=True):  # no sweep between the file and its journal row
                delivery.finish(msgspec.json.encode(instance))
                announce(self.state_dir, "inference", instance, delivery.open)
                delivery.bring_to_disk()
                conflict = self._insert(instance, received)
        except sqlite3.IntegrityError:  # another association brought the same object meanwhile
            self._spool.remove(instance.id)
            known = self._find(digest, arrival)
            if known is None:
                raise
            return Accepted(known, new=False, conflicts_with=None)
        except (OSError, sqlite3.Error) as error:
            if not isinstance(error, Damaged):  # else the row may be there, or the sweep adopts the file
                self._spool.remove(instance.id)
            self._refuse_when_full(error, delivery)
            raise
        return Accepted(instance, new=True, conflicts_with=conflict)

    def _put_back_if_lost(self, known: Instance, delivery: Delivery) -> None:
        """See that a known object that came again is on the disk. Raises as `accept`."""
        if is_whole(self._spool, self._vault, known):
            return
        try:
            with folder_lock(self._spool.folder, shared=True):
                delivery.put_back(known.id, msgspec.json.encode(known))
        except OSError as error:
            self._refuse_when_full(error, delivery)
            raise
        if self.holdings.kept(known.id) is Kept.NOTHING:  # the keeper has removed it meanwhile: as if it had later
            self._spool.remove(known.id)
            return
        emit(events.PUT_BACK, instance=known.id)
        ring(self.state_dir, "inference")

    def _refuse_when_full(self, error: OSError | sqlite3.Error, delivery: Delivery) -> None:
        """Raise `StorageFull` for a disk without room."""
        if is_full(error):
            raise StorageFull(f"no room for {delivery.size} bytes: free space on {self.state_dir}") from error

    def _find(self, digest: str, arrival: Arrival) -> Instance | None:
        """The instance that is the same object, whichever key has marked it."""
        with self._journal.reading() as sql:
            for marks in self._columns.marks(arrival, digest):
                same = "SELECT * FROM instances WHERE kept != 'nothing' AND object_mark = ?"
                row = sql.execute(same, (marks.object,)).fetchone()
                if row:
                    return self._columns.instance(row)
        return None

    def _insert(self, instance: Instance, received: Moment) -> str | None:
        when = Received(received.lifetime, unsynchronised=not received.synchronised)
        with self._journal.transaction() as sql:
            return insert_instance(sql, instance, self._columns, when)
