"""How a SQLite file stands: a lock that all hold who have it open, and one line that says whether it is whole.

Both are one small file beside it, so that whoever opens the file first can look at it, and put it aside, while nobody
writes there (flock(2)), and so that a repair that was killed goes on where it ended.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from edge import reasons
from edge.modes import file_mode
from edge.store.damage import Damaged

_LINE_BYTES = 128
"""Always as many, so that a full disk does not keep a word from being written over another."""

_LOOK_EVERY = 0.02
_OTHERS_END_WITHIN = 30.0


class Word(StrEnum):
    """What a file's line says first."""

    NEW = ""
    WHOLE = "whole"
    SUSPECT = "suspect"
    MOVING = "moving"
    REPLACING = "replacing"


class Line(NamedTuple):
    """How a file stands; for a repair under way the folder into which the damaged one goes, and the tries so far."""

    word: Word
    folder: str = ""
    tries: int = 0


class Standing:
    """The standing of one SQLite file. The lock is held until `close`, or until the process ends."""

    def __init__(self, path: Path) -> None:
        """Open it, or create it. Raises `OSError`."""
        self._path = path
        name = path.with_name(path.name + ".standing")
        self._file = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(path.parent))

    def enter(self, alone: Callable[[], None]) -> None:
        """Take the lock together with others; who has it alone calls `alone` before anybody else can have it.

        Raises:
            Damaged: The file waits for its repair, and others do not let go of it.
        """
        until = time.monotonic() + _OTHERS_END_WITHIN
        while True:
            if self._lock(fcntl.LOCK_EX):
                alone()
                fcntl.flock(self._file, fcntl.LOCK_SH)
                return
            if not self.is_suspect() and self._lock(fcntl.LOCK_SH):
                return
            if time.monotonic() > until:
                raise Damaged(reasons.REPAIR_HELD_UP.format(file=self._path))
            time.sleep(_LOOK_EVERY)  # there is no waiting for one of two things with flock(2)

    def line(self) -> Line:
        """What it says. What cannot be read is no reason to trust the file."""
        words = os.pread(self._file, _LINE_BYTES, 0).decode(errors="replace").split()
        if not words:
            return Line(Word.NEW)
        try:
            return Line(Word(words[0]), words[1], int(words[2])) if len(words) == 3 else Line(Word(words[0]))
        except ValueError:
            return Line(Word.SUSPECT)

    def say(self, line: Line) -> None:
        """Write a line durably. Raises `OSError`."""
        text = f"{line.word} {line.folder} {line.tries}" if line.folder else line.word
        os.pwrite(self._file, text.ljust(_LINE_BYTES - 1).encode() + b"\n", 0)
        os.fsync(self._file)

    def begin(self) -> None:
        """Say that the file is there, if nothing was said yet: from now on its absence is a loss."""
        if self.line().word is Word.NEW:
            self.say(Line(Word.WHOLE))

    def is_suspect(self) -> bool:
        """Whether somebody has found the file damaged. Takes a microsecond."""
        return os.pread(self._file, len(Word.SUSPECT), 0) == Word.SUSPECT.encode()

    def close(self) -> None:
        """Let go."""
        os.close(self._file)

    def _lock(self, kind: int) -> bool:
        try:
            fcntl.flock(self._file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
