"""Factory reset: the keys first, so that from then on nothing that is left on the disk can be read, then the files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from edge.durable import flush_folder
from edge.store.keys import ring_file
from edge.store.lock import hold_lock


def reset(state_dir: Path, key_file: Path | None = None, *, begins: Callable[[], None] = lambda: None) -> Path | None:
    """Destroy the keys, and remove all that the box holds. Killed, it goes on at the next call.

    Deleted files can be read again on most disks, overwritten ones on flash: that is why the keys go first.

    Args:
        state_dir: The state folder; it stays, empty.
        key_file: `storage.key_file`, see `open_ring`.
        begins: Called when no service runs, before the first key is destroyed; it may open the store.

    Returns:
        The ring's file where it lies in a credential of systemd, which it cannot destroy; None when it is no more.

    Raises:
        AlreadyRunning: The appliance, or a service of it, runs.
        OSError: Something cannot be removed.
    """
    locks = [hold_lock(state_dir, name) for name in ("appliance", "intake", "inference")]
    try:
        os.close(hold_lock(state_dir, "store"))
        begins()
        locks.append(hold_lock(state_dir, "store"))
        ring = ring_file(state_dir, key_file)
        ours = {state_dir / "keys" / "store.key", *([key_file] if key_file else [])}
        for file in ours | {file.with_name(f"{file.name}.new") for file in ours}:
            _destroy(file)
        for path in sorted(state_dir.iterdir(), key=lambda path: path.name == "locks"):  # held until the end
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    finally:
        for lock in locks:
            os.close(lock)
    return ring if ring not in ours else None


def _destroy(file: Path) -> None:
    """Overwrite a small file and remove it; both on the disk when this returns."""
    try:
        with file.open("r+b", buffering=0) as opened:
            opened.write(os.urandom(os.fstat(opened.fileno()).st_size))
            os.fsync(opened.fileno())
    except FileNotFoundError:
        return
    file.unlink()
    flush_folder(file.parent)
