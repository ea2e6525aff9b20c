"""The small copies that the checks look at, so that a check answers alike at 450 and at 2500 pixels."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

SHORT_SIDE = 256
_GRID = 16
_FRAME_BLACK, _FRAME_WHITE = 0.06, 0.94


def reduced(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey values (rows, columns) with the short side brought down to 256 pixels; a smaller image stays as it is."""
    step = max(1, min(pixels.shape) // (2 * SHORT_SIDE))
    sampled = np.ascontiguousarray(pixels[::step, ::step])
    scale = SHORT_SIDE / min(sampled.shape)
    if scale >= 1:
        return sampled
    size = (round(sampled.shape[1] * scale), round(sampled.shape[0] * scale))
    return np.asarray(cv2.resize(sampled, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def grid(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image squashed to 16 by 16, without its mean and by its deviation: what brightness and contrast leave."""
    small = cv2.resize(pixels, (_GRID, _GRID), interpolation=cv2.INTER_AREA)
    return np.asarray((small - small.mean()) / (small.std() + 1e-3), dtype=np.float32)


def exposed(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image without a frame of rows and columns that are nearly black or nearly white, a third a side at most."""
    kept = []
    for axis in (1, 0):
        means = pixels.mean(axis=axis)
        body = np.flatnonzero((means > _FRAME_BLACK) & (means < _FRAME_WHITE))
        most = len(means) // 3
        first, last = (int(body[0]), int(body[-1])) if body.size else (0, len(means))
        kept.append(slice(min(first, most), max(last + 1, len(means) - most)))
    return np.ascontiguousarray(pixels[kept[0], kept[1]])


def middle(pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Three quarters of the image's height and width: mostly body, without collimator, marks and air."""
    rows, columns = pixels.shape
    return pixels[rows // 8 : rows - rows // 8, columns // 8 : columns - columns // 8]
