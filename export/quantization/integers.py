"""The proof that no sum saturates, on the integers of a model, whatever the image and whatever the CPU."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

_LARGEST_ACTIVATION = 255


def largest_pair_sum(weights: Mapping[str, NDArray[np.generic]]) -> int:
    """The largest magnitude that the sum of two products of an 8-bit activation and a weight of one node can have.

    CPUs without VNNI add two such products in 16 bits (``vpmaddubsw``) and saturate beyond 32,767. Two bits of an
    unsigned activation are not known, so both are taken as 255; which two weights meet depends on the kernel, so the
    two largest are taken.

    Args:
        weights: The integers of each node (`export.quantization.qdq.weight_integers`,
            `export.quantization.openvino_int8.weight_integers`).

    Returns:
        0 for a model without quantized weights.
    """
    pairs = [int(np.sort(np.abs(each.astype(np.int64)).ravel())[-2:].sum()) for each in weights.values()]
    return _LARGEST_ACTIVATION * max(pairs, default=0)
