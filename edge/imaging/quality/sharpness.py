"""Motion and focus: how fine the image's edges are, against a wide limit and against this device's own images."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.imaging.quality.codes import MOTION_BLUR, finding
from edge.imaging.quality.reduced import middle
from edge.records import Level, QualityFinding

ENOUGH_IMAGES = 20
_BLURRED_BELOW = 0.23
_BLURRED_BESIDE = 0.75
_FINE, _COARSE = 1.0, 3.0
_STRONGEST = 95


def sharpness(small: NDArray[np.float32]) -> float:
    """Strong details below one pixel by strong details below three, of the reduced copy: 0.4 to 0.7 in radiographs.

    A ratio, so that contrast and window cancel; vendors sharpen differently, so it compares best within one device.
    """
    body = middle(small)
    fine, coarse = (cv2.GaussianBlur(body, (0, 0), sigma) for sigma in (_FINE, _COARSE))
    strong = [float(np.percentile(np.abs(band), _STRONGEST)) for band in (body - fine, fine - coarse)]
    return strong[0] / max(strong[1], 1e-6)


def blurred(found: float, earlier: Sequence[float]) -> QualityFinding | None:
    """Blur by `sharpness`; `earlier` is that of this device's last images, counted from twenty on."""
    limit = _BLURRED_BELOW
    if len(earlier) >= ENOUGH_IMAGES:
        limit = max(limit, _BLURRED_BESIDE * median(earlier))
    if found >= limit:
        return None
    return finding("blurred", Level.WARN, MOTION_BLUR, "The image looks blurred: check for motion, consider repeating.")
