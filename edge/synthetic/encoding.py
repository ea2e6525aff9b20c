"""Stored values to Pixel Data in any transfer syntax (PS3.5 annex A), each with the depths that its coder states.

The coders are loaded at their first use: a box that never draws a radiograph never pays for them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_JPEG_QUALITY = 95
_NEAR = 2  # grey levels by which JPEG-LS near-lossless may be wrong
_JPEG_2000_PSNR = 60  # dB
_HTJ2K_STEP = 0.004  # of full scale

Stored = NDArray[Any]
"""uint8 or uint16 (rows, columns)."""


class Coding(NamedTuple):
    """How a transfer syntax carries pixels.

    Attributes:
        depths: Values of Bits Stored that it can state truly, the first being the usual one.
        encode: Stored values and Bits Stored to one frame; None where the pixels stay as they are.
        lossy_method: Lossy Image Compression Method (0028,2114, PS3.3 C.7.6.1.1.5.1); None where it is lossless.
    """

    depths: tuple[int, ...]
    encode: Callable[[Stored, int], bytes] | None = None
    lossy_method: str | None = None


def _jpeg(stored: Stored, bits: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    return bytes(imagecodecs.jpeg8_encode(stored, level=_JPEG_QUALITY, bitspersample=bits))


def _jpeg_lossless(stored: Stored, bits: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    return bytes(imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=bits))


def _jpeg_ls(stored: Stored, _: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    return bytes(imagecodecs.jpegls_encode(stored))


def _jpeg_ls_near(stored: Stored, _: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    return bytes(imagecodecs.jpegls_encode(stored, level=_NEAR))


def _jpeg_2000(stored: Stored, bits: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    return bytes(imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k", reversible=True, bitspersample=bits))


def _jpeg_2000_lossy(stored: Stored, bits: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    level = _JPEG_2000_PSNR
    return bytes(imagecodecs.jpeg2k_encode(stored, level, codecformat="j2k", reversible=False, bitspersample=bits))


def _htj2k(stored: Stored, _: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    return bytes(imagecodecs.htj2k_encode(stored, reversible=True))


def _htj2k_lossy(stored: Stored, _: int) -> bytes:
    import imagecodecs  # noqa: PLC0415

    return bytes(imagecodecs.htj2k_encode(stored, level=_HTJ2K_STEP, reversible=False))


def _rle(stored: Stored, _: int) -> bytes:
    """Byte planes, the most significant first, each row packed by itself (PS3.5 annex G)."""
    import imagecodecs  # noqa: PLC0415

    planes = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder(">"))).view(np.uint8)
    planes = planes.reshape(*stored.shape, stored.itemsize)
    segments = []
    for plane in range(stored.itemsize):
        rows = (row.tobytes() for row in np.ascontiguousarray(planes[..., plane]))
        segment = b"".join(bytes(imagecodecs.packbits_encode(row)) for row in rows)
        segments.append(segment + b"\0" * (len(segment) % 2))
    offsets = np.cumsum([64, *map(len, segments)])[: len(segments)]
    return struct.pack("<16L", len(segments), *offsets, *[0] * (15 - len(segments))) + b"".join(segments)


_ANY = (12, 8, 10, 14, 16)
_WHOLE = (16, 8)  # these coders know no depth between
CODINGS: dict[str, Coding] = {
    "1.2.840.10008.1.2": Coding(_ANY),
    "1.2.840.10008.1.2.1": Coding(_ANY),
    "1.2.840.10008.1.2.1.99": Coding(_ANY),
    "1.2.840.10008.1.2.2": Coding(_ANY),
    "1.2.840.10008.1.2.5": Coding(_ANY, _rle),
    "1.2.840.10008.1.2.4.50": Coding((8,), _jpeg, "ISO_10918_1"),
    "1.2.840.10008.1.2.4.51": Coding((12,), _jpeg, "ISO_10918_1"),
    "1.2.840.10008.1.2.4.57": Coding(_ANY, _jpeg_lossless),
    "1.2.840.10008.1.2.4.70": Coding(_ANY, _jpeg_lossless),
    "1.2.840.10008.1.2.4.80": Coding(_WHOLE, _jpeg_ls),
    "1.2.840.10008.1.2.4.81": Coding(_WHOLE, _jpeg_ls_near, "ISO_14495_1"),
    "1.2.840.10008.1.2.4.90": Coding(_ANY, _jpeg_2000),
    "1.2.840.10008.1.2.4.91": Coding(_ANY, _jpeg_2000_lossy, "ISO_15444_1"),
    "1.2.840.10008.1.2.4.201": Coding(_WHOLE, _htj2k),
    "1.2.840.10008.1.2.4.203": Coding(_WHOLE, _htj2k_lossy, "ISO_15444_15"),
}
"""By transfer syntax UID."""
