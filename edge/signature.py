"""Ed25519 signatures (RFC 8032) over texts: of a fleet over its orders, of whoever builds the software over updates.

What a signature is for stands under it before the text, so that none can be taken for anything else under the same key.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import ScansideError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class KeyUnusable(ScansideError):  # noqa: N818 - what is the matter with it
    """The file holds no private key that can sign."""


def sign(purpose: str, text: str, key: Ed25519PrivateKey) -> str:
    """The signature over the purpose, a zero byte and the text in UTF-8, in base64."""
    return base64.b64encode(key.sign(_signed(purpose, text))).decode()


def is_signed(purpose: str, text: str, signature: str, keys: Iterable[bytes]) -> bool:
    """Whether one of these public keys (PEM, Ed25519) made the signature; one that is none counts for nothing."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - 8 MB that a box pays for at its first order
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415

    try:
        made = base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        return False
    for pem in keys:
        try:
            key = load_pem_public_key(pem)
            if isinstance(key, Ed25519PublicKey):
                key.verify(made, _signed(purpose, text))
                return True
        except (ValueError, InvalidSignature):
            continue
    return False


def public_keys(folder: Path | None) -> list[bytes]:
    """The keys in a folder (`*.pub`), read anew: one that a person takes away counts no more at once."""
    keys = []
    for file in sorted(folder.glob("*.pub")) if folder else ():
        try:
            keys.append(file.read_bytes())
        except OSError:
            continue  # counts for nothing, and what it has signed is refused as not signed
    return keys


def private_key(file: Path) -> Ed25519PrivateKey:
    """A key that signs (PEM, Ed25519, without a passphrase). Raises `KeyUnusable`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyUnusable(f"{file}: cannot be read ({error}): give an Ed25519 key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable(f"{file}: not an Ed25519 key: give one")
    return key


def _signed(purpose: str, text: str) -> bytes:
    return purpose.encode() + b"\0" + text.encode()
