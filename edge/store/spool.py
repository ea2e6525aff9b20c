"""The spool: one file for each accepted object, complete and on disk before anybody learns of it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from edge.durable import flush_folder
from edge.modes import make_folder, opener

_AHEAD_BYTES = 1 << 20
_SYNC_FILE_RANGE_WRITE = 2
_sync_file_range = ctypes.CDLL(None).sync_file_range
_sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


class Spool:
    """A folder of files that appear whole or not at all.

    A file is written under `incoming/`, flushed to the disk, moved to its name, and the folder's entry is flushed too
    (rename(2) is atomic, fsync(2) of the folder makes it last). What a crash leaves under `incoming/` was not accepted.
    """

    def __init__(self, folder: Path) -> None:
        """Create the folders where they are missing, readable for this user alone."""
        self.folder = folder
        self._incoming = folder / "incoming"
        make_folder(self._incoming)

    def begin(self, name: str) -> Incoming:
        """Start a file that comes in pieces. Raises `OSError`."""
        return Incoming(self, self._incoming / name)

    def write(self, name: str, data: bytes | memoryview) -> None:
        """Write a whole file durably. Raises `OSError`; then nothing stands under `name`."""
        incoming = self.begin(name)
        try:
            incoming.write(data)
            incoming.keep()
        except OSError:
            incoming.discard()
            raise

    def read(self, name: str) -> bytes:
        """The file's bytes. Raises `FileNotFoundError` when there is none."""
        return (self.folder / name).read_bytes()

    def open(self, name: str) -> int:
        """A descriptor to read the file from, for another process; the caller closes it. Raises as `read`."""
        return os.open(self.folder / name, os.O_RDONLY | os.O_CLOEXEC)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self.folder / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """The names of the whole files."""
        return [path.name for path in self.folder.iterdir() if path.is_file()]

    def discard_incoming(self) -> int:
        """Remove what is half-written; how many files. While nobody writes here."""
        leftovers = [path for path in self._incoming.iterdir() if path.is_file()]
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def flush_folder(self) -> None:
        """Make the names last that files were given."""
        flush_folder(self.folder)


class Incoming:
    """A file on its way into a spool: under no name there until `keep`.

    Attributes:
        path: Where it is until then.
    """

    def __init__(self, spool: Spool, path: Path) -> None:
        self._spool = spool
        self.path = path
        self._waiting = 0
        self._file = open(path, "wb", buffering=0, opener=opener)  # noqa: SIM115 - closed by keep or discard

    def write(self, data: bytes | memoryview) -> None:
        """Append, and have the disk begin with what is here already, so that `keep` waits for little.

        Raises:
            OSError: The disk.
        """
        view = memoryview(data)
        self._waiting += len(view)
        while view:
            view = view[self._file.write(view) :]
        if self._waiting >= _AHEAD_BYTES:
            self._waiting = 0
            # A hint, on which nothing depends: what fails here, `keep` meets again.
            _sync_file_range(self._file.fileno(), 0, 0, _SYNC_FILE_RANGE_WRITE)

    def open(self) -> int:
        """A descriptor to read what was written from; the caller closes it. Raises `OSError`."""
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def keep(self, name: str | None = None) -> None:
        """Bring it to the disk, and then under its name or another. Raises `OSError`; then it is to be discarded."""
        os.fsync(self._file.fileno())
        self._file.close()
        self.path.rename(self._spool.folder / (name or self.path.name))
        self._spool.flush_folder()

    def discard(self) -> None:
        """Remove it, unless it was kept."""
        self._file.close()
        self.path.unlink(missing_ok=True)
