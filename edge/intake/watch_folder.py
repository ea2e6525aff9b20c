"""The watch folder: files that are put there are accepted into the store and removed.

It looks once a second instead of using inotify: watch folders often lie on a share (SMB, NFS), where inotify does not
see what other machines write, and files that lay there before the start must be found anyway. A file is complete when
its size and time stayed the same between two looks and, where the kernel can tell, no process has it open for writing.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge import events, reasons
from edge.device.backoff import backoff
from edge.events import emit
from edge.identity import Identity, Unidentified, read_file_identity
from edge.intake.receipts import FOLDER
from edge.intake.reception import Reception
from edge.records import Arrival
from edge.store import StorageFull

MAX_FILE_BYTES = 512 << 20
"""The largest file that is taken: it is held in memory once. No radiograph comes near."""

LONGEST_DELAY = 60.0
_WORK_SECONDS = 1.0
_UNFINISHED = (".part", ".tmp")


class Stamp(NamedTuple):
    """What changes when a file does."""

    inode: int
    size: int
    modified_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Stamp:
        """From stat(2)."""
        return cls(status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass
class _File:
    """What is known of one file between two looks."""

    stamp: Stamp | None = None
    failures: int = 0
    not_before: float = 0.0
    error: str = ""


class WatchFolder:
    """One folder and those below it. Dot-files, `*.part`, `*.tmp` and symbolic links are left alone."""

    def __init__(
        self,
        folder: Path,
        reception: Reception,
        clock: Callable[[], float] = time.monotonic,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        """`clock` gives seconds; it decides when failures are tried again."""
        self._folder = folder
        self._reception = reception
        self._clock = clock
        self._max_file_bytes = max_file_bytes
        self._files: dict[str, _File] = {}
        self._failures = 0
        self._not_before = 0.0
        self._error: str | None = None

    @property
    def trouble(self) -> str:
        """What a person must see to; empty when nothing."""
        if self._error:
            return reasons.WATCH_FOLDER_FAILS.format(why=self._error)
        stuck = sum(1 for file in self._files.values() if file.error)
        return reasons.FILES_STUCK.format(count=stuck) if stuck else ""

    def look(self) -> bool:
        """Take what is complete, for about a second at most; True when more waits. Does not raise for what it finds."""
        now = self._clock()
        if now < self._not_before:
            return False
        try:
            more = self._walk(now)
            self._reception.receipts.ended(FOLDER)
        except (OSError, sqlite3.Error, StorageFull) as error:
            self._failures += 1
            delay = backoff(self._failures, LONGEST_DELAY)
            self._not_before = now + delay
            if self._error != (reason := _reason(error)):
                emit(events.WATCH_FAILED, error=reason, delay=delay)
            self._error = reason
            return False
        if self._error != "":
            emit(events.WATCHING)
        self._error, self._failures = "", 0
        return more

    def _walk(self, now: float) -> bool:
        found: dict[str, _File] = {}
        more = False

        def skip_folder(error: OSError) -> None:
            if isinstance(error, FileNotFoundError):
                return  # removed meanwhile
            key = str(error.filename)
            file = found[key] = self._files.get(key, _File())
            self._fail(file, f"its folder: {_reason(error)}", now)

        for folder, below, names, descriptor in os.fwalk(self._folder.resolve(strict=True), onerror=skip_folder):
            below[:] = filter(_is_finished, below)
            for name in filter(_is_finished, names):
                file = found[f"{folder}/{name}"] = self._files.get(f"{folder}/{name}", _File())
                if self._clock() - now > _WORK_SECONDS:
                    more = True
                elif now >= file.not_before:
                    self._consider(file, name, descriptor, now)
        self._files = found
        return more

    def _consider(self, file: _File, name: str, folder: int, now: float) -> None:
        """Take a file when it is complete. A failure is this file's alone; one of the store is raised: it is all's."""
        try:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):
                return
            before, file.stamp = file.stamp, Stamp.of(status)
            if before != file.stamp:
                return
            data = self._read(name, folder, file.stamp)
        except FileNotFoundError:
            return  # its sender took it back
        except OSError as error:
            self._fail(file, _reason(error), now)
            return
        if data is not None:
            peer = os.fsencode(name).decode(errors="replace")
            identity = _identity(data)
            priority = self._reception.priority(identity)
            accepted = self._reception.accept(data, Arrival(source="folder", peer=peer, priority=priority))
            self._reception.receipts.add(FOLDER, None, identity, new=accepted.new)
            self._remove(file, name, folder, now)

    def _read(self, name: str, folder: int, stamp: Stamp) -> bytes | None:
        """The file's bytes, or None when it is still being written. Raises `OSError`, also when it is too large."""
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            if _is_open_for_writing(descriptor):
                return None
            if stamp.size > self._max_file_bytes:
                raise OSError(0, f"{stamp.size} bytes, more than {self._max_file_bytes}: remove it")
            data = file.read(stamp.size + 1)
            unchanged = len(data) == stamp.size and Stamp.of(os.fstat(descriptor)) == stamp
            return data if unchanged else None

    def _remove(self, file: _File, name: str, folder: int, now: float) -> None:
        """Remove what was accepted, unless it was written to meanwhile: then it is taken again, as another object."""
        try:
            if Stamp.of(os.stat(name, dir_fd=folder, follow_symlinks=False)) == file.stamp:
                os.unlink(name, dir_fd=folder)
        except FileNotFoundError:
            pass  # somebody was faster
        except OSError as error:
            self._fail(file, f"accepted, but it cannot be removed: {_reason(error)}", now)
            return
        file.error, file.failures = "", 0

    def _fail(self, file: _File, error: str, now: float) -> None:
        """Note a failure; said once for as long as it stays the same."""
        file.failures += 1
        file.not_before = now + backoff(file.failures, LONGEST_DELAY)
        if file.error != error:
            emit(events.PICKUP_FAILED, error=error)
        file.error = error


def _identity(data: bytes) -> Identity:
    try:
        return read_file_identity(data)[1]
    except Unidentified:  # a picture, or a file that is answered as unreadable
        return Identity("", "")


def _is_finished(name: str) -> bool:
    return not name.startswith(".") and not name.lower().endswith(_UNFINISHED)


def _is_open_for_writing(descriptor: int) -> bool:
    """Whether a process still writes: a read lease is granted only when none does (fcntl(2), F_SETLEASE).

    A share, or a file of another user, gives no leases: there size and time must do.
    """
    try:
        # Whoever opens the file for writing while we hold the lease sends us a signal: one that is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _reason(error: Exception) -> str:
    """What happened, without the file's name, which may be a patient's."""
    if isinstance(error, StorageFull):
        return reasons.DISK_FULL
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
