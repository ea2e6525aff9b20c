"""A power cut at the n-th operation on the disk: what was not brought to it is gone, and so is the process.

For forked children: the standard library's functions are replaced for good. Writes are cut in half, what was not
flushed is dropped or reads as zeros, a rename whose folder was not flushed is undone. SQLite's own writes happen inside
of COMMIT; what a cut leaves of those is tried on its log, byte by byte (`test_power_cut.py`).
"""

from __future__ import annotations

import builtins
import os
import signal
import sqlite3
from enum import Enum
from pathlib import Path
from typing import Any

import edge.store.spool


class Unflushed(Enum):
    """What becomes of what was written and not flushed: all of it may be there, or none, or its length alone."""

    KEPT = "kept"
    LOST = "lost"
    ZEROED = "zeroed"


class PowerCut:
    """Counts operations from its making on, and cuts at one of them."""

    def __init__(self, at: int, unflushed: Unflushed) -> None:
        self._left = at
        self._unflushed = unflushed
        self._written: dict[str, int] = {}
        self._renamed: list[tuple[str, str]] = []
        self._fsync, self._rename, self._unlink, self._pwrite = os.fsync, os.rename, os.unlink, os.pwrite
        for function in (self.fsync, self.rename, self.unlink, self.pwrite):
            setattr(os, function.__name__, function)
        edge.store.spool.open = self.open  # type: ignore[attr-defined]
        connect = sqlite3.connect
        cut = self

        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                if sql != "COMMIT":
                    return super().execute(sql, *parameters)
                cut.tick()
                done = super().execute(sql, *parameters)
                cut.tick()
                return done

        sqlite3.connect = lambda *given, **named: connect(*given, **named, factory=Connection)  # type: ignore[assignment]

    def tick(self) -> None:
        """One more operation; cuts when it is the one."""
        self._left -= 1
        if self._left >= 0:
            return
        if self._unflushed is not Unflushed.KEPT:
            for old, new in reversed(self._renamed):
                self._rename(new, old)
                if new in self._written:
                    self._written[old] = self._written.pop(new)
            for path, flushed in self._written.items():
                size = Path(path).stat().st_size
                os.truncate(path, flushed)
                if self._unflushed is Unflushed.ZEROED:
                    os.truncate(path, size)
        os.kill(os.getpid(), signal.SIGKILL)

    def fsync(self, descriptor: int) -> None:
        self.tick()
        self._fsync(descriptor)
        path = str(Path(f"/proc/self/fd/{descriptor}").readlink())
        self._written.pop(path, None)
        self._renamed = [(old, new) for old, new in self._renamed if str(Path(new).parent) != path]

    def rename(self, old: Any, new: Any) -> None:
        self.tick()
        self._rename(old, new)
        self._renamed.append((str(old), str(new)))
        if str(old) in self._written:
            self._written[str(new)] = self._written.pop(str(old))
        self.tick()

    def unlink(self, path: Any, **named: Any) -> None:
        self.tick()
        self._unlink(path, **named)
        self._written.pop(str(path), None)

    def pwrite(self, descriptor: int, data: bytes, offset: int) -> int:
        self.tick()
        return self._pwrite(descriptor, data, offset)

    def open(self, path: Any, *given: Any, **named: Any) -> Any:
        cut = self
        file = builtins.open(path, *given, **named)  # noqa: SIM115, PTH123 - its user closes it
        self._written[str(path)] = 0

        class File:
            def write(self, data: memoryview) -> int:
                cut.tick()
                half = file.write(data[: (len(data) + 1) // 2])
                cut.tick()
                return int(half)

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        return File()
