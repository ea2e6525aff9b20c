"""Updates from a stick: a package beside a signed document, and all that must hold before it is installed.

The document (`update.json`) holds a text and the signature over that very text; the text names the package's file,
size and SHA-256, its version and architecture. Nothing of it is read before the signature holds, and nothing of the
stick is read twice: what was hashed is what is tried and installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import msgspec

from edge import reasons, signature
from edge.device.checks import Check
from edge.durable import flush_folder
from edge.errors import ScansideError
from edge.records import Record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

DOCUMENT = "update.json"
READY = "update.deb"
"""What `take` leaves behind: the systemd unit that installs it waits for this file (`systemd/update`)."""

TRIED_WITHIN = 900.0
"""Seconds that the new software may take for its models' self-tests."""

_PURPOSE = "scanside.update/1"
_COMING, _TRIED = "coming.deb", "tried"
_LARGEST_DOCUMENT = 16 * 1024
_PIECE = 1 << 20


class Update(Record, frozen=True, kw_only=True):
    """What is signed.

    Attributes:
        file: The package's name on the stick.
        size: Its bytes.
        sha256: Their SHA-256 in hex.
    """

    schema: Literal["scanside.update/1"] = "scanside.update/1"
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9][0-9A-Za-z.+~-]{0,63}$")]
    architecture: Literal["amd64", "arm64"]
    file: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.+~-]{0,127}\.deb$")]
    size: Annotated[int, msgspec.Meta(ge=1, le=4 << 30)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class Document(Record, frozen=True, kw_only=True):
    """`update.json`: the JSON of an `Update`, and the signature over it (`edge.signature`)."""

    update: str
    signature: str


class UpdateRefused(ScansideError):  # noqa: N818 - what happened to it
    """The update is not taken: nothing of it was left on the box."""


def prepare(package: Path, key: Ed25519PrivateKey, stick: Path) -> Update:
    """Put a package and its signed document onto a stick.

    Raises:
        UpdateRefused: It is no package of this software.
        OSError: A file cannot be read or written.
    """
    fields = {name: _field(package, name) for name in ("Package", "Version", "Architecture")}
    if fields["Package"] != "scanside":
        raise UpdateRefused(
            f"{package}: package {fields['Package'] or 'none'}, must be scanside: give one of `make deb`"
        )
    with package.open("rb") as file, (stick / package.name).open("wb") as copy:
        size, sha256 = _copy(file, copy)
    try:
        update = msgspec.convert(
            {
                "version": fields["Version"],
                "architecture": fields["Architecture"],
                "file": package.name,
                "size": size,
                "sha256": sha256,
            },
            Update,
        )
    except msgspec.ValidationError as error:
        raise UpdateRefused(f"{package}: {error}: give one of `make deb`, by its name") from error
    text = msgspec.json.encode(update).decode()
    document = Document(update=text, signature=signature.sign(_PURPOSE, text, key))
    with (stick / DOCUMENT).open("wb") as file:
        _copy(BytesIO(msgspec.json.encode(document)), file)
    return update


def take(stick: Path, place: Path, keys: Iterable[bytes], installed: str, rehearse: Callable[[Path], str]) -> Update:
    """Leave a stick's package as `READY` in `place`, on the disk, once all holds; else nothing.

    Args:
        stick: Where it is mounted.
        place: A folder for nobody else, with room for the package and what is in it.
        keys: Public keys (PEM) whose signatures count.
        installed: The version that runs.
        rehearse: Tries the unpacked package; says what is wrong, empty when nothing is.

    Returns:
        The update; of the version that runs nothing was left.

    Raises:
        UpdateRefused: Something does not hold; the words say what.
        OSError: The disk, or the stick.
    """
    if (place / READY).exists():  # dpkg reads it, or will after a power cut in the middle
        raise UpdateRefused(reasons.UPDATE_UNDER_WAY)
    _clear(place)
    try:
        update = read(stick, keys)
        if update.version != installed:
            _check_fit(update, installed)
            _fetch(stick, update, place / _COMING)
            _unpack(place / _COMING, place / _TRIED)
            if wrong := rehearse(place / _TRIED):
                raise UpdateRefused(reasons.UPDATE_UNFIT.format(version=update.version, why=wrong))
            (place / _COMING).rename(place / READY)
            flush_folder(place)
    finally:
        _clear(place)
    return update


def read(stick: Path, keys: Iterable[bytes]) -> Update:
    """The update that a stick's document names, signed by one of the keys. Raises `UpdateRefused`."""
    try:
        with (stick / DOCUMENT).open("rb") as file:
            document = msgspec.json.decode(file.read(_LARGEST_DOCUMENT), type=Document)
    except FileNotFoundError:
        raise UpdateRefused(reasons.UPDATE_MISSING.format(file=DOCUMENT)) from None
    except (OSError, msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UpdateRefused(reasons.UPDATE_UNREADABLE.format(file=DOCUMENT)) from error
    if not signature.is_signed(_PURPOSE, document.update, document.signature, keys):
        raise UpdateRefused(reasons.UPDATE_UNSIGNED)
    try:
        return msgspec.json.decode(document.update, type=Update)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise UpdateRefused(reasons.UPDATE_UNKNOWN.format(file=DOCUMENT)) from error


def try_models(tree: Path, config: Path) -> str:
    """Let the software in an unpacked package check its models under the box's configuration; what is wrong, or empty.

    It is run where it lies, and touches nothing of the box.
    """
    here = tree / "opt" / "scanside" / "bin"
    command = [
        str(here / "python"),
        "-B",
        str(here / "scanside"),
        "doctor",
        "--models",
        "--json",
        "--config",
        str(config),
    ]
    try:
        done = subprocess.run(
            command, cwd=tree, capture_output=True, text=True, timeout=TRIED_WITHIN, check=False
        )  # its exit status is 1 as soon as one engine of two does not serve
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"its models were not tried ({type(error).__name__})"
    try:
        checks = [Check(**json.loads(line)) for line in done.stdout.splitlines()]
    except (ValueError, TypeError):
        checks = []
    return judge(checks) if checks else " ".join(done.stderr.split())[-200:] or "its doctor said nothing"


def judge(checks: Iterable[Check]) -> str:
    """What speaks against software whose doctor says this of its models: one that is broken, or no engine for all."""
    engines: dict[str, bool] = {}
    for check in checks:
        if check.name.startswith("engine "):
            engines[check.name] = engines.get(check.name, True) and check.well
        elif not check.well:
            return check.said
    return "" if any(engines.values()) else reasons.NO_ENGINE


def _clear(place: Path) -> None:
    (place / _COMING).unlink(missing_ok=True)
    shutil.rmtree(place / _TRIED, ignore_errors=True)


def _check_fit(update: Update, installed: str) -> None:
    here = _said(["dpkg", "--print-architecture"])
    if update.architecture != here:
        raise UpdateRefused(reasons.UPDATE_OTHER_PROCESSOR.format(architecture=update.architecture, here=here))
    newer = ["dpkg", "--compare-versions", update.version, "gt", installed]
    if subprocess.run(newer, check=False).returncode:
        raise UpdateRefused(reasons.UPDATE_OLDER.format(version=update.version, installed=installed))


def _fetch(stick: Path, update: Update, to: Path) -> None:
    with (stick / update.file).open("rb") as file, to.open("xb") as copy:
        size, sha256 = _copy(file, copy, most=update.size)
    if (size, sha256) != (update.size, update.sha256):
        raise UpdateRefused(reasons.UPDATE_CHANGED.format(file=update.file))


def _copy(file: BinaryIO, copy: BinaryIO, most: int | None = None) -> tuple[int, str]:
    """Copy it onto the disk; how many bytes and their SHA-256. One byte beyond `most` is the last that is taken."""
    digest, size = hashlib.sha256(), 0
    for piece in iter(partial(file.read, _PIECE), b""):
        digest.update(piece)
        size += len(piece)
        copy.write(piece)
        if most is not None and size > most:
            break
    copy.flush()
    os.fsync(copy.fileno())
    return size, digest.hexdigest()


def _unpack(package: Path, tree: Path) -> None:
    """As whoever this is: `dpkg-deb --extract` gives files their owners, which the unit may not."""
    tree.mkdir()
    reader = ["dpkg-deb", "--fsys-tarfile", str(package)]
    writer = ["tar", "--extract", "--no-same-owner", "--directory", str(tree)]
    with subprocess.Popen(reader, stdout=subprocess.PIPE) as files:
        done = subprocess.run(writer, stdin=files.stdout, check=False)
    if done.returncode or files.returncode:  # the log says why
        raise UpdateRefused(reasons.UPDATE_NOT_UNPACKED)


def _field(package: Path, name: str) -> str:
    return _said(["dpkg-deb", "--field", str(package), name])


def _said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
