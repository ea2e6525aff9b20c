"""Which object a DICOM data set is, whose, and whether it is urgent: what stands before its pixels, in bounded time.

For what listens to strangers, without a DICOM library. Nothing recurses, nothing is copied but these values, and no
more than `_MOST_ELEMENTS` are looked at, so that neither sequences nested without end nor lengths that lie cost more
than a few milliseconds.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID = 0x0008_0016, 0x0008_0018, 0x0020_000D
_ACCESSION_NUMBER, _PATIENT_ID = 0x0008_0050, 0x0010_0020
_REQUESTED_PROCEDURE_PRIORITY = 0x0040_1003
URGENT_TERMS = frozenset(("STAT", "HIGH", "EMERGENCY"))
"""The first two are defined terms (PS3.3 C.4.11); the third is not, and leaves no doubt."""

_TRANSFER_SYNTAX_UID, _LAST_OF_META = 0x0002_0010, 0x0002_FFFF
_ITEM_END, _SEQUENCE_END, _ITEM_GROUP = 0xFFFE_E00D, 0xFFFE_E0DD, 0xFFFE
_UNDEFINED = 0xFFFF_FFFF
_LONG_VRS = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_DEFLATED, _BIG_ENDIAN = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2"
_PREAMBLE, _PREFIX = 128, b"DICM"
_MOST_ELEMENTS = 5_000
_MOST_INFLATED = 1 << 20
_LONGEST_WORD = 16
_LONGEST_TEXT = 256
_LONGEST_UID = 128
"""64 is the rule (PS3.5 9.1); devices exist that exceed it by a little."""

_UID = re.compile(rb"[!-~]{1,%d}" % _LONGEST_UID)


class Unidentified(ValueError):  # noqa: N818 - an answer about the data, not a defect
    """The data set does not say which object it is; the message says why, without any of its values."""


class Identity(NamedTuple):
    """What the elements before the pixels say of a data set.

    Attributes:
        sop_class_uid: (0008,0016).
        sop_instance_uid: (0008,0018).
        study_instance_uid: (0020,000D), empty where they do not say it.
        patient_id: (0010,0020), likewise.
        urgent: Requested Procedure Priority (0040,1003), which modalities copy from their worklist, is STAT or HIGH.
        accession_number: (0008,0050), empty where they do not say it.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str = ""
    patient_id: str = ""
    urgent: bool = False
    accession_number: str = ""


def read_file_identity(data: bytes | bytearray | memoryview) -> tuple[str, Identity]:
    """Transfer syntax and identity of a DICOM file (PS3.10 7.1). Raises `Unidentified`."""
    syntax, start = read_file_meta(data)
    return syntax, read_identity(memoryview(data)[start:], syntax)


def read_file_meta(data: bytes | bytearray | memoryview) -> tuple[str, int]:
    """Transfer syntax of a DICOM file (PS3.10 7.1), and where its data set begins. Raises `Unidentified`."""
    view = memoryview(data)
    start = _PREAMBLE + len(_PREFIX)
    if view[_PREAMBLE:start] != _PREFIX:
        raise Unidentified("not a DICOM file: the prefix DICM is missing (PS3.10 7.1)")
    syntax, data_set = "", start
    for tag, value, end in _elements(view[start:], explicit=True, order="<", last=_LAST_OF_META):
        if tag == _TRANSFER_SYNTAX_UID:
            syntax = _uid(value)
        data_set = start + end
    if not syntax:
        raise Unidentified("the file meta information names no transfer syntax")
    return syntax, data_set


def read_identity(data_set: bytes | bytearray | memoryview, transfer_syntax: str) -> Identity:
    """What the elements before the pixels say of a data set without file meta information.

    Raises:
        Unidentified: It is empty, cannot be read up to its SOP Instance UID, or does not have it or the SOP Class UID.
    """
    view = memoryview(data_set)
    if not view:
        raise Unidentified("the data set is empty")
    found: dict[int, str] = {}
    texts = {_PATIENT_ID: "", _ACCESSION_NUMBER: ""}
    urgent = False
    try:
        if transfer_syntax == _DEFLATED:
            view = memoryview(zlib.decompressobj(-zlib.MAX_WBITS).decompress(view, _MOST_INFLATED))
        order = ">" if transfer_syntax == _BIG_ENDIAN else "<"
        last = _REQUESTED_PROCEDURE_PRIORITY
        for tag, value, _ in _elements(view, explicit=_is_explicit(view), order=order, last=last):
            if tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID, _STUDY_INSTANCE_UID):
                found[tag] = _uid(value)
            elif tag in texts:
                texts[tag] = _text(value)
            elif tag == _REQUESTED_PROCEDURE_PRIORITY:
                urgent = _text(value[:_LONGEST_WORD]).upper() in URGENT_TERMS
    except (Unidentified, zlib.error) as error:
        if not found.get(_SOP_CLASS_UID) or not found.get(_SOP_INSTANCE_UID):
            raise Unidentified("the data set cannot be read") from error
    if not found.get(_SOP_CLASS_UID) or not found.get(_SOP_INSTANCE_UID):
        raise Unidentified("the data set has no SOP Class or Instance UID")
    return Identity(
        sop_class_uid=found[_SOP_CLASS_UID],
        sop_instance_uid=found[_SOP_INSTANCE_UID],
        study_instance_uid=found.get(_STUDY_INSTANCE_UID, ""),
        patient_id=texts[_PATIENT_ID],
        urgent=urgent,
        accession_number=texts[_ACCESSION_NUMBER],
    )


def _is_explicit(data_set: memoryview) -> bool:
    """By the first element's own VR, since files often say otherwise than they are."""
    return bytes(data_set[4:6]).isalpha() and bytes(data_set[4:6]).isupper()


def _elements(data: memoryview, *, explicit: bool, order: str, last: int) -> Iterator[tuple[int, memoryview, int]]:
    """Tag, value and end of each element of the top level up to the tag `last`; sequences are walked over.

    Raises:
        Unidentified: A length leads beyond the data, or there are too many elements.
    """
    nested: list[bool] = []  # of each sequence and item of undefined length that is open: explicit VR within
    at = 0
    for _ in range(_MOST_ELEMENTS):
        if at == len(data):
            return
        tag, vr, length, value_at = _head(data, at, nested[-1] if nested else explicit, order)
        if not nested and tag > last:
            return
        if tag in (_ITEM_END, _SEQUENCE_END):
            nested.pop()  # outside of any sequence it is beyond `last`
            at = value_at
        elif length == _UNDEFINED:
            # Of unknown VR and undefined length: a sequence in implicit VR (PS3.5 6.2.2, note 4).
            nested.append((nested[-1] if nested else explicit) and vr != b"UN")
            at = value_at
        else:
            at = value_at + length
            if at > len(data):
                raise Unidentified("a length leads beyond the data")
            if not nested:
                yield tag, data[value_at:at], at
    raise Unidentified(f"more than {_MOST_ELEMENTS} elements before the UIDs")


def _head(data: memoryview, at: int, explicit: bool, order: str) -> tuple[int, bytes, int, int]:
    """Tag, VR, length and where the value begins (PS3.5 7.1). Raises `Unidentified`: the data end before."""
    try:
        group, element = struct.unpack_from(f"{order}HH", data, at)
        tag = group << 16 | element
        if not explicit or group == _ITEM_GROUP:
            return tag, b"", struct.unpack_from(f"{order}I", data, at + 4)[0], at + 8
        vr = bytes(data[at + 4 : at + 6])
        if vr in _LONG_VRS:
            return tag, vr, struct.unpack_from(f"{order}I", data, at + 8)[0], at + 12
        return tag, vr, struct.unpack_from(f"{order}H", data, at + 6)[0], at + 8
    except struct.error as error:
        raise Unidentified("the data end within an element") from error


def _uid(value: memoryview) -> str:
    text = bytes(value[: _LONGEST_UID + 2]).rstrip(b"\0 ")
    return text.decode("ascii") if _UID.fullmatch(text) else ""


def _text(value: memoryview) -> str:
    """A short text in whatever character set: UTF-8 where it can be, else a letter for each byte."""
    text = bytes(value[:_LONGEST_TEXT]).strip(b"\0 ")
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")
