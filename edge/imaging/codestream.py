"""What a compressed frame says about itself, read before its codec may allocate anything. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_JPEG_END = b"\xff\xd9"
_PADDING = 32
_SIGNATURE_BOX = b"\x00\x00\x00\x0c"
_SOC = b"\xff\x4f"
_SIZ, _COD, _SOT = 0x51, 0x52, 0x90
_SOS = 0xDA
_START_OF_FRAME = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC} | {0xF7}
_BASELINE_TO_PROGRESSIVE = {0xC0, 0xC1, 0xC2}
_JPEG_HALVINGS = 3


class Coded(NamedTuple):
    """One compressed frame.

    Attributes:
        rows: Height, pixels.
        columns: Width, pixels.
        samples: Components of a pixel; None where the codestream was not read as far.
        bits: Of a sample; None likewise.
        signed: Whether samples carry a sign.
        halvings: How often the codec can halve rows and columns while it decodes, each time rounding up.
    """

    rows: int
    columns: int
    samples: int | None = None
    bits: int | None = None
    signed: bool = False
    halvings: int = 0


class Unreadable(Exception):  # noqa: N818 - says what the codestream is
    """A codestream without what its codec needs: start, size, or end."""


def read_jpeg(frame: bytes) -> Coded:
    """JPEG (ISO/IEC 10918-1 B.2.2) and JPEG-LS (ISO/IEC 14495-1 C.2.2), by their frame header.

    Raises:
        Unreadable: It is no JPEG, has no frame header, or breaks off before its end: codecs would fill up with grey.
    """
    _require_end(frame)
    if not frame.startswith(b"\xff\xd8"):
        raise Unreadable("no start of image")
    for marker, body in _segments(frame, 2):
        if marker in _START_OF_FRAME and len(body) >= 6:
            bits, rows, columns, samples = struct.unpack(">BHHB", body[:6])
            scales = marker in _BASELINE_TO_PROGRESSIVE and bits == 8
            return Coded(rows, columns, samples, bits, halvings=_JPEG_HALVINGS if scales else 0)
        if marker == _SOS:
            break
    raise Unreadable("no frame header")


def read_jpeg_2000(frame: bytes) -> Coded:
    """JPEG 2000 and HTJ2K, bare or in a JP2 file: the SIZ and COD segments (ISO/IEC 15444-1 A.5.1, A.6.1, I.4).

    Raises:
        Unreadable: It is no codestream, has no SIZ segment, or breaks off before its end.
    """
    _require_end(frame)
    start = _in_boxes(frame, b"jp2c")
    if frame[start : start + 2] != _SOC:
        raise Unreadable("no start of codestream")
    size: Coded | None = None
    for marker, body in _segments(frame, start + 2):
        if marker == _SIZ and len(body) >= 37:
            x1, y1, x0, y0 = struct.unpack(">4I", body[2:18])
            samples, depth, dx, dy = struct.unpack(">HBBB", body[34:39])
            if not dx or not dy:
                raise Unreadable("no sampling")
            size = Coded(-(-y1 // dy) + -y0 // dy, -(-x1 // dx) + -x0 // dx, samples, (depth & 127) + 1, depth > 127)
        elif marker == _COD and size and len(body) >= 6:
            return size._replace(halvings=body[5])
        elif marker == _SOT:
            break
    if size is None:
        raise Unreadable("no size")
    return size


def bare_jpeg_2000(frame: bytes) -> bytes:
    """The codestream without the JP2 file that some writers leave around it."""
    return frame[_in_boxes(frame, b"jp2c") :]


def read_jpeg_xl(frame: bytes) -> Coded:
    """JPEG XL, bare or in its container: the size header (ISO/IEC 18181-1 D.2). Samples and bits are not read.

    Raises:
        Unreadable: It is no JPEG XL.
    """
    start = _in_boxes(frame, b"jxlc")
    if not start and frame.startswith(_SIGNATURE_BOX):
        start = _in_boxes(frame, b"jxlp") + 4  # its number comes first
    if frame[start : start + 2] != b"\xff\x0a":
        raise Unreadable("no JPEG XL signature")
    bits = _Bits(frame[start + 2 : start + 18])
    small = bits.take(1)
    rows = _jpeg_xl_length(bits, small)
    ratio = bits.take(3)
    across, down = ((0, 0), (1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))[ratio]
    return Coded(rows, rows * across // down if ratio else _jpeg_xl_length(bits, small))


def _jpeg_xl_length(bits: _Bits, small: int) -> int:
    return (bits.take(5) + 1) * 8 if small else bits.take((9, 13, 18, 30)[bits.take(2)]) + 1


class _Bits:
    """Numbers of some bits, the least significant first."""

    def __init__(self, data: bytes) -> None:
        self._rest = int.from_bytes(data, "little")

    def take(self, count: int) -> int:
        value = self._rest & ((1 << count) - 1)
        self._rest >>= count
        return value


def _require_end(frame: bytes) -> None:
    """Up to a few bytes of padding are seen behind the end marker, zero or not."""
    if _JPEG_END not in frame.rstrip(b"\0")[-_PADDING:]:
        raise Unreadable("it breaks off before its end marker")


def _segments(frame: bytes, position: int) -> Iterator[tuple[int, bytes]]:
    """Marker segments: the marker's second byte and what follows its length, until something else comes."""
    while position + 4 <= len(frame) and frame[position] == 0xFF:
        marker = frame[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        length = int.from_bytes(frame[position + 2 : position + 4], "big")
        yield marker, frame[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)


def _in_boxes(frame: bytes, wanted: bytes) -> int:
    """Where the content of the first such box begins (ISO/IEC 15444-1 I.4); 0 where there is none."""
    position = 0
    while frame.startswith(_SIGNATURE_BOX) and position + 8 <= len(frame):
        length, kind = struct.unpack_from(">I4s", frame, position)
        header = 16 if length == 1 else 8
        if kind == wanted:
            return position + header
        if length == 1:
            length = int.from_bytes(frame[position + 8 : position + 16], "big")
        if length < header:  # 0: to the end of the file
            break
        position += length
    return 0
