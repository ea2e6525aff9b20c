"""Pixel Data to an array: the one place that decides which codec reads which transfer syntax.

Uncompressed and RLE data are read by pydicom, everything else by imagecodecs (libjpeg-turbo, CharLS, OpenJPEG, libjxl),
the fastest of the wheels measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from edge.imaging.header import value_of
from edge.imaging.refusal import Refusal
from edge.records import Reason

MAX_PIXELS = 1 << 26
"""Largest image that is decoded, in pixels: 67 million, four times the largest radiography detector."""

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def check_pixels(dataset: Dataset) -> None:
    """Refuse what cannot hold an image before anything is decoded.

    Raises:
        Refusal: `no_pixels`, `hostile_dimensions`, `unsupported_transfer_syntax`, `undecodable`: too short.
    """
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise Refusal(Reason.NO_PIXELS, "no Pixel Data element (7FE0,0010)")
    rows, columns, samples, bits, frames = (
        _count(dataset, keyword, default)
        for keyword, default in (
            ("Rows", 0), ("Columns", 0), ("SamplesPerPixel", 1), ("BitsAllocated", 0), ("NumberOfFrames", 1),
        )
    )  # fmt: skip
    size = f"{rows} rows x {columns} columns x {samples} samples"
    if rows * columns * samples > MAX_PIXELS:
        raise Refusal(Reason.HOSTILE_DIMENSIONS, f"{size}; the rule is at most {MAX_PIXELS}")
    if not rows * columns * samples:
        raise Refusal(Reason.UNDECODABLE, f"{size}: dimensions are missing")
    syntax = transfer_syntax(dataset)
    if syntax not in DECODED_SYNTAXES:
        raise Refusal(Reason.UNSUPPORTED_TRANSFER_SYNTAX, "no codec for this transfer syntax")
    if syntax in _NATIVE_SYNTAXES and "PixelData" in dataset:
        expected = math.ceil(rows * columns * samples * frames * bits / 8)
        if str(value_of(dataset, "PhotometricInterpretation")) == "YBR_FULL_422":
            expected = expected * 2 // 3
        if len(dataset.PixelData) < expected:
            raise Refusal(
                Reason.UNDECODABLE, f"{len(dataset.PixelData)} bytes of pixel data where {expected} are claimed"
            )


def decode_first_frame(dataset: Dataset) -> NDArray[Any]:
    """The first frame's stored values: (rows, columns) or (rows, columns, 3) RGB, in this CPU's byte order.

    Raises:
        Refusal: What `check_pixels` raises, or `undecodable` when the codec fails or its answer has another size.
    """
    check_pixels(dataset)
    codec = _CODECS.get(transfer_syntax(dataset))
    try:
        if codec is None:
            stored = pixel_array(dataset, index=0, raw=False)
        else:
            frames = _count(dataset, "NumberOfFrames", 1)
            frame = get_frame(dataset.PixelData, 0, number_of_frames=frames)
            stored = _resolve_bits(codec(frame), dataset)
    except Exception as error:  # codecs raise their own types; each is this image's answer
        raise Refusal(Reason.UNDECODABLE, f"the codec failed: {type(error).__name__}") from error
    expected = (_count(dataset, "Rows", 0), _count(dataset, "Columns", 0))
    if stored.shape[:2] != expected:
        raise Refusal(Reason.UNDECODABLE, f"decoded to {stored.shape[:2]} where the header says {expected}")
    return stored.astype(stored.dtype.newbyteorder("="), copy=False)


def transfer_syntax(dataset: Dataset) -> UID:
    """The file's transfer syntax; without file meta information, the one it was parsed with (PS3.5 10)."""
    meta = getattr(dataset, "file_meta", None)
    stated = meta.get("TransferSyntaxUID") if meta else None
    if stated:
        return UID(str(stated))
    implicit, little = dataset.original_encoding
    if implicit:
        return UID("1.2.840.10008.1.2")
    return UID("1.2.840.10008.1.2.1" if little or little is None else "1.2.840.10008.1.2.2")


def _count(dataset: Dataset, keyword: str, default: int) -> int:
    try:
        return max(0, int(value_of(dataset, keyword) or default))
    except (TypeError, ValueError):
        return 0


def _resolve_bits(stored: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Codecs give the precision's own container: bring signed values back to their sign (PS3.5 8.1.1)."""
    bits = _count(dataset, "BitsStored", 16)
    if stored.ndim == 3 and stored.shape[2] == 1:
        stored = stored[:, :, 0]
    if not _count(dataset, "PixelRepresentation", 0) or stored.dtype.kind == "i":
        return stored
    container = stored.dtype.itemsize * 8
    signed = stored.astype(f"i{stored.dtype.itemsize}", copy=False)
    shift = max(0, container - bits)
    extended: NDArray[Any] = np.right_shift(np.left_shift(signed, shift), shift)
    return extended


def _codec(name: str, **options: int) -> Callable[[bytes], NDArray[Any]]:
    """A decoder of imagecodecs by name, imported at its first use: each codec is a library of its own."""

    def decode(frame: bytes) -> NDArray[Any]:
        import imagecodecs  # noqa: PLC0415 - half a second and 20 MB that a clinic without compressed images never pays

        array: NDArray[Any] = getattr(imagecodecs, name)(frame, **options)
        return array

    return decode


_JPEG, _JPEG_LS, _JPEG_XL = _codec("jpeg8_decode"), _codec("jpegls_decode"), _codec("jpegxl_decode")
_JPEG_2000 = _codec("jpeg2k_decode", numthreads=2)
_CODECS: dict[str, Callable[[bytes], NDArray[Any]]] = {
    "1.2.840.10008.1.2.4.50": _JPEG,
    "1.2.840.10008.1.2.4.51": _JPEG,
    "1.2.840.10008.1.2.4.57": _JPEG,
    "1.2.840.10008.1.2.4.70": _JPEG,
    "1.2.840.10008.1.2.4.80": _JPEG_LS,
    "1.2.840.10008.1.2.4.81": _JPEG_LS,
    "1.2.840.10008.1.2.4.90": _JPEG_2000,
    "1.2.840.10008.1.2.4.91": _JPEG_2000,
    "1.2.840.10008.1.2.4.201": _JPEG_2000,
    "1.2.840.10008.1.2.4.202": _JPEG_2000,
    "1.2.840.10008.1.2.4.203": _JPEG_2000,
    "1.2.840.10008.1.2.4.110": _JPEG_XL,
    "1.2.840.10008.1.2.4.111": _JPEG_XL,
    "1.2.840.10008.1.2.4.112": _JPEG_XL,
}
_NATIVE_SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99")
_RLE = "1.2.840.10008.1.2.5"
DECODED_SYNTAXES: tuple[str, ...] = (*_NATIVE_SYNTAXES, _RLE, *_CODECS)
"""Every transfer syntax that the box reads, the cheapest first: what the listener offers to accept."""
