"""An object that comes in pieces: on its way into the spool, and not accepted until the store keeps it."""

from __future__ import annotations

import hashlib
import uuid

from edge.store.sealed_file import SealedWriter
from edge.store.spool import Incoming, Spool
from edge.store.vault import Vault


class Delivery:
    """An object on its way in: hashed, sealed and written as it comes, nothing of it accepted yet.

    Attributes:
        id: The id of the instance that it may become.
        digest: SHA-256 of what came.
        size: How many bytes came.
    """

    def __init__(self, spool: Spool, vault: Vault) -> None:
        self.id = uuid.uuid4().hex
        self.digest = hashlib.sha256()
        self.size = 0
        self._file: Incoming | None = None
        self._sealed: SealedWriter | None = None
        self._error: OSError | None = None
        try:
            self._file = spool.begin(self.id)
            self._sealed = SealedWriter(vault.new_file(self.id), self._file.write)
        except OSError as error:
            self._error = error

    def write(self, data: bytes | memoryview) -> None:
        """Take the next piece. After a failing disk it is hashed only: the object may be one that is stored already."""
        self.digest.update(data)
        self.size += len(data)
        if self._sealed is None or self._error:
            return
        try:
            self._sealed.write(data)
        except OSError as error:
            self._error = error
            self.discard()

    def bring_to_disk(self, record: bytes) -> None:
        """Bring object and record to the disk, under the id. Raises `OSError`, also that of an earlier `write`."""
        if self._error:
            raise self._error
        if self._file and self._sealed:
            self._sealed.finish(record)
            self._file.keep()

    def discard(self) -> None:
        """Remove what came, unless it is on the disk under the id."""
        if self._file:
            self._file.discard()
