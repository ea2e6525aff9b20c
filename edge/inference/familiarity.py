"""Is this image like those that the model was trained on? Mahalanobis' distance of the network's own features.

The tags only say what an image claims to be. A hand that is tagged as a chest lies far from every chest in the space of
the network's features, and there the model's score means nothing (Lee et al., NeurIPS 2018).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import FAMILIARITY_FILE, GOLDEN_FILE, BundleError, Familiarity, SealedBundle
from edge.records import Reason


class Statistics(NamedTuple):
    """What the features of the training images are like: mean float64 (F,) and whitening float64 (F, F)."""

    mean: NDArray[np.float64]
    whitening: NDArray[np.float64]


class Gate(NamedTuple):
    """What a classifier lets through to its score."""

    limits: Familiarity
    statistics: Statistics


def distance(embedding: NDArray[np.float32], statistics: Statistics) -> float:
    """`|whitening @ (embedding - mean)|^2 / F` of an embedding (F,): around 1 for images like the training's."""
    whitened = statistics.whitening @ (embedding - statistics.mean)
    return float(whitened @ whitened) / whitened.size


def strangeness(found: float, limits: Familiarity) -> Reason | None:
    """Why an image at this distance is not analysed; None when it is familiar. Pure."""
    if found < limits.unfamiliar_from:
        return None
    # A distance that is no number compares as False: it refuses here, and does not claim to know what the image is.
    return Reason.NOT_A_FRONTAL_CHEST if found >= limits.not_frontal_chest_from else Reason.UNFAMILIAR_IMAGE


def read_gate(sealed: SealedBundle) -> Gate:
    """A classification's gate.

    Raises:
        BundleError: There is none, or the arrays do not fit each other or the model's embedding, or hold no numbers.
    """
    limits = sealed.bundle.familiarity
    if limits is None:
        raise BundleError(f"{sealed.folder}: no gate for unfamiliar images: export the bundle again")
    path = sealed.folder / FAMILIARITY_FILE
    try:
        with np.load(path) as file, np.load(sealed.folder / GOLDEN_FILE) as golden:
            mean, whitening = (np.asarray(file[name], dtype=np.float64) for name in ("mean", "whitening"))
            features = {golden[name].shape[-1] for name in golden.files if name.endswith("_embedding")}
    except (KeyError, ValueError) as error:
        raise BundleError(f"{path}: {error}: it needs numbers called mean and whitening; export it again") from error
    if features != {mean.size} or mean.ndim != 1 or whitening.shape != (mean.size, mean.size):
        raise BundleError(
            f"{path}: mean {mean.shape} and whitening {whitening.shape} for an embedding of {sorted(features)} "
            f"features, the rule is (F,) and (F, F): export the bundle again"
        )
    if not (np.isfinite(mean).all() and np.isfinite(whitening).all()):
        raise BundleError(f"{path}: holds what is no finite number: export the bundle again")
    return Gate(limits, Statistics(mean, whitening))
