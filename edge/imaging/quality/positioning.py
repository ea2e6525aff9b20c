"""How the patient stood: lungs inside the image, not tilted, not turned, breathed in. For images that stand upright."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.quality.codes import POSITIONING, finding
from edge.imaging.quality.templates import score, templates
from edge.records import Level, QualityFinding

LUNG_FROM = 0.5

_CUT_TOP, _CUT_BOTTOM, _CUT_SIDE = 2.6, 1.5, 1.0
_CUT_CONTACT = 0.25
_EDGE = 2 / 224
_TILTED_DEGREES = 11.0
_UNLIKE_WIDTHS = 1.45
_LEAST_OF_LARGER = 0.25
_LEAST_HEIGHT = 0.5


def cut_off(squares: NDArray[np.float32], lungs: NDArray[np.float32] | None) -> QualityFinding | None:
    """Lungs that go on beyond the image: by the look of its edges, or by an outline that runs along one of them.

    Args:
        squares: The image as `reduced.grid`.
        lungs: Their outline over the whole image, (height, width) of any size.
    """
    known = templates()
    cut = (
        score(known.cut_top, squares) > _CUT_TOP
        or score(known.cut_bottom, squares) > _CUT_BOTTOM
        or score(known.cut_right, squares) > _CUT_SIDE
        or score(known.cut_right, squares[:, ::-1]) > _CUT_SIDE
    )
    if not cut and (lungs is None or _contact(lungs >= LUNG_FROM) <= _CUT_CONTACT):
        return None
    return finding(
        "lung_cut_off",
        Level.WARN,
        POSITIONING,
        "Part of the lungs seems to lie outside the image: check that both tips, sides and angles are in view.",
    )


def tilted(squares: NDArray[np.float32]) -> QualityFinding | None:
    """The body's axis leans in the image."""
    if abs(score(templates().tilt, squares)) <= _TILTED_DEGREES:
        return None
    return finding(
        "tilted", Level.WARN, POSITIONING, "The patient leans in the image: straighten patient or cassette next time."
    )


def by_outline(lungs: NDArray[np.float32], aspect: float) -> Iterator[QualityFinding]:
    """What the shape of the lungs hints at. Illness changes it too, so it is never more than information.

    Args:
        lungs: Their outline over the whole image, (height, width) of any size.
        aspect: The image's height by its width.
    """
    inside = lungs >= LUNG_FROM
    widths = _widths(inside)
    if widths and max(widths) > min(widths) * _UNLIKE_WIDTHS:
        yield finding(
            "turned",
            Level.INFO,
            POSITIONING,
            "One lung looks much narrower than the other: check that the patient was not turned (illness does it too).",
        )
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    height, width = (
        (line[-1] - line[0] + 1) / length for line, length in zip((rows, columns), lungs.shape, strict=True)
    )
    if height * aspect < width * _LEAST_HEIGHT:
        yield finding(
            "inspiration",
            Level.INFO,
            POSITIONING,
            "The lungs look low for their width: check that the patient had breathed in (weak evidence).",
        )


def _contact(inside: NDArray[np.bool_]) -> float:
    """The largest part of an edge of the image along which lung lies."""
    rows, columns = (max(1, math.ceil(length * _EDGE)) for length in inside.shape)
    edges = (inside[:rows].any(0), inside[-rows:].any(0), inside[:, :columns].any(1), inside[:, -columns:].any(1))
    return max(float(edge.mean()) for edge in edges)


def _widths(inside: NDArray[np.bool_]) -> list[float]:
    """The usual width of both lungs, in columns; empty where the outline does not hold two of like size."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8))
    if count < 3:
        return []
    areas = stats[1:, cv2.CC_STAT_AREA]
    larger, smaller = (int(label) + 1 for label in np.argsort(areas)[::-1][:2])
    if areas[smaller - 1] < areas[larger - 1] * _LEAST_OF_LARGER:
        return []
    rows = ((labels == label).sum(axis=1) for label in (larger, smaller))
    return [float(np.median(row[row > 0])) for row in rows]
