"""Grey values to the sizes that others need: the model's input (on the box and in training) and the page's preview."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def to_model_input(pixels: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Squash (aspect not kept, as the training sets were) to float32 (1, 1, height, width), 0 black to 1 white.

    Area averaging when it shrinks, so that grain averages out as it does in the training images; linear when it grows.
    """
    rows, columns = pixels.shape
    method = cv2.INTER_AREA if rows >= height and columns >= width else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=method)
    return np.ascontiguousarray(resized, dtype=np.float32)[np.newaxis, np.newaxis]


def preview_jpeg(pixels: NDArray[np.float32], longest_side: int = 1024, quality: int = 88) -> bytes:
    """The image as a person sees it, as an 8-bit grey JPEG no longer than `longest_side` pixels.

    Raises:
        ValueError: When the encoder refuses the array.
    """
    scale = min(1.0, longest_side / max(pixels.shape))
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = pixels if scale == 1.0 else cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    grey = np.clip(small * 255.0 + 0.5, 0, 255).astype(np.uint8)
    written, encoded = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not written:
        raise ValueError(f"a preview of {grey.shape} pixels cannot be encoded as JPEG")
    return bytes(encoded)
