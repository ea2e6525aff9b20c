"""Figures with their 95 % intervals: AUROC, proportions, predictive values, and anything at all by patients."""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import Interval

Scores = NDArray[np.floating]
Labels = NDArray[np.bool_]

_Z = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""
_DRAWS = 2000


class Confusion(msgspec.Struct, frozen=True, kw_only=True):
    """How many images of each kind: flagged or not, finding present or not."""

    true_positives: int
    false_positives: int
    true_negatives: int
    false_negatives: int

    @property
    def sensitivity(self) -> Interval:
        """Share of the positives that are flagged, with Wilson's interval."""
        return proportion_interval(self.true_positives, self.true_positives + self.false_negatives)

    @property
    def specificity(self) -> Interval:
        """Share of the negatives that are not flagged, with Wilson's interval."""
        return proportion_interval(self.true_negatives, self.true_negatives + self.false_positives)

    def predictive_values(self, prevalence: float) -> tuple[Interval, Interval]:
        """PPV and NPV where the finding has ``prevalence`` (0..1), with the adjusted logit interval.

        Mercaldo, Lau and Zhou, Statistics in Medicine 26 (2007) 2170: sensitivity and specificity vary on their own,
        the prevalence is given. Their adjustment (half of z squared added to each count) keeps the limits off 0 and 1.
        """
        if min(self.true_positives + self.false_negatives, self.true_negatives + self.false_positives) == 0:
            nothing = Interval(value=0.0, low=0.0, high=1.0, method="none: one class only")
            return nothing, nothing
        values = _predictive(self.sensitivity.value, self.specificity.value, prevalence)
        sick, well = self.true_positives + self.false_negatives, self.true_negatives + self.false_positives
        half = _Z**2 / 2.0
        sensitivity = (self.true_positives + half) / (sick + 2.0 * half)
        specificity = (self.true_negatives + half) / (well + 2.0 * half)
        variances = (
            (1.0 - sensitivity) / (sensitivity * sick) + specificity / ((1.0 - specificity) * well),
            sensitivity / ((1.0 - sensitivity) * sick) + (1.0 - specificity) / (specificity * well),
        )
        found = []
        for value, adjusted, variance in zip(
            values, _predictive(sensitivity, specificity, prevalence), variances, strict=True
        ):
            low, high = _logit_limits(adjusted, math.sqrt(variance))
            found.append(
                Interval(value=value, low=min(low, value), high=max(high, value), method="Mercaldo, adjusted logit")
            )
        return found[0], found[1]

    def alerts_per_100(self, prevalence: float) -> float:
        """Of 100 images, how many are flagged where the finding has ``prevalence``, 0..100."""
        return 100.0 * (self.sensitivity.value * prevalence + (1.0 - self.specificity.value) * (1.0 - prevalence))


def confusion(flagged: Labels, positive: Labels) -> Confusion:
    """Counts the images: both arguments are [N]."""
    return Confusion(
        true_positives=int((flagged & positive).sum()),
        false_positives=int((flagged & ~positive).sum()),
        true_negatives=int((~flagged & ~positive).sum()),
        false_negatives=int((~flagged & positive).sum()),
    )


def auroc(scores: Scores, positive: Labels) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    NaN where one of the classes is missing, or where a score is NaN.
    """
    if not 0 < positive.sum() < len(positive) or np.isnan(scores).any():
        return math.nan
    ranks = _midranks(scores)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def auroc_interval(scores: Scores, positive: Labels) -> Interval:
    """AUROC with DeLong's 95 % interval (DeLong et al. 1988, in the form of Sun and Xu 2014), on the logit scale.

    Where the classes separate wholly, or one holds a single image, DeLong's variance says nothing: then the interval is
    Wilson's for as many cases as the smaller class has, which is wider.
    """
    area = auroc(scores, positive)
    if math.isnan(area):
        return Interval(value=area, low=0.0, high=1.0, method="none: one class only")
    m, n = int(positive.sum()), int((~positive).sum())
    ranks = _midranks(scores)
    of_positives = (ranks[positive] - _midranks(scores[positive])) / n
    of_negatives = 1.0 - (ranks[~positive] - _midranks(scores[~positive])) / m
    if min(m, n) < 2 or not 0.0 < area < 1.0:
        wilson = _wilson(area, min(m, n))
        return Interval(value=area, low=wilson[0], high=wilson[1], method="Wilson on the smaller class")
    spread = math.sqrt(float(np.var(of_positives, ddof=1) / m + np.var(of_negatives, ddof=1) / n))
    low, high = _logit_limits(area, spread / (area * (1.0 - area)))
    return Interval(value=area, low=low, high=high, method="DeLong, logit scale")


def proportion_interval(hits: int, total: int) -> Interval:
    """A proportion with Wilson's 95 % score interval (Wilson 1927); without any cases it is 0..1 around NaN-free 0."""
    if total == 0:
        return Interval(value=0.0, low=0.0, high=1.0, method="none: no cases")
    low, high = _wilson(hits / total, total)
    return Interval(value=hits / total, low=low, high=high, method="Wilson")


def clustered_interval(
    statistic: Callable[[NDArray[np.int64]], float],
    patients: Sequence[str],
    *,
    seed: int = 0,
    draws: int = _DRAWS,
) -> Interval:
    """Any figure with a 95 % percentile interval from a bootstrap of whole patients (Field and Welsh 2007).

    Several images of one patient say less than as many of several patients; drawing patients keeps that. Where the
    figure is exactly 0 or 1 every draw agrees, and the interval has no width: then Wilson's is the one to read.

    Args:
        statistic: The figure of the images of these numbers (they repeat in a draw); NaN where it is not defined.
        patients: Whose image each one is, [N].
        seed: Of the draws: the same seed gives the same interval.
        draws: How many.
    """
    _, owner = np.unique(np.asarray(patients), return_inverse=True)
    order, sizes = np.argsort(owner, kind="stable"), np.bincount(owner)
    starts = np.cumsum(sizes) - sizes
    random = np.random.default_rng(seed)

    def draw() -> NDArray[np.int64]:
        drawn = random.integers(0, len(sizes), len(sizes))
        ends = np.cumsum(sizes[drawn])
        places = np.arange(ends[-1]) + np.repeat(starts[drawn] - (ends - sizes[drawn]), sizes[drawn])
        return np.asarray(order[places], dtype=np.int64)

    found = np.array([statistic(draw()) for _ in range(draws)])
    value, defined = statistic(np.arange(len(owner))), found[~np.isnan(found)]
    if math.isnan(value) or len(defined) < 0.9 * draws:
        return Interval(value=value, low=0.0, high=1.0, method="none: too few patients of a class")
    low, high = np.quantile(defined, (0.025, 0.975))
    return Interval(
        value=value,
        low=min(float(low), value),
        high=max(float(high), value),
        method=f"bootstrap of {len(sizes)} patients, {draws} draws, seed {seed}",
    )


def roc_curve(scores: Scores, positive: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every cut-off, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true, false = np.cumsum(positive[order])[last_of_ties], np.cumsum(~positive[order])[last_of_ties]
    return np.append(0.0, false / max(false[-1], 1)), np.append(0.0, true / max(true[-1], 1))


def _wilson(share: float, total: int) -> tuple[float, float]:
    spread = _Z * math.sqrt(share * (1.0 - share) / total + _Z**2 / (4.0 * total**2))
    centre = share + _Z**2 / (2.0 * total)
    scale = 1.0 + _Z**2 / total
    # Rounding must not put the share itself outside.
    return min(share, max(0.0, (centre - spread) / scale)), max(share, min(1.0, (centre + spread) / scale))


def _predictive(sensitivity: float, specificity: float, prevalence: float) -> tuple[float, float]:
    flagged_sick, flagged_well = sensitivity * prevalence, (1.0 - specificity) * (1.0 - prevalence)
    missed, passed = (1.0 - sensitivity) * prevalence, specificity * (1.0 - prevalence)
    ppv = flagged_sick / (flagged_sick + flagged_well) if flagged_sick + flagged_well > 0.0 else 0.0
    npv = passed / (passed + missed) if passed + missed > 0.0 else 0.0
    return ppv, npv


def _logit_limits(value: float, spread: float) -> tuple[float, float]:
    """The 95 % limits of a share whose logit has the standard error ``spread``."""
    if not 0.0 < value < 1.0:
        return value, value
    centre = math.log(value / (1.0 - value))
    low, high = (1.0 / (1.0 + math.exp(-max(-700.0, centre + side * _Z * spread))) for side in (-1.0, 1.0))
    return low, high


def _midranks(values: Scores) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return middle
