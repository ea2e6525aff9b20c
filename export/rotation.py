"""A new signing key for bundles that are sealed already, without the old private key."""

import base64
from collections.abc import Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.inference.bundle import BUNDLE_FILE, SIGNATURE_FILE, find_bundles, open_bundle
from export.keys import KeyFileError, load_key, public_pem, write_private_key, write_whole


def rotate(name: str, *, signing_key: Path, trusted_keys: Path, models: Path) -> Sequence[Path]:
    """Makes a key pair, signs every bundle under ``models`` with it, and trusts it alone.

    What is sealed stays as it is: ``bundle.yaml`` keeps its bytes and so its digest. At every moment the trusted keys
    verify every bundle, so an interrupted rotation harms nobody and goes on when it is called again.

    Args:
        name: Of the new public key, ``<name>.pub``; all others in ``trusted_keys`` are removed in the end.
        signing_key: Gets the new private key; one that is there moves to ``<its name>-before-<name>``.
        trusted_keys: Folder of the public keys.
        models: Folder with ``<id>/bundle/``.

    Returns:
        The bundles' folders.

    Raises:
        BundleError: The trusted keys do not verify a bundle as it is: nothing was changed.
        KeyFileError: There is no bundle, or the name is taken by another key.
    """
    bundles = find_bundles(models)
    if not bundles:
        raise KeyFileError(f"{models}: no bundle in it to sign; give the folder that holds <id>/bundle with --models")
    trusted = sorted(trusted_keys.glob("*.pub"))
    for bundle in bundles:
        open_bundle(bundle, trusted)
    public, staged = trusted_keys / f"{name}.pub", signing_key.with_name(f"{name}.next-key")
    key = _new_key(public, staged, signing_key)
    write_whole(public, public_pem(key))
    for bundle in bundles:
        sealed = (bundle / BUNDLE_FILE).read_bytes()
        write_whole(bundle / SIGNATURE_FILE, base64.b64encode(key.sign(sealed)))
    for bundle in bundles:
        open_bundle(bundle, [public])
    for old in trusted:
        if old != public:
            old.unlink()
    if staged.exists():
        if signing_key.exists():
            signing_key.rename(signing_key.with_name(f"{signing_key.name}-before-{name}"))
        staged.rename(signing_key)
    return bundles


def _new_key(public: Path, staged: Path, signing_key: Path) -> Ed25519PrivateKey:
    """A new key in ``staged``, or the one that an earlier rotation to the same name left there or put in its place."""
    if not staged.exists() and not public.exists():
        write_private_key(staged, Ed25519PrivateKey.generate())
    left = next((path for path in (staged, signing_key) if path.exists()), None)
    key = None if left is None else load_key(left)
    if key is None or (public.exists() and public.read_bytes() != public_pem(key)):
        raise KeyFileError(f"{public}: exists already and a key is never overwritten; choose another name")
    return key
