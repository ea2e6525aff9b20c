"""Does the explanation point where the finding is? Class activation maps against reference boxes or lung masks."""

from collections.abc import Sequence

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import Interval
from export.evaluation.figures import proportion_interval

_FINE = 16
_INSIDE = 0.5


class Pointed(msgspec.Struct, frozen=True, kw_only=True):
    """Where the explanation of one image points.

    Attributes:
        peak: The map's maximum lies in the region.
        box: At least half of the box lies in it (IoBB, Wang et al., ChestX-ray8, 2017); None without a box.
        area: The region's share of the image: what a peak that is placed at random would hit.
    """

    peak: bool
    box: bool | None
    area: float


class Localisation(msgspec.Struct, frozen=True, kw_only=True):
    """How often the explanations point into the reference regions, Wilson's intervals."""

    region: str
    """What the regions are: ``reference boxes`` or ``lung masks``."""
    images: int
    peaks: Interval
    boxes: Interval
    """Of the images with a box."""
    without_box: int
    chance: float
    """Mean share of the image that the regions cover."""


def point(cam: NDArray[np.float32], box: Sequence[int] | None, region: NDArray[np.bool_]) -> Pointed:
    """Compares one explanation with its reference.

    Args:
        cam: (h, w), evidence where positive.
        box: x0, y0, x1, y1 in pixels of the region's image, the last ones exclusive; None where there is none.
        region: [H, W] in the image's pixels, true inside.
    """
    height, width = region.shape
    fine = cv2.resize(cam, (cam.shape[1] * _FINE, cam.shape[0] * _FINE), interpolation=cv2.INTER_CUBIC)
    row, column = np.unravel_index(int(np.argmax(fine)), fine.shape)
    peak = region[int((row + 0.5) / fine.shape[0] * height), int((column + 0.5) / fine.shape[1] * width)]
    inside = None
    if box is not None:
        x0, y0, x1, y1 = box
        covered = region[max(0, y0) : max(0, y1), max(0, x0) : max(0, x1)]
        inside = bool(covered.mean() >= _INSIDE) if covered.size else False
    return Pointed(peak=bool(peak), box=inside, area=float(region.mean()))


def localise(pointed: Sequence[Pointed], region: str) -> Localisation:
    """The hit rates of several images."""
    boxes = [each.box for each in pointed if each.box is not None]
    return Localisation(
        region=region,
        images=len(pointed),
        peaks=proportion_interval(sum(each.peak for each in pointed), len(pointed)),
        boxes=proportion_interval(sum(boxes), len(boxes)),
        without_box=len(pointed) - len(boxes),
        chance=float(np.mean([each.area for each in pointed])) if pointed else 0.0,
    )
