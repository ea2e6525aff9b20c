"""Signals as values that a main loop looks at. No handler does work, so none can meet a half-done step."""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Callable
from threading import Event
from types import FrameType


class Signals:
    """Catches some signals from now on; for a process's main thread, once (signal(7), the self-pipe trick)."""

    def __init__(self, *numbers: signal.Signals) -> None:
        """Catch these instead of their default actions."""
        self._reader, writer = socket.socketpair()
        self._writer = writer  # kept open: the interpreter writes each signal's number into it
        self._reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, _caught)

    def wait(self, seconds: float) -> set[signal.Signals]:
        """Sleep until a signal comes, at most `seconds`; those that came since the last call."""
        readable, _, _ = select.select([self._reader], [], [], max(0.0, seconds))
        return {signal.Signals(number) for number in self._reader.recv(4096)} if readable else set()


def stop_on_signals(wake: Callable[[], None]) -> Event:
    """An event that SIGTERM and SIGINT set from now on; `wake` ends the main loop's sleep (it runs in the handler)."""
    stopping = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopping.set()
        wake()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    return stopping


def _caught(_number: int, _frame: FrameType | None) -> None:
    """The interpreter has written the number already; a handler must only be there."""
