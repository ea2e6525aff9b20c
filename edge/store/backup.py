"""Backup and restore: one file with all that a bare box needs, sealed with a passphrase, made while the box works.

header      40 bytes: `SSB1`, the cost of scrypt (4), a random salt (32)
frames      as in `sealed_file.py`: a tar archive; the last frame names the format
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from edge.durable import flush_folder
from edge.errors import ScansideError
from edge.modes import make_folder, opener
from edge.store.keys import KEY_BYTES, VaultLocked, find_ring, ring_text
from edge.store.lock import folder_lock, hold_lock
from edge.store.machine import Machine
from edge.store.orders import Orders
from edge.store.sealed_file import SealedWriter, open_frames, read_header
from edge.store.vault import HEADER_BYTES, FileKey, Tampered

SHORTEST_PASSPHRASE = 12
_MAGIC = b"SSB1"
_COST = bytes((15, 8, 3, 0))
"""log2 N, r, p: OWASP's for a box with little memory (32 MiB), Password Storage Cheat Sheet."""

_RECORD = b"scanside backup 1"
_ORDERS = "orders/orders.sqlite"
_DATABASES = ("journal.sqlite", "outbox/outbox.sqlite", "accounts/accounts.sqlite", "audit/audit.sqlite", _ORDERS)
"""The journal first: what it owed by then and has settled since is in the outbox too, and is told twice, not never."""

_SETTINGS = "settings/settings.json"
"""What the fleet has set: without it a restored box would answer at another operating point than before."""

_KEYS = "keys/store.key"
_SNAPSHOT = "backup-"
_NAMES = frozenset((*_DATABASES, _SETTINGS, _KEYS))
_OBJECT = re.compile(r"(spool|derived)/[0-9a-f]{32}(\.[a-z.]{1,16})?")


class BackupError(ScansideError):
    """A backup cannot be made or used: one line with the rule and the fix; never the passphrase."""


class Content(NamedTuple):
    """What a backup holds: how many images, and how many files in all."""

    images: int
    files: int


def _nothing() -> None:
    pass


def back_up(
    state_dir: Path,
    file: Path,
    passphrase: str,
    key_file: Path | None = None,
    *,
    begins: Callable[[], None] = _nothing,
) -> Content:
    """Write a backup of a state folder, whole or not at all. The box may work meanwhile.

    It holds what was accepted when it began, with the results of that moment.

    Args:
        state_dir: The state folder.
        file: The backup, which must not exist.
        passphrase: Without it nobody reads the backup, which holds the key of all that is stored.
        key_file: `storage.key_file`, see `open_ring`.
        begins: Called when nothing stands against it any more, before the first byte is copied.

    Raises:
        BackupError: There is nothing to back up, the file exists, or the passphrase is short.
        AlreadyRunning: The keys are being rotated, or another backup is being made.
        VaultLocked: The ring is missing.
        OSError, sqlite3.Error: The disk failed or is full.
    """
    if len(passphrase) < SHORTEST_PASSPHRASE:
        raise BackupError(f"passphrase of {len(passphrase)} characters: must have {SHORTEST_PASSPHRASE}: choose words")
    if not (state_dir / "journal.sqlite").exists():
        raise BackupError(f"{state_dir}: nothing is stored here: give the box's own --config")
    if file.exists():
        raise BackupError(f"{file}: exists already, and nothing is overwritten: choose another name")
    temporary = file.with_name(f"{file.name}.part")
    with ExitStack() as ending:
        ending.callback(os.close, hold_lock(state_dir, "store", shared=True))  # no rotation meanwhile
        ending.callback(os.close, hold_lock(state_dir, "backup"))
        ending.callback(temporary.unlink, missing_ok=True)
        ring = find_ring(state_dir, key_file)
        if ring is None:
            raise VaultLocked(f"{state_dir}: no key: there is nothing to back up")
        begins()
        with _snapshot(state_dir) as snapshot, open(temporary, "xb", opener=_for_this_user) as output:
            content = _write(snapshot, ring_text(ring), output, passphrase)
            output.flush()
            os.fsync(output.fileno())
        temporary.rename(file)
        flush_folder(file.parent)
    return content


def restore(
    file: Path,
    state_dir: Path,
    passphrase: str,
    *,
    done: Callable[[], None] = _nothing,
    clock: Callable[[], float] = time.time,
    machine: Machine | None = None,
) -> Content:
    """Put a backup into an empty state folder. Nothing stands there under its name before all of it has opened.

    Args:
        file: The backup.
        state_dir: The state folder.
        passphrase: What it was made with.
        done: Called when all of it is there, before it is given to the folder's owner.
        clock: Seconds since the epoch.
        machine: The clocks under it; None for this one's.

    Raises:
        BackupError: The folder is not empty, the passphrase is not the right one, or the file is no backup or damaged.
        OSError: The disk failed or is full.
    """
    make_folder(state_dir)
    if not all(path.is_dir() for path in state_dir.rglob("*")):  # a device has its folders from the start
        raise BackupError(
            f"{state_dir}: not empty, and nothing is overwritten: reset the box, or choose another folder"
        )
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise BackupError(f"{file}: cannot be read ({error.strerror}): give a backup") from error
    coming = Path(tempfile.mkdtemp(prefix="restoring-", dir=state_dir))
    try:
        coming.chmod(stat.S_IMODE(state_dir.stat().st_mode))
        content = _extract(descriptor, file, coming, passphrase)
        os.sync()
        for path in sorted(coming.iterdir(), key=lambda path: path.name == "journal.sqlite"):  # the journal last
            path.rename(state_dir / path.name)
        flush_folder(state_dir)
    finally:
        os.close(descriptor)
        shutil.rmtree(coming, ignore_errors=True)
    if (machine or Machine()).synchronised():
        _know_orders_from(state_dir, clock())
    done()
    _give_to_owner(state_dir)
    return content


def _know_orders_from(state_dir: Path, now: float) -> None:
    """What was ordered between backup and restore may have been obeyed, and is refused when it is sent again.

    Not by a clock that nothing keeps right: one that is ahead would have the box refuse its fleet for as long.
    """
    with closing(Orders(state_dir)) as orders:
        orders.know_from(now)


@contextmanager
def _snapshot(state_dir: Path) -> Iterator[Path]:
    """A folder beside the data that holds it as it is now: copies of the databases, links to the files."""
    for left_behind in state_dir.glob(f"{_SNAPSHOT}*"):  # by a backup that was killed
        shutil.rmtree(left_behind)
    folder = Path(tempfile.mkdtemp(prefix=_SNAPSHOT, dir=state_dir))
    try:
        for name in ("spool", "derived", "outbox", "accounts", "audit", "orders", "settings"):
            make_folder(folder / name)
        with folder_lock(state_dir / "spool", shared=True):  # no sweep between a row and the link to its file
            _copy_database(state_dir / _DATABASES[0], folder / _DATABASES[0])
            with closing(sqlite3.connect(folder / _DATABASES[0])) as journal:
                ids = {row[0] for row in journal.execute("SELECT id FROM instances")}
            for place in ("spool", "derived"):
                for path in (state_dir / place).iterdir():
                    if path.name.partition(".")[0] in ids and path.is_file():
                        os.link(path, folder / place / path.name)
        for name in _DATABASES[1:]:
            if (state_dir / name).exists():
                _copy_database(state_dir / name, folder / name)
        if (state_dir / _SETTINGS).exists():
            shutil.copyfile(state_dir / _SETTINGS, folder / _SETTINGS)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _copy_database(source: Path, target: Path) -> None:
    """SQLite's online backup: a consistent copy while others write (https://www.sqlite.org/backup.html)."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as other:
        one.backup(other)
        other.execute("PRAGMA journal_mode = DELETE")  # one file, nothing beside it


def _write(snapshot: Path, keys: bytes, output: IO[bytes], passphrase: str) -> Content:
    header = _MAGIC + _COST + os.urandom(HEADER_BYTES - len(_MAGIC) - len(_COST))
    writer = SealedWriter(FileKey(header, _secret(passphrase, header)), output.write)
    names = sorted(path for path in snapshot.rglob("*") if path.is_file())
    with tarfile.open(fileobj=cast("Any", writer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in names:
            archive.add(path, path.relative_to(snapshot).as_posix(), recursive=False, filter=_nameless)
        member = _nameless(tarfile.TarInfo(_KEYS))
        member.size = len(keys)
        archive.addfile(member, BytesIO(keys))
    writer.finish(_RECORD)
    return Content(sum(path.parent.name == "spool" for path in names), len(names) + 1)


def _nameless(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def _extract(descriptor: int, file: Path, folder: Path, passphrase: str) -> Content:
    header = read_header(descriptor)
    if not header.startswith(_MAGIC + _COST) or len(header) != HEADER_BYTES:
        raise BackupError(f"{file}: not a backup of this software: give another file")
    frames = _Frames(open_frames(descriptor, _secret(passphrase, header)))
    content = Content(0, 0)
    try:
        with tarfile.open(fileobj=frames, mode="r|") as archive:
            for member in archive:
                if not member.isfile() or not (member.name in _NAMES or _OBJECT.fullmatch(member.name)):
                    raise BackupError(f"{file}: holds what no backup holds: give another file")
                _copy(archive, member, folder / member.name)
                content = Content(content.images + member.name.startswith("spool/"), content.files + 1)
        frames.finish()
    except (Tampered, tarfile.TarError) as error:
        raise BackupError(f"{file}: the passphrase is not its own, or the file is damaged: try again") from error
    if not content.files:
        raise BackupError(f"{file}: holds nothing: give another file")
    return content


def _copy(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    make_folder(target.parent)
    source = archive.extractfile(member)
    with open(target, "xb", opener=opener) as output:
        shutil.copyfileobj(source or BytesIO(), output)


class _Frames(RawIOBase):
    """The opened frames as a file that is read once, from its start to its end."""

    def __init__(self, frames: Iterator[tuple[memoryview, bool]]) -> None:
        self._frames = frames
        self._rest = b""
        self._record: bytes | None = None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none at the end. Raises `Tampered`."""
        while not self._rest and self._record is None:
            self._next()
        size = len(self._rest) if size < 0 else size
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def finish(self) -> None:
        """See that all of it came. Raises `Tampered`."""
        while self._record is None:
            self._next()
        if self._record != _RECORD:
            raise Tampered("a backup of another format: restore it with the software that made it")

    def _next(self) -> None:
        piece, last = next(self._frames)
        if last:
            self._record = bytes(piece)
        else:
            self._rest = bytes(piece)


def _secret(passphrase: str, header: bytes) -> bytes:
    log_n, r, p, _ = _COST
    return Scrypt(salt=header, length=KEY_BYTES, n=1 << log_n, r=r, p=p).derive(passphrase.encode())


def _give_to_owner(state_dir: Path) -> None:
    """What root restores belongs to whom the folder belongs to."""
    owner = state_dir.stat()
    if os.geteuid() == 0 and owner.st_uid:
        for path in state_dir.rglob("*"):
            os.chown(path, owner.st_uid, owner.st_gid)


def _for_this_user(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
