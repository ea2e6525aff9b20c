"""Which orders the clinic's worklist calls urgent: written by who asks it, read where images arrive.

The list lies on the disk, so that an image which arrives never waits for a worklist, and neither a restart nor a
worklist that is away forgets what was said. A hint: what cannot be read is as if nothing had been said.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from threading import Lock

import msgspec

from edge.identity import Identity
from edge.records import Priority
from edge.store.keys import VaultLocked
from edge.store.spool import Spool
from edge.store.vault import Tampered, Vault

FOLDER = "worklist"
_FILE = "urgent"
_ABOUT = f"{FOLDER}:{_FILE}"


class UrgentOrders:
    """Accession numbers (0008,0050) and Study Instance UIDs (0020,000D), sealed. Safe to share between threads."""

    def __init__(self, vault: Vault, state_dir: Path) -> None:
        self._vault = vault
        self._path = state_dir / FOLDER / _FILE
        self._lock = Lock()
        self._stamp: tuple[int, int] | None = None
        self._names: frozenset[str] = frozenset()

    def priority(self, identity: Identity, otherwise: Priority = Priority.ROUTINE) -> Priority:
        """Where an arriving object stands in the queue: urgent where itself or the worklist says so.

        Costs one stat(2), unless the list has changed.
        """
        ordered = not self.names().isdisjoint({identity.accession_number, identity.study_instance_uid} - {""})
        return Priority.URGENT if identity.urgent or ordered else otherwise

    def names(self) -> frozenset[str]:
        """What was last written; nothing when that cannot be read."""
        try:
            status = self._path.stat()
            stamp = (status.st_ino, status.st_mtime_ns)
            with self._lock:
                if stamp != self._stamp:
                    sealed = self._path.read_bytes()
                    self._names = msgspec.json.decode(self._vault.unseal(sealed, _ABOUT), type=frozenset[str])
                    self._stamp = stamp
                return self._names
        except (OSError, Tampered, VaultLocked, msgspec.DecodeError):
            return frozenset()

    def write(self, names: Iterable[str]) -> bool:
        """Put these in the place of those of before; whether they are others. Raises `OSError`."""
        names = frozenset(names)
        if names == self.names():
            return False
        Spool(self._path.parent).write(_FILE, self._vault.seal(msgspec.json.encode(sorted(names)), _ABOUT))
        return True
