"""Ed25519 keys that seal bundles: the private key stays with the person, the public one goes into the repository."""

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.errors import ScansideError

DEFAULT_KEY = Path("~/.config/scanside/signing.key")


class KeyFileError(ScansideError):
    """A key that cannot be made or read; the message is one line."""


def new_key(private: Path, public: Path) -> None:
    """Makes a key pair: ``private`` (PEM, PKCS 8, mode 0600) and ``public`` (PEM).

    Raises:
        KeyFileError: One of the files exists: a key in use is never overwritten.
    """
    for path in (private, public):
        if path.exists():
            raise KeyFileError(f"{path}: exists already and a key is never overwritten; choose another name")
    key = Ed25519PrivateKey.generate()
    write_private_key(private, key)
    write_whole(public, public_pem(key))


def public_pem(key: Ed25519PrivateKey) -> bytes:
    """The public half of a key, as PEM."""
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def write_private_key(path: Path, key: Ed25519PrivateKey) -> None:
    """Writes a private key as PEM (PKCS 8), for its owner only, whole or not at all."""
    encoded = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(path, encoded, mode=0o600)


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Writes a file that is on the disk before it appears at ``path``; ``mode`` applies before its content is there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def load_key(path: Path) -> Ed25519PrivateKey:
    """Reads a private key.

    Raises:
        KeyFileError: It is missing, readable by others, or no Ed25519 key.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise KeyFileError(f"{path}: readable by others; a private key has mode 0600: chmod 600 {path}")
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise KeyFileError(
            f"{path}: {error.strerror}; make a key with scanside-export key new, or give --key"
        ) from error
    except (ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: no private key in PEM form ({error}); give another with --key") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(f"{path}: not an Ed25519 key; make one with scanside-export key new")
    return key
