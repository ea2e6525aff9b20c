"""Exposure: by the detector's own index where the tags have it, and what the grey values show of it.

Processing hides exposure in the grey values (that is why IEC 62494-1 defined the index), so they say only that detail
is lost, that the image is dark, or that it is noisy.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import Quality
from edge.imaging.quality.codes import IMAGE_PROCESSING, OVER_EXPOSED, UNDER_EXPOSED, finding
from edge.imaging.quality.reduced import middle
from edge.records import Header, Level, QualityFinding

_BLACK, _WHITE = 2 / 255, 253 / 255
_MOST_BLACK, _MOST_WHITE = 0.10, 0.02
_LEAST_WHITE = 0.5
_NOISY_FROM = 0.012
_NOISE_MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], dtype=np.float32)
_OF_MEDIAN = 1 / (6 * 0.6745)


def by_index(header: Header, limits: Quality) -> QualityFinding | None:
    """The exposure that the detector measured against its target, within the site's limits.

    Deviation Index (0018,1413) where it is stated, else Exposure Index (0018,1411) by its target: the tag's (0018,1412)
    or the site's. The older vendors' scales (0018,1405 and 6000) are never mixed in, and no index says the dose.
    """
    deviation, index = header.deviation_index, header.exposure_index
    target = header.target_exposure_index or limits.target_exposure_index
    if deviation is not None:
        low, high = deviation < limits.lowest_deviation_index, deviation > limits.highest_deviation_index
    elif index and target:
        ratio = index / target
        low, high = ratio < limits.lowest_exposure_ratio, ratio > limits.highest_exposure_ratio
    else:
        return None
    if low:
        return finding(
            "under_exposed",
            Level.WARN,
            UNDER_EXPOSED,
            "The exposure index lies below this site's limit: check noise in the image and the exposure settings.",
        )
    if high:
        return finding(
            "over_exposed",
            Level.WARN,
            OVER_EXPOSED,
            "The exposure index lies above this site's limit: check the exposure settings before the next image.",
        )
    return None


def by_greys(small: NDArray[np.float32]) -> Iterator[QualityFinding]:
    """Detail lost in black or white, a dark image, noise.

    Args:
        small: Grey values (rows, columns), the image or its `reduced` copy.
    """
    body = middle(small)
    if float(np.mean(body <= _BLACK)) > _MOST_BLACK or float(np.mean(body >= _WHITE)) > _MOST_WHITE:
        yield finding(
            "clipped_greys",
            Level.WARN,
            IMAGE_PROCESSING,
            "Parts of the image are pure black or pure white: check exposure and processing, consider repeating.",
        )
    if float(np.percentile(body, 99)) < _LEAST_WHITE:
        yield finding(
            "dark_image",
            Level.WARN,
            IMAGE_PROCESSING,
            "The image is much darker than a chest radiograph should be: check its window and processing.",
        )
    if _noise(body) > _NOISY_FROM:
        yield finding(
            "noisy_image",
            Level.WARN,
            UNDER_EXPOSED,
            "The image is very noisy: check the exposure settings, consider repeating.",
        )


def _noise(body: NDArray[np.float32]) -> float:
    """The standard deviation of noise by a mask that edges and slopes do not answer to (Immerkaer 1996), its median."""
    return float(np.median(np.abs(cv2.filter2D(body, -1, _NOISE_MASK)))) * _OF_MEDIAN
