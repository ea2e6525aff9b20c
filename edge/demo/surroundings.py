"""What both demos need around them: a port, a folder of their own, and words on the terminal."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

from edge.errors import ScansideError


def free_port(preferred: int = 0) -> int:
    """A free TCP port on 127.0.0.1, the preferred one if it is."""
    for port in (preferred, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise ScansideError("no free TCP port on 127.0.0.1: stop something that listens there")


def clear(folder: Path, mark: str) -> None:
    """Empty a folder that is new or, as a file named `mark` in it says, of an earlier demo."""
    if folder.exists() and any(folder.iterdir()) and not (folder / mark).exists():
        raise ScansideError(f"{folder}: is not empty and not from an earlier demo: give another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def say(text: str) -> None:
    """A line, at once."""
    print(text, flush=True)
