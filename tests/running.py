"""A real program under test: started as a subprocess, its event lines read as they come."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Condition, Thread
from typing import Self

import pytest

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 240.0
"""Seconds: a bound for what never comes, not a measure; a machine that is five times as slow must not meet it."""


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

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join()

    def wait_for(self, event: str, count: int = 1) -> str:
        """Block until an event (`SC200`) has been logged `count` times; its line."""
        with self._changed:
            reached = self._changed.wait_for(lambda: self._ended or len(self.found(event)) >= count, PATIENCE)
            found = self.found(event)
            assert reached and len(found) >= count, f"{event} was not logged {count} time(s):\n{self.log}"
            return found[count - 1]

    def found(self, event: str) -> list[str]:
        """The lines of one event so far."""
        return [line for line in self.lines if f" {event} " in line]

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit status."""
        self.process.send_signal(number)
        return self.wait_for_end()

    def wait_for_end(self) -> int:
        """Wait until it has ended and all that it wrote is read; the exit status."""
        status = self.process.wait(PATIENCE)
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


def is_alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and that nobody has waited for has no command line (proc(5))."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


def with_tmpfs(folder: Path, megabytes: int) -> list[str]:
    """A command prefix that mounts a small tmpfs over a folder, seen by that command alone."""
    unshare = shutil.which("unshare")
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "{folder}"'
    for options in (["--mount"], ["--map-root-user", "--mount"]):
        if unshare and not subprocess.run([unshare, *options, "sh", "-c", mount], check=False).returncode:
            return [unshare, *options, "sh", "-c", f'{mount} && exec "$@"', "sh"]
    pytest.skip("needs the right to mount a tmpfs, as root or in a user namespace")
