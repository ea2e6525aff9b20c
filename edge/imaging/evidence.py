"""Where a network looked: what is kept of it, and the region of the image that this means."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Record

LEVEL = 0.5
"""Regions hold where the evidence is at least this share of its maximum. The page says so in words."""

Polygon = list[tuple[float, float]]


class Explanation(Record, frozen=True, kw_only=True):
    """What is needed to draw it later.

    Attributes:
        maps: Class activation maps (h, w) by finding code; evidence for the finding where positive.
        lungs: Outlines of the lungs as corners x, y in shares of the image's width and height; None when not known.
    """

    maps: dict[str, list[list[float]]]
    lungs: list[Polygon] | None = None


def region_of(explanation: Explanation, width: int, height: int) -> NDArray[np.uint8]:
    """Where the evidence for any finding reaches `LEVEL` of its maximum within the lungs: (height, width) of 0 and 1.

    Raises:
        ValueError: There is no map.
    """
    if not explanation.maps:
        raise ValueError("no class activation map was stored")
    strongest = np.max([np.asarray(cam, dtype=np.float32) for cam in explanation.maps.values()], axis=0)
    evidence = cv2.resize(strongest, (width, height), interpolation=cv2.INTER_CUBIC)
    within = np.ones((height, width), dtype=np.uint8)
    if explanation.lungs is not None:
        within = mask_of(explanation.lungs, width, height)
    peak = float(evidence.max(initial=0.0, where=within.astype(bool)))
    return within * (evidence >= peak * LEVEL) if peak > 0 else np.zeros_like(within)


def mask_of(polygons: list[Polygon], width: int, height: int) -> NDArray[np.uint8]:
    """Polygons with corners in shares of width and height, filled: (height, width) of 0 and 1."""
    size = np.array([width, height])
    corners = [np.round(np.array(polygon) * size).astype(np.int32) for polygon in polygons]
    return np.asarray(cv2.fillPoly(np.zeros((height, width), dtype=np.uint8), corners, 1), dtype=np.uint8)
