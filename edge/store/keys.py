"""The key ring: the keys of what lies on the disk, where they come from, and how a new one takes over.

A text file, one key a line: its id (8 hex digits) and 32 random bytes in base64. The first one seals, all of them open.
An id is derived from its key, so a line that was damaged or mistyped is told apart from another key.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import NamedTuple

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from edge import events
from edge.durable import flush_folder
from edge.errors import ScansideError
from edge.events import emit
from edge.modes import file_mode, make_folder
from edge.store.lock import folder_lock

CREDENTIAL = "scanside-store-key"
"""The systemd credential that holds the ring, where there is one (systemd.exec(5), LoadCredentialEncrypted)."""

KEY_BYTES = 32
_ID_BYTES = 4
_RESTORE = "restore the key file from where it was kept, or start anew with another state_dir"


class VaultLocked(ScansideError):  # noqa: N818 - a state of the box, not a failure of the code
    """There is no key for what is stored, or none that may be used. The data is as it was."""


class Key(NamedTuple):
    """One key: its id (4 bytes) and its secret (32 bytes)."""

    id: bytes
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.id.hex()})"


class KeyRing(NamedTuple):
    """The keys from one file, the one that seals first."""

    file: Path
    keys: tuple[Key, ...]

    @property
    def ids(self) -> tuple[str, ...]:
        """The keys' ids as a person reads them."""
        return tuple(key.id.hex() for key in self.keys)


def open_ring(state_dir: Path, key_file: Path | None = None) -> KeyRing:
    """The ring of a state folder; a new one where nothing is stored yet.

    Args:
        state_dir: The state folder, which must be there.
        key_file: `storage.key_file`; None means the systemd credential, or else `<state_dir>/keys/store.key`.

    Raises:
        VaultLocked: It is missing beside stored data, readable by others, damaged, or cannot be read or made.
    """
    file = ring_file(state_dir, key_file)
    try:
        if file.parent == state_dir / "keys":
            make_folder(file.parent)
        with folder_lock(file.parent):  # services start together, and one of them makes the ring
            ring = find_ring(state_dir, key_file)
            if ring is None:
                ring = KeyRing(file, (new_key(),))
                write_ring(ring)
                emit(events.KEY_CREATED, key=ring.ids[0], file=file)
    except OSError as error:
        raise VaultLocked(f"{file}: cannot be read or made ({error.strerror}): {_RESTORE}") from error
    return ring


def find_ring(state_dir: Path, key_file: Path | None = None) -> KeyRing | None:
    """The ring of a state folder; None where there is none and nothing is stored yet. Raises as `open_ring`."""
    file = ring_file(state_dir, key_file)
    try:
        with file.open("rb") as opened:
            mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
            text = opened.read()
    except FileNotFoundError:
        if _holds_data(state_dir):
            raise VaultLocked(f"{file}: missing, and {state_dir} holds what it sealed: {_RESTORE}") from None
        return None
    except OSError as error:
        raise VaultLocked(f"{file}: cannot be read ({error.strerror}): {_RESTORE}") from error
    # systemd lets the service alone read a credential, by an access control list that shows as the group's bits.
    allowed = file_mode(file.parent) if file.parent == state_dir / "keys" else 0o600
    if mode & 0o077 & ~allowed and file != _credential():
        raise VaultLocked(f"{file}: mode {mode:04o}, others must not read a key: chmod 600 it, and rotate the key")
    return KeyRing(file, parse_keys(text, file))


def ring_file(state_dir: Path, key_file: Path | None) -> Path:
    """Where the ring of a state folder lies, or would."""
    credential = _credential()
    if key_file is not None:
        return key_file
    return credential if credential and credential.exists() else state_dir / "keys" / "store.key"


def parse_keys(text: bytes, file: Path) -> tuple[Key, ...]:
    """The keys in a ring's text. Raises `VaultLocked`, with the line and never with what stands there."""
    keys = []
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words:
            continue
        key = _parse_key(words)
        if key is None:
            raise VaultLocked(f"{file}:{number}: not a key (8 hex digits, 32 bytes in base64), or damaged: {_RESTORE}")
        keys.append(key)
    if not keys:
        raise VaultLocked(f"{file}: holds no key: {_RESTORE}")
    return tuple(keys)


def new_key() -> Key:
    """A random key."""
    return _key(os.urandom(KEY_BYTES))


def write_ring(ring: KeyRing) -> None:
    """Write the ring's file durably, the old one being there until the new one is. Raises `OSError`."""
    temporary = ring.file.with_name(ring.file.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, file_mode(ring.file.parent))
    with os.fdopen(descriptor, "wb") as file:
        file.write(ring_text(ring))
        file.flush()
        os.fsync(descriptor)
    temporary.rename(ring.file)
    flush_folder(ring.file.parent)


def ring_text(ring: KeyRing) -> bytes:
    """What stands in the ring's file."""
    return b"".join(b"%s %s\n" % (key.id.hex().encode(), base64.b64encode(key.secret)) for key in ring.keys)


def derive(secret: bytes, purpose: str, salt: bytes | None = None, length: int = KEY_BYTES) -> bytes:
    """A key for one purpose alone, which says nothing about the secret or other purposes' keys (HKDF, RFC 5869)."""
    return HKDF(SHA256(), length, salt, f"scanside {purpose}".encode()).derive(secret)


def _key(secret: bytes) -> Key:
    return Key(derive(secret, "key id", length=_ID_BYTES), secret)


def _parse_key(words: list[bytes]) -> Key | None:
    try:
        named, encoded = words
        key = _key(base64.b64decode(encoded, validate=True))
    except (ValueError, binascii.Error):
        return None
    whole = len(key.secret) == KEY_BYTES and base64.b64encode(key.secret) == encoded
    return key if whole and key.id.hex().encode() == named.lower() else None


def _credential() -> Path | None:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    # Closed where systemd could not mount it: in a container whose mounts do not reach from one namespace to the other.
    return Path(folder) / CREDENTIAL if folder and os.access(folder, os.X_OK) else None


def _holds_data(state_dir: Path) -> bool:
    # `os.path.exists`: on a device, the trail's folder is closed to who does not write it.
    if any(os.path.exists(state_dir / name) for name in ("journal.sqlite", "audit/audit.sqlite")):  # noqa: PTH110
        return True
    return any(path.is_file() for path in (state_dir / "spool").rglob("*"))
