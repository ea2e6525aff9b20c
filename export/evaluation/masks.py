"""How well a segmentation outlines its structure."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import MeasuredMask
from export.evaluation.figures import clustered_interval

_INSIDE = 0.5


def dice(masks: NDArray[np.floating], reference: NDArray[np.integer]) -> NDArray[np.float64]:
    """Dice (Sorensen 1948, Dice 1945) of each image: twice the common area by the sum of both; two empty masks agree.

    Args:
        masks: [N, H, W], 0..1; from 0.5 on a pixel belongs to the structure.
        reference: [N, H, W] of 0 and 1.
    """
    inside, wanted = masks >= _INSIDE, reference > 0
    common = (inside & wanted).sum(axis=(1, 2), dtype=np.int64)
    both = inside.sum(axis=(1, 2), dtype=np.int64) + wanted.sum(axis=(1, 2), dtype=np.int64)
    return np.where(both == 0, 1.0, 2.0 * common / np.maximum(both, 1))


def measure_masks(
    each: NDArray[np.float64], patients: Sequence[str], *, engine: str, precision: str, dataset: str, split: str
) -> MeasuredMask:
    """The mean Dice of images ``each`` [N] with the interval of a bootstrap by patients [N]."""
    return MeasuredMask(
        engine=engine,
        precision=precision,
        dataset=dataset,
        split=split,
        images=len(each),
        patients=len(set(patients)),
        dice=clustered_interval(lambda images: float(each[images].mean()), patients),
    )
