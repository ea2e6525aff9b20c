"""One function for each codec: a compressed frame to an array. Which one reads what, `decode` decides.

The libraries are imported at their first use: half a second and 20 MB that a clinic without compressed
images never pays. Each raises its own errors.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.codestream import Coded, bare_jpeg_2000
from edge.imaging.stored_bits import Layout

SCALED_DCT = (cv2.IMREAD_REDUCED_GRAYSCALE_2, cv2.IMREAD_REDUCED_GRAYSCALE_4, cv2.IMREAD_REDUCED_GRAYSCALE_8)
"""OpenCV's flags for a JPEG halved once, twice and three times."""


def jpeg(frame: bytes, layout: Layout) -> NDArray[Any]:
    """JPEG of 8 and 12 bits and lossless: as coded, RGB, or luminance where YBR is stored."""
    import imagecodecs  # noqa: PLC0415

    luminance = "GRAYSCALE" if layout.photometric.startswith("YBR") else None
    values: NDArray[Any] = imagecodecs.jpeg8_decode(frame, outcolorspace=luminance)
    return values


def jpeg_scaled(frame: bytes, _: Coded | None, times: int) -> NDArray[Any]:
    """The luminance of an 8-bit lossy JPEG, halved one to three times by a smaller inverse DCT."""
    flags = SCALED_DCT[times - 1] | cv2.IMREAD_IGNORE_ORIENTATION
    values: NDArray[Any] | None = cv2.imdecode(np.frombuffer(frame, dtype=np.uint8), flags)
    if values is None:
        raise ValueError("OpenCV does not decode this JPEG")
    return values


def jpeg_ls(frame: bytes, layout: Layout) -> NDArray[Any]:
    """JPEG-LS, lossless and near-lossless: as coded, or luminance where YBR is stored."""
    import imagecodecs  # noqa: PLC0415

    values: NDArray[Any] = imagecodecs.jpegls_decode(frame)
    return values[:, :, 0] if values.ndim == 3 and layout.photometric.startswith("YBR") else values


def jpeg_2000(frame: bytes, _: Layout) -> NDArray[Any]:
    """JPEG 2000 and HTJ2K by OpenJPEG, component transforms undone."""
    import imagecodecs  # noqa: PLC0415

    values: NDArray[Any] = imagecodecs.jpeg2k_decode(frame, numthreads=2)
    return values


def jpeg_2000_reduced(frame: bytes, coded: Coded, times: int) -> NDArray[Any]:
    """The low-pass band of one component of up to 16 bits, by OpenJPEG; of HTJ2K too.

    Through Pillow's interface for plugins: `Image.reduce` rounds down and fails where OpenJPEG rounds up.
    """
    from PIL import ImageFile  # noqa: PLC0415

    codestream, bits = bare_jpeg_2000(frame), coded.bits or 0

    class _Reduced(ImageFile.ImageFile):
        format = "JPEG2000"

        def _open(self) -> None:
            self._mode = "L" if bits <= 8 else "I;16"
            self._size = (-(-coded.columns >> times), -(-coded.rows >> times))
            arguments = ("j2k", times, 0, -1, len(codestream))
            self.tile = [ImageFile._Tile("jpeg2k", (0, 0, *self._size), 0, arguments)]

    # It fills its 8 or 16 bits from the top and adds half of the range to signed values.
    image = np.asarray(_Reduced(BytesIO(codestream)))
    unsigned = image >> (image.dtype.itemsize * 8 - bits)
    if not coded.signed:
        return np.asarray(unsigned)
    return np.asarray(unsigned.astype(np.int32) - (1 << (bits - 1))).astype(np.int8 if bits <= 8 else np.int16)


def jpeg_xl(frame: bytes, _: Layout) -> NDArray[Any]:
    """JPEG XL, RGB where it is coloured."""
    import imagecodecs  # noqa: PLC0415

    values: NDArray[Any] = imagecodecs.jpegxl_decode(frame)
    return values


def rle(frame: bytes, layout: Layout) -> NDArray[Any]:
    """RLE (PS3.5 annex G) of one sample of 8 or 16 bits."""
    import imagecodecs  # noqa: PLC0415

    kind = np.dtype(f"<u{layout.allocated // 8}")
    data = imagecodecs.dicomrle_decode(frame, kind, out=layout.rows * layout.columns * kind.itemsize)
    return np.frombuffer(data, dtype=kind).reshape(layout.rows, layout.columns)
