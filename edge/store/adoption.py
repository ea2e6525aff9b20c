"""Adoption: files in the spool of which the journal knows nothing are put back, removed or set aside.

A complete one was accepted, or nearly: its sender may have been told of success, and it carries what the journal needs.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge import events
from edge.events import emit
from edge.modes import make_folder
from edge.records import Instance
from edge.store.journal import Columns, Received, insert_instance
from edge.store.keys import VaultLocked
from edge.store.repair import FOLDER
from edge.store.sealed_file import read_header, read_record
from edge.store.spool import Spool
from edge.store.vault import Tampered, Vault


class Swept(NamedTuple):
    """What a sweep found: files removed, images put back, files set aside, files whose key is missing."""

    removed: int
    adopted: int
    broken: int
    locked: int


class Adoption(NamedTuple):
    """How many files are known now, were removed (doubles of known objects), were set aside, or lack their key."""

    adopted: int = 0
    doubles: int = 0
    broken: int = 0
    locked: int = 0


def adopt(sql: sqlite3.Connection, spool: Spool, vault: Vault, columns: Columns) -> Adoption:
    """See to every file of which the journal knows nothing, the oldest first. While nobody accepts.

    Args:
        sql: The journal, in a transaction.
        spool: The files. Those that do not open go to `broken/spool` beside it; those whose key is missing stay.
        vault: Opens them.
        columns: Makes the journal's rows.
    """
    known = {row["id"] for row in sql.execute("SELECT id FROM instances")}
    found, broken, locked, doubles = [], [], 0, 0
    for name in set(spool.names()) - known:
        try:
            found.append((_record(spool, name, vault).received_at, name))
        except Tampered:
            broken.append(name)
        except VaultLocked:
            locked += 1
    (newest,) = sql.execute("SELECT ifnull(max(received_lifetime), 0.0) FROM instances").fetchone()
    received = Received(
        newest, unsynchronised=False
    )  # by the box's lifetime not known any more, so as the newest that is
    for _, name in sorted(found):  # read again: a box may hold more records than should be in memory at once
        if not _insert(sql, _record(spool, name, vault), columns, received):
            spool.remove(name)
            doubles += 1
    _set_aside(spool, broken)
    return Adoption(len(found) - doubles, doubles, len(broken), locked)


def tell(swept: Swept) -> None:
    """Log what a sweep found."""
    if swept.removed:
        emit(events.LEFTOVER_REMOVED, count=swept.removed)
    if swept.adopted:
        emit(events.ADOPTED, count=swept.adopted)
    if swept.broken:
        emit(events.SPOOL_FILES_BROKEN, count=swept.broken, folder=f"{FOLDER}/spool")
    if swept.locked:
        emit(events.SPOOL_FILES_LOCKED, count=swept.locked)


def _record(spool: Spool, name: str, vault: Vault) -> Instance:
    descriptor = spool.open(name)
    try:
        sealed = read_record(descriptor, vault.file_key(name, read_header(descriptor)))
    finally:
        os.close(descriptor)
    return msgspec.json.decode(sealed, type=Instance)


def _insert(sql: sqlite3.Connection, record: Instance, columns: Columns, received: Received) -> bool:
    """Whether it was no object that the journal has."""
    for marks in columns.marks(record.arrival, record.sha256):
        same = "SELECT 1 FROM instances WHERE kept != 'nothing' AND object_mark = ?"
        if sql.execute(same, (marks.object,)).fetchone():
            return False
    insert_instance(sql, record, columns, received)
    return True


def _set_aside(spool: Spool, names: Iterable[str]) -> None:
    aside: Path = spool.folder.parent / FOLDER / spool.folder.name
    for name in names:
        make_folder(aside)
        (spool.folder / name).rename(aside / name)
