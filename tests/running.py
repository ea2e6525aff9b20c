"""A real program under test: started as a subprocess, its event lines read as they come."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
_HANGS_AFTER = 60.0


class RunningProgram:
    """A subprocess whose stderr is the log. Leaving the `with` block kills it, if it still runs."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it in the checkout."""
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **(environment or {})}
        )
        self.lines: list[str] = []
        self._changed = Condition()
        self._ended = False
        self._reader = Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()

    def wait_for(self, event: str, count: int = 1) -> str:
        """Block until an event (`SC200`) has been logged `count` times; its line."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self._ended or len(self.found(event)) >= count, _HANGS_AFTER)
            found = self.found(event)
            assert reached and len(found) >= count, f"{event} was not logged {count} time(s):\n{self.log}"
            return found[count - 1]

    def found(self, event: str) -> list[str]:
        """The lines of one event so far."""
        return [line for line in self.lines if f" {event} " in line]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(_HANGS_AFTER)
        self._reader.join()
        return status

    @property
    def log(self) -> str:
        """Everything it has written."""
        return "".join(self.lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def scanside(*arguments: str) -> list[str]:
    """The command line of `scanside` from this checkout."""
    return [sys.executable, "-m", "edge.cli", *arguments]
