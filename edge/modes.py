"""Who may open what lies in the state folder: its owner alone, or on a device a group for each folder.

On a device each service is a user of its own, and a folder's group says who works in it (`systemd/README.md`): such a
folder is writable for its group and has the set-group-id bit, so that what is made in it is of the same group, and
folders in it are like it (inode(7)). Everywhere else all is readable for its owner alone.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_SHARED = stat.S_ISGID | stat.S_IWGRP


def work_in(state_dir: Path) -> None:
    """Set this process's umask: what it makes is for its owner alone, or for a group too where folders are shared."""
    folder = state_dir / "health"  # which every service sees, whatever else its unit hides from it
    os.umask(0o007 if folder.is_dir() and is_shared(folder) else 0o077)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each for those who work in the one above it.

    Raises:
        OSError: The disk failed.
    """
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=folder_mode(folder.parent), exist_ok=True)


def folder_mode(folder: Path) -> int:
    """The mode of a new folder in one that is there. Raises `OSError`."""
    return 0o770 if is_shared(folder) else 0o700


def file_mode(folder: Path) -> int:
    """The mode of a new file in a folder that is there. Raises `OSError`."""
    return 0o660 if is_shared(folder) else 0o600


def opener(path: str, flags: int) -> int:
    """For `open`: a new file with the mode of its folder. Raises `OSError`."""
    return os.open(path, flags | os.O_CLOEXEC, file_mode(Path(path).parent))


def is_shared(folder: Path) -> bool:
    """Whether a group works in it. Raises `OSError`."""
    return folder.stat().st_mode & _SHARED == _SHARED
