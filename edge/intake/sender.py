"""The other end of the listener: sends DICOM files (C-STORE), for the demo and for trying the box by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pynetdicom import AE
from pynetdicom.association import Association

from edge.device.dicom_client import associate
from edge.errors import ScansideError

_MAX_CONTEXTS = 128


class SendError(ScansideError):
    """Nothing can be sent: the message says why and what to do."""


def send_files(paths: Sequence[Path], host: str, port: int, *, called: str, calling: str, output: TextIO) -> int:
    """Send DICOM files, and those in folders, in one association; write a line for each.

    Returns:
        0 when every file was answered with success, 1 otherwise.

    Raises:
        SendError: There is nothing to send, or the listener does not accept the association.
    """
    kinds = {path: kind for path in _files(paths) if (kind := _kind(path, output))}
    if not kinds:
        raise SendError(f"{', '.join(map(str, paths))}: no DICOM file here: give files with a DICM preamble")
    association = _associate(sorted(set(kinds.values())), host, port, called, calling)
    status = 0
    try:
        for path in kinds:
            status |= _send(association, path, output)
    finally:
        if association.is_established:
            association.release()
    return status


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        yield from sorted(inside for inside in path.rglob("*") if inside.is_file()) if path.is_dir() else [path]


def _kind(path: Path, output: TextIO) -> tuple[str, str] | None:
    """The file's SOP class and transfer syntax, from its file meta information."""
    try:
        meta = read_file_meta_info(path)
        return str(meta.MediaStorageSOPClassUID), str(meta.TransferSyntaxUID)
    except (InvalidDicomError, AttributeError, OSError) as error:
        output.write(f"{path}: not sent: {error}\n")
        return None


def _associate(kinds: Sequence[tuple[str, str]], host: str, port: int, called: str, calling: str) -> Association:
    if len(kinds) > _MAX_CONTEXTS:
        raise SendError(
            f"{len(kinds)} kinds of objects: one association carries {_MAX_CONTEXTS}: send fewer files at once"
        )
    entity = AE(ae_title=calling)
    entity.maximum_pdu_size = 0
    for sop_class, syntax in kinds:
        entity.add_requested_context(sop_class, syntax)
    association = associate(entity, host, port, ae_title=called, max_pdu=0)
    if not association.is_established:
        raise SendError(f"{host}:{port}: no association with {called}: is the listener running, and does it accept us?")
    return association


def _send(association: Association, path: Path, output: TextIO) -> int:
    try:
        answer = association.send_c_store(dcmread(path))
        status = answer.get("Status")
    except (ValueError, RuntimeError, AttributeError, OSError) as error:
        output.write(f"{path}: not sent: {error}\n")
        return 1
    if status == 0x0000:
        output.write(f"{path}: accepted\n")
        return 0
    said = "the connection broke" if status is None else f"status {status:#06x}"
    output.write(f"{path}: not accepted: {said}\n")
    return 1
