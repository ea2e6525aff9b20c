"""Rotation: a new key takes over, what older ones sealed is sealed anew, and then those are dropped.

At every instant the ring opens everything: the new key is in it before the first use, the old ones leave it after the
last. So a rotation that was killed costs nothing, the box works meanwhile, and the next call goes on where it ended.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.records import Instance
from edge.store import deliveries, urgent_orders
from edge.store.audit import renew_keys
from edge.store.damage import Damaged
from edge.store.database import Database
from edge.store.journal import SCHEMA, VERSION, Columns, mark_patient, migrations
from edge.store.keys import KeyRing, VaultLocked, find_ring, new_key, write_ring
from edge.store.lock import AlreadyRunning, hold_lock
from edge.store.repair import Contents
from edge.store.sealed_file import SealedWriter, read_header, read_sealed
from edge.store.second_copy import discard
from edge.store.spool import Spool
from edge.store.vault import Tampered, Vault

_BATCH = 100
_SELECT = {
    "instances": "SELECT * FROM instances WHERE id > ? ORDER BY id LIMIT ?",
    "results": "SELECT * FROM results WHERE id > ? ORDER BY id LIMIT ?",
}


class Rotated(NamedTuple):
    """What a rotation did: the key that seals from now on, and what did not open and so was left as it is.

    While there is such, the old keys stay in the ring.
    """

    key: str
    left: tuple[str, ...]


def rotate(state_dir: Path, key_file: Path | None = None, told: Callable[[str], None] = lambda _: None) -> Rotated:
    """Seal everything with a new key, or go on with a rotation that was killed. Nobody else has the store open.

    Args:
        state_dir: The state folder.
        key_file: `storage.key_file`, see `open_ring`.
        told: Is given each file or batch of rows that is done.

    Raises:
        AlreadyRunning: The store is open elsewhere.
        VaultLocked: There is no key to begin with, or the ring cannot be written.
        OSError, sqlite3.Error: The disk failed, or has no room for a copy of the largest file and of the journal.
    """
    try:
        lock = hold_lock(state_dir, "store")
    except AlreadyRunning:
        raise AlreadyRunning(f"{state_dir}: in use: stop the appliance, then rotate its keys") from None
    try:
        ring = _with_new_key(state_dir, key_file)
        vault = Vault(ring)
        left = [*_files(state_dir, vault, told), *_journal(state_dir, vault, told), *_audit(state_dir, vault)]
        discard(state_dir)  # it is made anew from the journal
        if not left:
            _write(KeyRing(ring.file, ring.keys[:1]))
        return Rotated(ring.ids[0], tuple(left))
    finally:
        os.close(lock)


def _audit(state_dir: Path, vault: Vault) -> Iterator[str]:
    try:
        renew_keys(state_dir, vault)
    except (Tampered, VaultLocked) as error:
        yield str(error)


def _with_new_key(state_dir: Path, key_file: Path | None) -> KeyRing:
    ring = find_ring(state_dir, key_file)
    if ring is None:
        raise VaultLocked(f"{state_dir}: has no key yet: the first start makes one, there is nothing to rotate")
    if len(ring.keys) == 1:  # more of them are a rotation that was not completed
        ring = KeyRing(ring.file, (new_key(), *ring.keys))
        _write(ring)
    return ring


def _write(ring: KeyRing) -> None:
    try:
        write_ring(ring)
    except OSError as error:
        raise VaultLocked(
            f"{ring.file}: cannot be written ({error.strerror}): rotate with a copy of it as storage.key_file,"
            " and replace the credential by that"
        ) from error


def _files(state_dir: Path, vault: Vault, told: Callable[[str], None]) -> Iterator[str]:
    """Seal the files anew; what does not open is named."""
    whole = ("derived", deliveries.FOLDER, urgent_orders.FOLDER)
    for name, reseal in (("spool", _reseal_object), *((each, _reseal_whole) for each in whole)):
        folder = Spool(state_dir / name)
        for path in sorted(path for path in folder.folder.iterdir() if path.is_file()):
            try:
                reseal(folder, path.name, vault)
            except (Tampered, VaultLocked) as error:
                yield str(error)
            told(path.name)


def _reseal_object(spool: Spool, name: str, vault: Vault) -> None:
    descriptor = spool.open(name)
    try:
        header = read_header(descriptor)
        if header.startswith(vault.file_prefix):
            return
        data, record = read_sealed(descriptor, vault.file_key(name, header))
    finally:
        os.close(descriptor)
    incoming = spool.begin(name)
    try:
        writer = SealedWriter(vault.new_file(name), incoming.write)
        writer.write(data)
        writer.finish(record)
        incoming.keep()
    finally:
        incoming.discard()


def _reseal_whole(folder: Spool, name: str, vault: Vault) -> None:
    """A picture, a report, the urgent orders: sealed as one, under its folder and name."""
    sealed, about = folder.read(name), f"{folder.folder.name}:{name}"
    if not sealed.startswith(vault.prefix):
        folder.write(name, vault.seal(vault.unseal(sealed, about), about))


def _journal(state_dir: Path, vault: Vault, told: Callable[[str], None]) -> Iterator[str]:
    """Seal the journal's columns anew; what does not open is named."""
    contents = Contents(migrations=migrations(lambda: vault))
    with closing(Database(state_dir / "journal.sqlite", SCHEMA, VERSION, contents)) as journal:
        columns = Columns(vault)
        for table, reseal in (("instances", _reseal_instance), ("results", _reseal_result)):
            after = ""
            while batch := _batch(journal, table, after):
                with journal.transaction() as sql:
                    for row in batch:
                        try:
                            reseal(sql, row, columns)
                        except Damaged as error:
                            yield str(error)
                after = batch[-1]["id"]
                told(f"{table} up to {after}")
        with journal.transaction() as sql:
            sql.execute("UPDATE vault SET sealed = ?", (vault.seal(b"", "journal"),))
        with journal.reading() as sql:  # so that nothing under the old key stays in free pages or the log
            sql.execute("VACUUM")
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _batch(journal: Database, table: str, after: str) -> list[sqlite3.Row]:
    with journal.reading() as sql:
        return sql.execute(_SELECT[table], (after, _BATCH)).fetchall()


def _reseal_instance(sql: sqlite3.Connection, row: sqlite3.Row, columns: Columns) -> None:
    if columns.is_current(row["record"]):
        return
    plain = columns.unseal("instances.record", row["id"], row["record"])
    record = msgspec.json.decode(plain, type=Instance)
    marks = columns.marks(record.arrival, record.sha256)[0]
    sql.execute(
        "UPDATE instances SET object_mark = ?, uid_mark = ?, bytes_mark = ?, record = ? WHERE id = ?",
        (*marks, columns.seal("instances.record", row["id"], plain), row["id"]),
    )


def _reseal_result(sql: sqlite3.Connection, row: sqlite3.Row, columns: Columns) -> None:
    names = ("subject", "result", "explanation", "acknowledged_by")
    if all(row[name] is None or columns.is_current(row[name]) for name in names):
        return
    sealed = []
    for name in names:
        column = f"results.{name}"
        plain = None if row[name] is None else columns.unseal(column, row["id"], row[name])
        sealed.append(None if plain is None else columns.seal(column, row["id"], plain))
    sql.execute(
        "UPDATE results SET subject = ?, result = ?, explanation = ?, acknowledged_by = ? WHERE id = ?",
        (*sealed, row["id"]),
    )
    mark_patient(sql, row["number"], columns.subject(row), columns)
