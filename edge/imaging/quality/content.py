"""Whether the image holds a patient at all, and what lies over the lungs that does not belong there."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.quality.codes import NO_IMAGE, OTHER_ARTIFACT, OTHER_FAILURE, finding
from edge.imaging.quality.positioning import LUNG_FROM
from edge.records import Level, QualityFinding

_LEAST_RANGE = 0.05
_PATCH = 512
_END = 5 / 255
_MOST_FLAT = 0.8
_METAL_FROM = 0.90
_METAL_ABOVE = 0.15
_METAL_PIXELS = (20, 1500)
_NEXT, _RING = (np.ones((side, side), dtype=np.uint8) for side in (3, 7))


def no_patient(pixels: NDArray[np.float32], small: NDArray[np.float32]) -> QualityFinding | None:
    """Next to nothing in the image, or a drawn test pattern.

    A detector's image has grain: neighbours are rarely equal between black and white. In a pattern most are.

    Args:
        pixels: Grey values (rows, columns) before any reduction by this room.
        small: Their `reduced` copy.
    """
    low, high = np.percentile(small, (1, 99))
    if high - low < _LEAST_RANGE:
        return finding(
            "nearly_empty",
            Level.UNUSABLE,
            NO_IMAGE,
            "The image holds next to nothing: check tube, detector and collimation.",
        )
    rows, columns = (max(0, (length - _PATCH) // 2) for length in pixels.shape)
    patch = pixels[rows : rows + _PATCH, columns : columns + _PATCH]
    here = patch[:-1, :-1]
    grey = (here > _END) & (here < 1 - _END)
    flat = grey & (here == patch[1:, :-1]) & (here == patch[:-1, 1:])
    if np.count_nonzero(flat) <= _MOST_FLAT * np.count_nonzero(grey):
        return None
    return finding(
        "test_pattern",
        Level.WARN,
        NO_IMAGE,
        "This looks like a drawn test pattern, not a patient: if it is one, send it as a quality control image.",
    )


def foreign_object(small: NDArray[np.float32], lungs: NDArray[np.float32]) -> QualityFinding | None:
    """Metal over the chest: a compact area near white that ends at once, within the lungs' convex hull.

    Args:
        small: Grey values (rows, columns), the `reduced` copy.
        lungs: Their outline over the whole image, (height, width) of any size.
    """
    within = _hull(lungs, small.shape)
    count, labels, stats, _ = cv2.connectedComponentsWithStats((small > _METAL_FROM).astype(np.uint8))
    for label in range(1, count):
        column, row, width, height, area = (int(value) for value in stats[label])
        if not _METAL_PIXELS[0] <= area <= _METAL_PIXELS[1]:
            continue
        window = (slice(max(0, row - 4), row + height + 4), slice(max(0, column - 4), column + width + 4))
        object_ = (labels[window] == label).astype(np.uint8)
        ring = cv2.dilate(object_, _RING) > cv2.dilate(object_, _NEXT)
        if np.count_nonzero(object_ & within[window]) * 2 < area or not ring.any():
            continue
        greys = small[window]
        if float(greys[object_ > 0].mean()) - float(np.percentile(greys[ring], 75)) > _METAL_ABOVE:
            return finding(
                "foreign_object",
                Level.WARN,
                OTHER_ARTIFACT,
                "Something very bright with a sharp edge lies over the chest: if it can come off, repeat without it.",
            )
    return None


def repeated() -> QualityFinding:
    """The finding for pixels that came under another SOP Instance UID."""
    return finding(
        "duplicate",
        Level.WARN,
        OTHER_FAILURE,
        "The same picture came before as another object: check that it was filed under the right patient.",
    )


def _hull(lungs: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """1 within the convex hull of the outline, in the image's own rows and columns."""
    hull = np.zeros(shape, dtype=np.uint8)
    inside = cv2.resize((lungs >= LUNG_FROM).astype(np.uint8), (shape[1], shape[0]), interpolation=cv2.INTER_NEAREST)
    edges, _ = cv2.findContours(inside, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if edges:
        cv2.fillConvexPoly(hull, cv2.convexHull(np.concatenate(edges)), (1.0,))
    return hull
