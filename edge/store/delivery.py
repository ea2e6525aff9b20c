"""An object that comes in pieces: on its way into the spool, and not accepted until the store keeps it."""

from __future__ import annotations

import errno
import hashlib
import os
import uuid
from collections.abc import Callable

from edge.records import Instance
from edge.store.keys import VaultLocked
from edge.store.sealed_file import SealedFile, SealedWriter, open_frames, read_header
from edge.store.sealing import Sealing
from edge.store.spool import Incoming, Spool
from edge.store.vault import Tampered, Vault


class Delivery:
    """An object on its way in: hashed, sealed and written as it comes, nothing of it accepted yet.

    Attributes:
        id: The id of the instance that it may become.
        digest: SHA-256 of what came.
        size: How many bytes came.
    """

    def __init__(self, spool: Spool, vault: Vault, *, has_room: Callable[[], bool]) -> None:
        """Begin; `has_room` says before each piece whether the disk may take it."""
        self.id = uuid.uuid4().hex
        self.digest = hashlib.sha256()
        self.size = 0
        self._file: Incoming | None = None
        self._sealing: Sealing | None = None
        self._error: OSError | None = None
        self._has_room = has_room
        self._spool = spool
        self._vault = vault
        key = vault.new_file(self.id)
        self._secret = key.secret
        try:
            self._file = spool.begin(self.id)
            self._sealing = Sealing(SealedWriter(key, self._file.write))
        except OSError as error:
            self._error = error

    def write(self, data: bytes | memoryview) -> None:
        """Take the next piece. After a failing disk it is hashed only: the object may be one that is stored already."""
        self.digest.update(data)
        self.size += len(data)
        if self._sealing is None or self._error:
            return
        try:
            self._check_room()
            self._sealing.write(data)
        except OSError as error:
            self._error = error
            self.discard()

    def _check_room(self) -> None:
        if not self._has_room():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def finish(self, record: bytes) -> None:
        """Complete the file with its record, not on the disk yet. Raises `OSError`, also that of an earlier `write`."""
        if self._error:
            raise self._error
        if self._sealing:
            self._sealing.finish(record)

    def open(self) -> SealedFile:
        """The file that is finished, for another process; the caller closes the descriptor. Raises `OSError`."""
        if self._file is None:
            raise FileNotFoundError(self.id)
        return SealedFile(self._file.open(), self._secret)

    def bring_to_disk(self) -> None:
        """Bring the finished file to the disk, under the id. Raises `OSError`."""
        if self._file:
            self._file.keep()

    def put_back(self, instance_id: str, record: bytes) -> None:
        """Bring what came to the disk as the file of an instance that is the same object. Raises `OSError`.

        It is sealed anew: a file's key hangs on its name.
        """
        self.finish(record)
        if self._file is None:
            return
        descriptor = self._file.open()
        again = self._spool.begin(f"{self.id}.again")
        try:
            writer = SealedWriter(self._vault.new_file(instance_id), again.write)
            for piece, last in open_frames(descriptor, self._secret):
                if not last:
                    writer.write(piece)
            writer.finish(record)
            again.keep(instance_id)
        finally:
            os.close(descriptor)
            again.discard()

    def discard(self) -> None:
        """Remove what came, unless it is on the disk under the id."""
        if self._sealing:
            self._sealing.stop()
        if self._file:
            self._file.discard()


def is_whole(spool: Spool, vault: Vault, instance: Instance) -> bool:
    """Whether the spool still has an accepted object, to its last byte: reads all of it."""
    digest = hashlib.sha256()
    try:
        descriptor = spool.open(instance.id)
        try:
            for piece, last in open_frames(descriptor, vault.file_key(instance.id, read_header(descriptor))):
                if not last:
                    digest.update(piece)
        finally:
            os.close(descriptor)
    except (OSError, Tampered, VaultLocked):
        return False
    return digest.hexdigest() == instance.sha256
