"""What encrypts: values by AES-256-GCM under random nonces, marks by HMAC, and the keys of single files.

Each has keys of its own, derived from those of the ring. What a value is about is authenticated with it: one that was
moved to another row or column does not open (NIST SP 800-38D; RFC 2104).
"""

from __future__ import annotations

import hmac
import os
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from edge import reasons
from edge.errors import ScansideError
from edge.store.keys import KeyRing, VaultLocked, derive

MAGIC = b"SSF1"
"""The first bytes of a sealed file."""

HEADER_BYTES = 40
_VERSION = b"\x01"
_ID = slice(1, 5)
_NONCE = slice(5, 17)
_SHORTEST = 17 + 16
_SALT_BYTES = 32


class Tampered(ScansideError):  # noqa: N818 - what was found, not what failed
    """Stored data is not what was sealed: damaged, cut, or put there by somebody else."""


class FileKey(NamedTuple):
    """The key of one sealed file, and the header (40 bytes) that leads whoever has the ring to it."""

    header: bytes
    secret: bytes

    def __repr__(self) -> str:
        return "FileKey(...)"


class Vault:
    """Seals with the first key of a ring, opens with any. Safe to share between threads."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring
        self._ciphers = {key.id: AESGCM(derive(key.secret, "values")) for key in ring.keys}
        self._marking = [derive(key.secret, "marks") for key in ring.keys]
        self._secrets = {key.id: key.secret for key in ring.keys}
        self._current = ring.keys[0].id
        self._cipher = self._ciphers[self._current]

    @property
    def prefix(self) -> bytes:
        """What every value begins with that the ring's first key has sealed."""
        return _VERSION + self._current

    @property
    def file_prefix(self) -> bytes:
        """What every file begins with whose key comes from the ring's first one."""
        return MAGIC + self._current

    def seal(self, plain: bytes, about: str) -> bytes:
        """Encrypt a value. `about` names its place, as `results.subject:<id>`; it is needed to open it.

        Returns:
            Version (1 byte), key id (4), nonce (12), ciphertext, tag (16): 33 bytes more than the value.
        """
        nonce = os.urandom(12)
        return self.prefix + nonce + self._cipher.encrypt(nonce, plain, about.encode())

    def unseal(self, sealed: bytes, about: str) -> bytes:
        """The value that `seal` was given.

        Raises:
            VaultLocked: The ring lacks the key.
            Tampered: It is not what was sealed about this.
        """
        if len(sealed) < _SHORTEST or sealed[:1] != _VERSION:
            raise Tampered(reasons.SEAL_MISSING.format(place=about))
        cipher = self._ciphers.get(sealed[_ID])
        if cipher is None:
            raise self._locked(about, sealed[_ID])
        try:
            return cipher.decrypt(sealed[_NONCE], memoryview(sealed)[_NONCE.stop :], about.encode())
        except InvalidTag:
            raise Tampered(reasons.SEAL_BROKEN.format(place=about)) from None

    def mark(self, value: str | bytes, about: str) -> str:
        """The same for the same value, and says nothing about it to who lacks the key: for finding it again.

        Returns:
            HMAC-SHA256 of what it is about and the value, as 64 hex digits.
        """
        return _mark(self._marking[0], value, about)

    def marks(self, value: str | bytes, about: str) -> tuple[str, ...]:
        """The value's marks by every key of the ring: some rows have an older one until a rotation is complete."""
        return tuple(_mark(key, value, about) for key in self._marking)

    def new_file(self, name: str) -> FileKey:
        """A key for a new file of this name, which opens no other file."""
        header = self.file_prefix + os.urandom(_SALT_BYTES)
        return FileKey(header, self.file_key(name, header))

    def file_key(self, name: str, header: bytes) -> bytes:
        """The key of a file by its name and its first 40 bytes.

        Raises:
            VaultLocked: The ring lacks the key from which it was made.
            Tampered: The header is none.
        """
        if len(header) != HEADER_BYTES or not header.startswith(MAGIC):
            raise Tampered(f"file {name}: not a sealed file: restore it from a backup")
        secret = self._secrets.get(header[4:8])
        if secret is None:
            raise self._locked(f"file {name}", header[4:8])
        return derive(secret, f"spool file {name}", salt=header)

    def _locked(self, about: str, key_id: bytes) -> VaultLocked:
        return VaultLocked(
            reasons.KEY_MISSING.format(
                place=about, key=key_id.hex(), file=self._ring.file, keys=", ".join(self._ring.ids)
            )
        )


def _mark(key: bytes, value: str | bytes, about: str) -> str:
    data = value.encode() if isinstance(value, str) else value
    return hmac.digest(key, about.encode() + b"\0" + data, "sha256").hex()
