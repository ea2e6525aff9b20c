"""File Meta Information (PS3.10 7.1) of what this box stores: the same for the same object, however it came."""

from __future__ import annotations

import struct

IMPLEMENTATION_CLASS_UID = "2.25.199491396992977404719333051299002334566"
IMPLEMENTATION_VERSION_NAME = "SCANSIDE"
"""Ours in each file's meta information, the same in every version: an image that comes again has the same bytes."""

_VERSION = b"\x00\x01"


def file_meta(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and File Meta Information, behind which a data set stands as it came."""
    elements = (
        struct.pack("<HH2sHI", 0x0002, 0x0001, b"OB", 0, len(_VERSION))
        + _VERSION
        + _short(0x0002, b"UI", sop_class_uid, b"\0")
        + _short(0x0003, b"UI", sop_instance_uid, b"\0")
        + _short(0x0010, b"UI", transfer_syntax_uid, b"\0")
        + _short(0x0012, b"UI", IMPLEMENTATION_CLASS_UID, b"\0")
        + _short(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME, b" ")
    )
    return bytes(128) + b"DICM" + struct.pack("<HH2sHI", 0x0002, 0x0000, b"UL", 4, len(elements)) + elements


def _short(element: int, vr: bytes, text: str, pad: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    value += pad * (len(value) % 2)
    return struct.pack("<HH2sH", 0x0002, element, vr, len(value)) + value
