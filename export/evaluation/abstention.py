"""What it gains to say nothing about the images that are hardest to call (El-Yaniv and Wiener 2010)."""

import msgspec
import numpy as np

from export.evaluation.figures import Labels, Scores

_COVERAGES = (1.0, 0.99, 0.975, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5)


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One point of the risk-coverage curve."""

    coverage: float
    """Share of the images that are answered, the surest ones."""
    images: int
    errors: int
    risk: float
    """Share of those that are answered wrongly."""


def risk_coverage(probabilities: Scores, positive: Labels, flagged_from: float) -> tuple[Kept, ...]:
    """The share of wrong answers among the surest images, for ever fewer of them.

    Sure is what lies far from the threshold, on the scale of the logit; that is the order in which an indeterminate
    band that widens to both sides would give images up.
    """
    logits = _logit(probabilities) - _logit(np.array([flagged_from]))
    order = np.argsort(-np.abs(logits), kind="stable")
    wrong = np.cumsum(((probabilities >= flagged_from) != positive)[order])
    found = []
    for coverage in _COVERAGES:
        images = max(1, round(coverage * len(order)))
        errors = int(wrong[images - 1])
        found.append(Kept(coverage=images / len(order), images=images, errors=errors, risk=errors / images))
    return tuple(found)


def _logit(probabilities: Scores) -> Scores:
    clipped = np.clip(np.asarray(probabilities, dtype=np.float64), 1e-12, 1.0 - 1e-12)
    return np.log(clipped) - np.log1p(-clipped)
