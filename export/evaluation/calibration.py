"""Are the probabilities true? Their fit on the validation split, and how far they are off on others."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import Interval
from export.evaluation.figures import Labels, Scores, proportion_interval

_BINS = 10


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """``probability = sigmoid(logit / temperature + bias)``."""

    temperature: float
    bias: float

    def probability(self, logits: Scores) -> NDArray[np.float64]:
        """Calibrated probabilities, 0..1, of logits of any shape."""
        return _sigmoid(np.asarray(logits, dtype=np.float64) / self.temperature + self.bias)


class ReliabilityBin(msgspec.Struct, frozen=True, kw_only=True):
    """Images of similar probability: what was stated, and what was so."""

    images: int
    stated: float
    """Mean probability."""
    observed: Interval
    """Share with the finding, Wilson's interval."""


def calibrate(logits: Scores, positive: Labels) -> Calibration:
    """Fits temperature and bias by maximum likelihood (Guo et al. 2017; Platt 1999 for the bias and softened targets).

    Newton's method with a damped step; the softened targets keep the temperature above zero where the classes separate.
    """
    positives, negatives = int(positive.sum()), int((~positive).sum())
    targets = np.where(positive, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))
    design = np.stack([np.asarray(logits, dtype=np.float64), np.ones(len(logits))], axis=1)
    fitted = np.array([1.0, 0.0])
    loss = _cross_entropy(design @ fitted, targets)
    for _ in range(100):
        probabilities = _sigmoid(design @ fitted)
        gradient = design.T @ (probabilities - targets)
        curvature = (design * (probabilities * (1.0 - probabilities))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        while (proposed := _cross_entropy(design @ (fitted - step), targets)) > loss and np.abs(step).max() > 1e-9:
            step /= 2.0
        fitted, loss = fitted - step, proposed
        if np.abs(step).max() < 1e-9:
            break
    slope = max(float(fitted[0]), 1e-3)
    return Calibration(temperature=1.0 / slope, bias=float(fitted[1]))


def reliability(probabilities: Scores, positive: Labels, *, adaptive: bool = False) -> tuple[ReliabilityBin, ...]:
    """The points of the reliability diagram; bins without images are left out.

    Args:
        probabilities: [N], 0..1, of the finding being present, so that both ends of the scale count.
        positive: [N]
        adaptive: Ten bins of as many images each (Nixon et al. 2019) instead of ten of equal width.
    """
    bins = _bins(probabilities, adaptive)
    members = [np.flatnonzero(bins == number) for number in np.unique(bins)]
    return tuple(
        ReliabilityBin(
            images=len(part),
            stated=float(probabilities[part].mean()),
            observed=proportion_interval(int(positive[part].sum()), len(part)),
        )
        for part in members
    )


def expected_calibration_error(probabilities: Scores, positive: Labels, *, adaptive: bool = False) -> float:
    """Mean gap between probability and observed share over ten bins, weighted by their counts (Guo et al. 2017).

    Chance alone keeps it above 0 in small samples, and in a bootstrap's draws more than in the sample itself.
    """
    bins = _bins(probabilities, adaptive)
    stated, observed = (np.bincount(bins, weights=of, minlength=_BINS) for of in (probabilities, positive))
    return float(np.abs(stated - observed).sum() / max(len(positive), 1))


def brier(probabilities: Scores, positive: Labels) -> float:
    """Mean squared gap between probability and truth (Brier 1950): 0 is best, 0.25 is what a constant 0.5 earns."""
    return float(np.mean((probabilities - positive) ** 2))


def _bins(probabilities: Scores, adaptive: bool) -> NDArray[np.int64]:
    """The number of each image's bin."""
    if not adaptive:
        return np.minimum((probabilities * _BINS).astype(np.int64), _BINS - 1)
    ranks = np.empty(len(probabilities), dtype=np.int64)
    ranks[np.argsort(probabilities, kind="stable")] = np.arange(len(probabilities))
    return ranks * _BINS // max(len(probabilities), 1)


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0)))


def _cross_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float(np.sum(np.logaddexp(0.0, logits) - targets * logits))
