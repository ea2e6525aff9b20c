"""One process for each service and state folder, and one at a time where several must not meet (flock(2))."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import ScansideError
from edge.modes import file_mode, make_folder


class AlreadyRunning(ScansideError):  # noqa: N818 - a state of the box, not a failure of the code
    """The service runs on this state folder already."""


def hold_lock(state_dir: Path, service: str, *, shared: bool = False) -> int:
    """Take the service's lock for as long as this process lives (flock(2)): the kernel gives it back, however it ends.

    Args:
        state_dir: The state folder.
        service: What the lock is called.
        shared: Hold it together with others who do.

    Returns:
        The descriptor that holds the lock; closing it gives the lock back.

    Raises:
        AlreadyRunning: Another process has it.
    """
    folder = state_dir / "locks"
    make_folder(folder)
    descriptor = os.open(folder / f"{service}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, file_mode(folder))
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise AlreadyRunning(f"{state_dir}: {service} runs here already: stop it, or set another state_dir") from error
    return descriptor


@contextmanager
def folder_lock(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Wait for a folder's lock and hold it meanwhile: alone, or together with others who hold it `shared`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
