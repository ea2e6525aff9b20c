"""Pixel Data to an array: the one place that decides which codec reads which transfer syntax (PS3.5 8 and annex A).

The fastest of the well-kept wheels measured: imagecodecs (libjpeg-turbo, CharLS, OpenJPEG, libjxl), Pillow for
JPEG 2000 at a reduced resolution, OpenCV for scaled DCT, pydicom for what is seldom (several samples uncompressed, one
bit, 32 bits, floats).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from edge.imaging import codecs
from edge.imaging import transfer_syntaxes as syntaxes
from edge.imaging.codestream import Coded, Unreadable, read_jpeg, read_jpeg_2000, read_jpeg_xl
from edge.imaging.refusal import Refusal
from edge.imaging.resample import Size, halve, halvings
from edge.imaging.stored_bits import Layout, resolve
from edge.records import Reason

MAX_PIXELS = 1 << 26
"""Largest image that is decoded, in samples: 67 million, four times the largest radiography detector."""

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@dataclass(frozen=True, eq=False)
class Stored:
    """The first frame's stored values, whole or reduced.

    Attributes:
        values: (height, width) grey, luminance or palette index; (height, width, 3) RGB; in this CPU's byte order.
        rows: Height of the stored image, pixels; that of `values` may be smaller.
        columns: Width likewise.
    """

    values: NDArray[Any]
    rows: int
    columns: int


def check_pixels(dataset: Dataset) -> None:
    """Refuse what cannot hold an image before anything is decoded.

    Raises:
        Refusal: `no_pixels`, `hostile_dimensions`, `unsupported_transfer_syntax`, `undecodable`: too short.
    """
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS):
        raise Refusal(Reason.NO_PIXELS, "no Pixel Data element (7FE0,0010)")
    layout = Layout.of(dataset)
    rows, columns, samples = layout.rows, layout.columns, layout.samples
    size = f"{rows} rows x {columns} columns x {samples} samples"
    if rows * columns * samples > MAX_PIXELS:
        raise Refusal(Reason.HOSTILE_DIMENSIONS, f"{size}; the rule is at most {MAX_PIXELS}")
    if not rows * columns * samples:
        raise Refusal(Reason.UNDECODABLE, f"{size}: dimensions are missing")
    syntax = transfer_syntax(dataset)
    if syntax not in syntaxes.DECODED_SYNTAXES:
        raise Refusal(Reason.UNSUPPORTED_TRANSFER_SYNTAX, "no codec for this transfer syntax")
    if syntax in syntaxes.UNCOMPRESSED and "PixelData" in dataset:
        expected = math.ceil(rows * columns * samples * layout.frames * layout.allocated / 8)
        if layout.photometric == "YBR_FULL_422":
            expected = expected * 2 // 3
        try:
            found = len(dataset.PixelData or b"")
        except Exception as error:  # a value that does not fit its VR: pydicom raises nearly any type
            raise Refusal(Reason.UNDECODABLE, f"Pixel Data cannot be read: {type(error).__name__}") from error
        if found < expected:
            raise Refusal(Reason.UNDECODABLE, f"{found} bytes of pixel data where {expected} are claimed")


def decode_first_frame(dataset: Dataset, cover: Size | None = None) -> Stored:
    """The first frame's stored values, overlays in unused bits masked, signs extended (PS3.5 8.1.1).

    Args:
        dataset: Passed to `check_pixels` before.
        cover: Rows and columns that suffice: the image is halved, in its codec where that can, as often as it still
            has as many. None: it stays whole.

    Raises:
        Refusal: What `check_pixels` raises, or `undecodable`: the codec fails, or the frame contradicts the header.
    """
    check_pixels(dataset)
    layout = Layout.of(dataset)
    times = halvings((layout.rows, layout.columns), cover) if cover else 0
    try:
        values, halved = _values(dataset, layout, times)
    except Refusal:
        raise
    except Unreadable as problem:
        raise Refusal(Reason.UNDECODABLE, f"the frame cannot be read: {problem}") from problem
    except Exception as error:  # codecs raise their own types; each is this image's answer
        raise Refusal(Reason.UNDECODABLE, f"the codec failed: {type(error).__name__}") from error
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    return Stored(halve(native, times - halved), layout.rows, layout.columns)


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


def _values(dataset: Dataset, layout: Layout, times: int) -> tuple[NDArray[Any], int]:
    """The first frame's values, and how often of `times` the codec has halved them already."""
    syntax = transfer_syntax(dataset)
    if syntax in _CODECS:
        frame = get_frame(dataset.PixelData, 0, number_of_frames=layout.frames)
        return _decompress(_CODECS[syntax], frame, layout, times)
    if layout.plain and "PixelData" in dataset:
        values = None
        if syntax == syntaxes.RLE:
            values = _rle(get_frame(dataset.PixelData, 0, number_of_frames=layout.frames), layout)
        elif syntax != syntaxes.EXPLICIT_BIG_ENDIAN or layout.allocated == 16:
            values = _view(dataset.PixelData, layout, ">" if syntax == syntaxes.EXPLICIT_BIG_ENDIAN else "<")
        if values is not None:
            return resolve(values, layout), 0
    return _by_pydicom(dataset, layout), 0


def _decompress(codec: _Codec, frame: bytes, layout: Layout, times: int) -> tuple[NDArray[Any], int]:
    coded = _check_coded(codec.read(frame), layout)
    if times and codec.reduced and _reducible(coded, layout):
        halved = min(times, coded.halvings)
        values = _reduced(codec.reduced, frame, coded, halved)
        if values is not None:
            return resolve(values, layout), halved
    values = codec.whole(frame, layout)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    if values.shape[:2] != (layout.rows, layout.columns):
        raise Refusal(Reason.UNDECODABLE, f"decoded to {values.shape[:2]}, the header says otherwise")
    return resolve(values, layout, overshoots=codec.lossy), 0


def _reducible(coded: Coded, layout: Layout) -> bool:
    """Not where the codec takes overlays for values, or does not know their sign: their mean means nothing."""
    fits = coded.bits is not None and coded.bits <= layout.stored
    return coded.halvings > 0 and coded.samples == 1 and fits and coded.signed == layout.signed


def _reduced(decode: _Reduced, frame: bytes, coded: Coded, times: int) -> NDArray[Any] | None:
    try:
        return decode(frame, coded, times)
    except Exception:  # tiles may offer fewer resolutions than the header: then it is decoded whole
        return None


def _check_coded(coded: Coded, layout: Layout) -> Coded:
    """What the frame says must be what the header said, else the limits on it would have held for nothing."""
    claimed = (layout.rows, layout.columns)
    if (coded.rows, coded.columns) != claimed:
        raise Refusal(
            Reason.UNDECODABLE, f"the frame holds {coded.rows} x {coded.columns} pixels where the header says {claimed}"
        )
    if coded.samples not in (None, layout.samples) or (coded.bits or 0) > _WIDEST:
        raise Refusal(Reason.UNDECODABLE, f"the frame holds {coded.samples} samples of {coded.bits} bits")
    return coded


def _view(data: bytes, layout: Layout, order: str) -> NDArray[Any]:
    """The first frame's uncompressed values where they lie."""
    kind = np.dtype(f"{order}u{layout.allocated // 8}")
    flat = np.frombuffer(data, dtype=kind, count=layout.rows * layout.columns)
    return flat.reshape(layout.rows, layout.columns)


def _rle(frame: bytes, layout: Layout) -> NDArray[Any] | None:
    try:
        return codecs.rle(frame, layout)
    except Exception:  # some encoders end a segment within a run, which pydicom forgives at ten times the cost
        return None


def _by_pydicom(dataset: Dataset, layout: Layout) -> NDArray[Any]:
    """What is seldom: several samples, one bit, more than 16, floats, padded bytes in big endian."""
    values = pixel_array(dataset, index=0, raw=True)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Refusal(Reason.UNDECODABLE, "some pixels are no finite numbers")
    return values[:, :, 0] if values.ndim == 3 and layout.photometric.startswith("YBR") else values


_Reduced = Callable[[bytes, Coded, int], NDArray[Any]]


class _Codec(NamedTuple):
    """A decoder.

    Attributes:
        read: What a frame says about itself.
        whole: A frame to its values.
        reduced: A frame of one sample, halved as often as is said, to its values; None where the codec cannot.
        lossy: Its values may leave the range of Bits Stored.
    """

    read: Callable[[bytes], Coded]
    whole: Callable[[bytes, Layout], NDArray[Any]]
    reduced: _Reduced | None = None
    lossy: bool = False


_WIDEST = 16
_JPEG = _Codec(read_jpeg, codecs.jpeg, codecs.jpeg_scaled, lossy=True)
_JPEG_LOSSLESS = _Codec(read_jpeg, codecs.jpeg)
_JPEG_LS = _Codec(read_jpeg, codecs.jpeg_ls)
_JPEG_2000 = _Codec(read_jpeg_2000, codecs.jpeg_2000, codecs.jpeg_2000_reduced)
_JPEG_XL = _Codec(read_jpeg_xl, codecs.jpeg_xl)
_CODECS: dict[str, _Codec] = {
    syntaxes.JPEG_BASELINE: _JPEG,
    syntaxes.JPEG_EXTENDED: _JPEG,
    syntaxes.JPEG_SPECTRAL_SELECTION: _JPEG,
    syntaxes.JPEG_FULL_PROGRESSION: _JPEG,
    syntaxes.JPEG_LOSSLESS: _JPEG_LOSSLESS,
    syntaxes.JPEG_LOSSLESS_SV1: _JPEG_LOSSLESS,
    syntaxes.HTJ2K_LOSSLESS: _JPEG_2000,
    syntaxes.HTJ2K_LOSSLESS_RPCL: _JPEG_2000,
    syntaxes.HTJ2K: _JPEG_2000._replace(lossy=True),
    syntaxes.JPEG_2000_LOSSLESS: _JPEG_2000,
    syntaxes.JPEG_2000: _JPEG_2000._replace(lossy=True),
    syntaxes.JPEG_LS_LOSSLESS: _JPEG_LS,
    syntaxes.JPEG_LS_NEAR_LOSSLESS: _JPEG_LS._replace(lossy=True),
    syntaxes.JPEG_XL_LOSSLESS: _JPEG_XL,
    syntaxes.JPEG_XL_RECOMPRESSION: _JPEG_XL._replace(lossy=True),
    syntaxes.JPEG_XL: _JPEG_XL._replace(lossy=True),
}
