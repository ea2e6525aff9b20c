"""What the technician should know about the image itself. The box warns; a person decides (codes: PS3.16 CID 6135).

Each check is a pure function of the grey values. Limits and false-alarm rates stand in the folder's README.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Level, QualityFinding

_ENOUGH = 256
_SIDE = 64
_FRAME = 3
_INSET = 10
_BLACK, _WHITE = 2 / 255, 253 / 255
_MOST_BLACK, _MOST_WHITE = 0.10, 0.02


def check_quality(
    pixels: NDArray[np.float32],
    lungs: NDArray[np.float32] | None = None,  # noqa: ARG001 - no check reads it yet
) -> tuple[QualityFinding, ...]:
    """Every check that found something, for a frontal chest radiograph.

    Args:
        pixels: float32 (rows, columns), 0 black to 1 white.
        lungs: Their outline over the whole image, float32 (height, width) of any size, 0..1, where one is known.
    """
    step = max(1, min(pixels.shape) // _ENOUGH)
    sampled = np.ascontiguousarray(pixels[::step, ::step])
    small = cv2.resize(sampled, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return tuple(found for found in (_inverted(small), _clipped(sampled)) if found)


def _inverted(small: NDArray[np.float32]) -> QualityFinding | None:
    """Air around the body is black: a frame brighter than what it surrounds means exchanged black and white."""
    inner = small[_INSET:-_INSET, _INSET:-_INSET]
    frame = np.concatenate([small[:_FRAME].ravel(), small[:, :_FRAME].ravel(), small[:, -_FRAME:].ravel()])
    if float(np.median(inner)) >= float(np.median(frame)):
        return None
    return QualityFinding(
        check="inverted_greys",
        level=Level.WARN,
        code="111219",
        scheme="DCM",
        message="Black and white seem to be exchanged: check the image processing before anybody reads this image.",
    )


def _clipped(pixels: NDArray[np.float32]) -> QualityFinding | None:
    """Detail that ends in pure black or pure white cannot be brought back by windowing."""
    rows, columns = pixels.shape
    middle = pixels[rows // 10 : rows - rows // 10, columns // 10 : columns - columns // 10]
    if not middle.size:
        return None
    if float(np.mean(middle <= _BLACK)) <= _MOST_BLACK and float(np.mean(middle >= _WHITE)) <= _MOST_WHITE:
        return None
    return QualityFinding(
        check="clipped_greys",
        level=Level.WARN,
        code="111219",
        scheme="DCM",
        message="Parts of the image are pure black or pure white: check exposure and processing, consider repeating.",
    )
