"""Wakes another service at once when the store holds something new. A hint: who misses it finds the work anyway."""

from __future__ import annotations

import os
import select
import socket
from pathlib import Path
from typing import NamedTuple

from edge.modes import make_folder

_LONGEST_NOTE = 1 << 16
_RING = b"!"
_OUTSIDE = frozenset({"sync", "audit", "steward"})
"""Services whose units see `doorbells/` alone: what comes with a ring inside is nothing for them."""


class Note(NamedTuple):
    """What may come with a ring: some bytes, and an open file."""

    text: bytes
    descriptor: int


class Doorbell:
    """What one service sleeps on: a datagram socket `<state>/doorbells[-inside]/<service>`."""

    def __init__(self, state_dir: Path, service: str) -> None:
        """Hang up this service's bell, in place of one that a killed predecessor left."""
        folder = _folder(state_dir, service)
        (folder / service).unlink(missing_ok=True)
        self._note: Note | None = None
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        with _short_path(folder) as short:
            self._socket.bind(f"{short}/{service}")

    def wait(self, seconds: float) -> bool:
        """Sleep until somebody rings, at most `seconds`; True when it rang. Rings that came meanwhile count once."""
        readable, _, _ = select.select([self._socket], [], [], max(0.0, seconds))
        try:
            while readable:
                self._hear()
        except BlockingIOError:
            pass
        return bool(readable)

    def note(self) -> Note | None:
        """What came with the last ring that brought something, once; the caller closes its file."""
        note, self._note = self._note, None
        return note

    def fileno(self) -> int:
        """For use with a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Take the bell down."""
        self._forget_note()
        self._socket.close()

    def _hear(self) -> None:
        text, files, _, _ = socket.recv_fds(self._socket, _LONGEST_NOTE, 1, socket.MSG_CMSG_CLOEXEC)
        for descriptor in files:
            self._forget_note()
            self._note = Note(text, descriptor)

    def _forget_note(self) -> None:
        note = self.note()
        if note:
            os.close(note.descriptor)


def ring(state_dir: Path, service: str, note: Note | None = None) -> None:
    """Wake a service, if it is there and not awake already, and hand it a note. Never fails: it is a hint."""
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as caller,
            _short_path(_folder(state_dir, service)) as short,
        ):
            text, files = (note.text, [note.descriptor]) if note else (_RING, [])
            caller.connect(f"{short}/{service}")
            socket.send_fds(caller, [text], files)
    except OSError:
        return  # not there, or rung already: it will look by itself


def _folder(state_dir: Path, service: str) -> Path:
    folder = state_dir / ("doorbells" if service in _OUTSIDE else "doorbells-inside")
    make_folder(folder)
    return folder


class _short_path:  # noqa: N801 - used as a function, in a with statement
    """A name for the folder that fits the 108 bytes of a socket's address, however deep the folder lies (unix(7))."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def __enter__(self) -> str:
        return f"/proc/self/fd/{self._descriptor}"

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)
