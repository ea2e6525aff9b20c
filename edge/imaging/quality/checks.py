"""Every quality check, in the order in which its findings are shown.

Limits, false-alarm and hit rates stand in the folder's README.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from edge.config import Quality
from edge.imaging.quality import content, exposure, orientation, positioning, sharpness, tags
from edge.imaging.quality.recent import Recent, digest_of
from edge.imaging.quality.reduced import grid, reduced
from edge.records import Image, QualityFinding

_LEAST_SIDE = 64


def check_quality(
    image: Image, lungs: NDArray[np.float32] | None, *, limits: Quality, recent: Recent
) -> tuple[tuple[QualityFinding, ...], Recent]:
    """What the technician should know about a chest radiograph, and what to remember for the next one. Pure.

    Args:
        image: Grey values float32 (rows, columns), 0 black to 1 white, and what the tags say. On fewer than 64 pixels
            across, the tags alone are judged.
        lungs: Their outline over the whole image, float32 (height, width) of any size, 0..1; None where none is known,
            then what needs it is not judged.
        limits: The site's.
        recent: What was remembered of the images before.
    """
    found = [exposure.by_index(image.header, limits), *tags.by_tags(image.header)]
    if min(image.pixels.shape) >= _LEAST_SIDE:
        small = reduced(image.pixels)
        digest, sharp = digest_of(small), sharpness.sharpness(small)
        found += _by_greys(image, small, lungs)
        found.append(sharpness.blurred(sharp, recent.of_device(image.header)))
        found.append(content.repeated() if recent.repeats(digest, image.header) else None)
        recent = recent.with_image(digest, sharp, image.header)
    return tuple(each for each in found if each), recent


def _by_greys(
    image: Image, small: NDArray[np.float32], lungs: NDArray[np.float32] | None
) -> Iterator[QualityFinding | None]:
    no_patient = content.no_patient(image.pixels, small)
    if no_patient:
        yield no_patient
        return
    squares = grid(small)
    turned = orientation.turned(small, image.header)
    yield turned
    yield from exposure.by_greys(small)
    if turned:  # positions are judged on a chest that stands upright, white on black
        return
    yield orientation.mirrored(small, lungs, image.header)
    yield positioning.cut_off(squares, lungs)
    yield positioning.tilted(squares)
    if lungs is not None:
        yield from positioning.by_outline(lungs, small.shape[0] / small.shape[1])
        yield content.foreign_object(small, lungs)
