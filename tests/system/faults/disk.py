"""A small disk for the state folder: a tmpfs that can be filled to its last page. Needs the right to mount."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

_PAGE = 4096


class SmallDisk:
    """A tmpfs mounted over a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._filler = folder / "filler"

    @classmethod
    def mounted(cls, folder: Path, megabytes: int) -> SmallDisk | None:
        """Mount it; None where we may not."""
        mount = shutil.which("mount")
        options = f"size={megabytes}m,mode=0700"
        command = [mount or "mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
            return None
        return cls(folder)

    @contextmanager
    def filled(self, leave_pages: int) -> Iterator[Callable[[], None]]:
        """Full while the context lasts, but for some pages of 4096 bytes; to be filled again where room was made."""
        try:
            self._fill(leave_pages)
            yield partial(self._fill, leave_pages)
        finally:
            self._filler.unlink()

    def _fill(self, leave_pages: int) -> None:
        with self._filler.open("ab", buffering=0) as file:
            while not self._take_all_but(leave_pages, file.fileno()):
                pass

    def _take_all_but(self, pages: int, descriptor: int) -> bool:
        """False when somebody else took a page meanwhile: then none was given."""
        free = os.statvfs(self._folder)
        wanted = free.f_bavail * free.f_frsize - pages * _PAGE
        if wanted <= 0:
            return True
        try:
            os.posix_fallocate(descriptor, os.fstat(descriptor).st_size, wanted)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            return False
        return True

    def unmount(self) -> None:
        """Take it away, with what is on it."""
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
