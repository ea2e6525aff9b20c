"""The last step: every file's digest into bundle.yaml, a signature over it, and the whole folder into place at once."""

import base64
import hashlib
import os
import shutil
from pathlib import Path

import msgspec
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.errors import ScansideError
from edge.inference.bundle import BUNDLE_FILE, ONNX_FILE, OPENVINO_FILE, SIGNATURE_FILE, Bundle

MAX_BYTES = 12_000_000
"""Of the models of both engines together."""


class SealError(ScansideError):
    """A bundle that must not leave the export stage; the message is one line."""


def seal(folder: Path, bundle: Bundle, key: Ed25519PrivateKey) -> str:
    """Lists the digests of all files in ``folder``, writes bundle.yaml and its detached signature.

    Returns:
        The bundle's digest, ``sha256:...``.

    Raises:
        SealError: The files are larger than a bundle may be.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    models = (folder / ONNX_FILE, *(folder / OPENVINO_FILE).parent.iterdir())
    total = sum(path.stat().st_size for path in models)
    if total > MAX_BYTES:
        raise SealError(f"{folder}: models of {total:,} bytes, at most {MAX_BYTES:,} may be; quantize more of them")
    files = {path.relative_to(folder).as_posix(): _digest(path.read_bytes()) for path in paths}
    complete = msgspec.to_builtins(msgspec.structs.replace(bundle, files=files))
    sealed = yaml.safe_dump(complete, sort_keys=False, allow_unicode=True, width=120).encode()
    (folder / BUNDLE_FILE).write_bytes(sealed)
    (folder / SIGNATURE_FILE).write_bytes(base64.b64encode(key.sign(sealed)))
    return _digest(sealed)


def install(staged: Path, final: Path) -> None:
    """Puts a complete folder in the place of another, on the same file system; the old one goes only afterwards."""
    for path in staged.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    old = final.with_name(f".{final.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    staged.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"
