"""Values to the sizes that others need: the model's input (on the box and in training) and the page's preview."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

PREVIEW_SIDE = 1024
"""Longest side of the page's preview, pixels."""


class Size(NamedTuple):
    """Pixels."""

    rows: int
    columns: int


def to_model_input(pixels: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Squash (aspect not kept, as the training sets were) to float32 (1, 1, height, width), 0 black to 1 white.

    Area averaging when it shrinks, so that grain averages out as it does in the training images; linear when it grows.
    """
    rows, columns = pixels.shape
    method = cv2.INTER_AREA if rows >= height and columns >= width else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=method)
    return np.ascontiguousarray(resized, dtype=np.float32)[np.newaxis, np.newaxis]


def halvings(size: tuple[int, int], cover: tuple[int, int]) -> int:
    """How often rows and columns can be halved until one is fewer than those to be covered."""
    times = 0
    while all(side >> (times + 1) >= least > 0 for side, least in zip(size, cover, strict=True)):
        times += 1
    return times


def halve(values: NDArray[Any], times: int) -> NDArray[Any]:
    """Rows and columns halved so often, each value the mean, rounded, of those it stands for."""
    if not times:
        return values
    values = values.astype(np.int16) if values.dtype == np.int8 else values  # OpenCV resizes no int8
    size = (max(1, values.shape[1] >> times), max(1, values.shape[0] >> times))
    reduced: NDArray[Any] = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    return reduced


def preview_cover(rows: int, columns: int) -> Size:
    """The rows and columns of the image's preview."""
    scale = min(1.0, PREVIEW_SIDE / max(rows, columns, 1))
    return Size(max(1, round(rows * scale)), max(1, round(columns * scale)))


def preview_jpeg(pixels: NDArray[np.float32], quality: int = 88) -> bytes:
    """The image as a person sees it, as an 8-bit grey JPEG no longer than `PREVIEW_SIDE` pixels.

    Raises:
        ValueError: When the encoder refuses the array.
    """
    rows, columns = preview_cover(*pixels.shape)
    small = pixels
    if (rows, columns) != pixels.shape:
        small = cv2.resize(pixels, (columns, rows), interpolation=cv2.INTER_AREA)
    grey = np.clip(small * 255.0 + 0.5, 0, 255).astype(np.uint8)
    written, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise ValueError(f"a preview of {grey.shape} pixels cannot be encoded as JPEG")
    return bytes(encoded)
