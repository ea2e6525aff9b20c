"""How good the answers are: figures with intervals, calibration of probabilities, and the choice of a threshold.

Everything here is a pure function of scores and labels.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import FindingSpec, Interval, Measured, Threshold

Scores = NDArray[np.floating]
Labels = NDArray[np.bool_]

_Z = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""
_ECE_BINS = 10


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """``probability = sigmoid(logit / temperature + bias)``."""

    temperature: float
    bias: float

    def probability(self, logits: Scores) -> NDArray[np.float64]:
        """Calibrated probabilities, 0..1, of logits of any shape."""
        return _sigmoid(np.asarray(logits, dtype=np.float64) / self.temperature + self.bias)


class EngineScores(msgspec.Struct, frozen=True, kw_only=True):
    """The logits that one engine gave."""

    engine: str
    precision: str
    validation: NDArray[np.float32]
    """[N, K]"""
    test: NDArray[np.float32]
    """[M, K]"""


def auroc(scores: Scores, positive: Labels) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half."""
    ranks = _midranks(scores)
    positives, negatives = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - positives * (positives + 1) / 2.0) / (positives * negatives))


def auroc_interval(scores: Scores, positive: Labels) -> Interval:
    """AUROC with DeLong's 95 % interval (DeLong et al. 1988, in the form of Sun and Xu 2014), on the logit scale."""
    area = auroc(scores, positive)
    ranks = _midranks(scores)
    m, n = int(positive.sum()), int((~positive).sum())
    of_positives = (ranks[positive] - _midranks(scores[positive])) / n
    of_negatives = 1.0 - (ranks[~positive] - _midranks(scores[~positive])) / m
    variance = float(np.var(of_positives, ddof=1) / m + np.var(of_negatives, ddof=1) / n) if min(m, n) > 1 else 1.0
    if 0.0 < area < 1.0:
        centre, spread = math.log(area / (1.0 - area)), _Z * math.sqrt(variance) / (area * (1.0 - area))
        low, high = (1.0 / (1.0 + math.exp(-(centre + side * spread))) for side in (-1.0, 1.0))
    else:
        low = high = area
    return Interval(value=area, low=low, high=high, method="DeLong, logit scale")


def proportion_interval(hits: int, total: int) -> Interval:
    """A proportion with Wilson's 95 % score interval (Wilson 1927); without any cases it is 0..1 around NaN-free 0."""
    if total == 0:
        return Interval(value=0.0, low=0.0, high=1.0, method="Wilson")
    share = hits / total
    spread = _Z * math.sqrt(share * (1.0 - share) / total + _Z**2 / (4.0 * total**2))
    centre = share + _Z**2 / (2.0 * total)
    scale = 1.0 + _Z**2 / total
    low, high = max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
    return Interval(value=share, low=low, high=high, method="Wilson")


def expected_calibration_error(probabilities: Scores, positive: Labels) -> float:
    """Mean gap between probability and observed share over ten equal bins, weighted by their counts (Guo et al. 2017).

    Each probability is that of its own finding being present, so that both ends of the scale count.
    """
    bins = np.minimum((probabilities * _ECE_BINS).astype(int), _ECE_BINS - 1)
    gaps = [
        abs(float(probabilities[bins == b].mean()) - float(positive[bins == b].mean())) * float((bins == b).mean())
        for b in np.unique(bins)
    ]
    return float(sum(gaps))


def roc_curve(scores: Scores, positive: Labels) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False and true positive rates at every cut-off, from (0, 0) to (1, 1)."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    true, false = np.cumsum(positive[order])[last_of_ties], np.cumsum(~positive[order])[last_of_ties]
    return np.append(0.0, false / max(false[-1], 1)), np.append(0.0, true / max(true[-1], 1))


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


def choose_threshold(
    code: str, probabilities: Scores, positive: Labels, min_sensitivity: float, indeterminate_share: float
) -> Threshold:
    """The highest threshold that keeps ``min_sensitivity``, with an indeterminate band below it.

    Both bounds lie halfway between two neighbouring probabilities, so that a small wobble flips no image of these.
    Among the images, the ``indeterminate_share`` nearest below the threshold fall into the band.
    """
    ordered = np.unique(np.concatenate([[0.0], probabilities, [1.0]]))
    positives = np.sort(probabilities[positive])
    missed = min(math.floor((1.0 - min_sensitivity) * len(positives) + 1e-9), len(positives) - 1)
    flagged_from = _below(positives[missed], ordered)
    under = np.sort(probabilities[probabilities < flagged_from])[::-1]
    banded = min(round(indeterminate_share * len(probabilities)), len(under))
    indeterminate_from = _below(under[banded - 1], ordered) if banded else flagged_from
    return Threshold(code=code, indeterminate_from=indeterminate_from, flagged_from=flagged_from)


def measure(
    scores: EngineScores,
    *,
    reference: NDArray[np.float32],
    positive: Labels,
    column: int,
    spec: FindingSpec,
    threshold: Threshold,
    point: str,
    dataset: str,
    patients: int,
) -> Measured:
    """One finding's figures on the test split for one engine.

    Args:
        scores: The engine's logits.
        reference: The FP32 logits [M, K] on the same images.
        positive: [M] whether the finding is present.
        column: Which finding.
        spec: Its calibration.
        threshold: Its operating point. Only *flagged* counts as positive; indeterminate images are reported beside.
        point: The operating point's name.
        dataset: The data set's name.
        patients: How many patients the images come from.
    """
    calibration = Calibration(temperature=spec.temperature, bias=spec.bias)
    probabilities = calibration.probability(scores.test[:, column])
    flagged = probabilities >= threshold.flagged_from
    flagged_fp32 = calibration.probability(reference[:, column]) >= threshold.flagged_from
    return Measured(
        finding=spec.code,
        engine=scores.engine,
        precision=scores.precision,
        operating_point=point,
        dataset=dataset,
        split="test",
        images=len(positive),
        patients=patients,
        positives=int(positive.sum()),
        auroc=auroc_interval(probabilities, positive),
        sensitivity=proportion_interval(int(flagged[positive].sum()), int(positive.sum())),
        specificity=proportion_interval(int((~flagged[~positive]).sum()), int((~positive).sum())),
        expected_calibration_error=expected_calibration_error(probabilities, positive),
        indeterminate=float(np.mean((probabilities >= threshold.indeterminate_from) & ~flagged)),
        flips_against_fp32=int((flagged != flagged_fp32).sum()),
    )


def pooled(scores: Sequence[EngineScores], column: int) -> NDArray[np.float64]:
    """The validation logits of several engines after one another: what all of them are calibrated on together."""
    return np.concatenate([np.asarray(each.validation[:, column], dtype=np.float64) for each in scores])


def _below(value: float, ordered: NDArray[np.float64]) -> float:
    """Halfway between ``value`` and the next smaller one, rounded to a figure that a person can read."""
    lower = float(ordered[max(int(np.searchsorted(ordered, value)) - 1, 0)])
    exact = (lower + float(value)) / 2.0
    readable = round(exact, 4)
    return readable if lower < readable <= value else exact


def _midranks(values: Scores) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    middle: NDArray[np.float64] = (last - (counts - 1) / 2.0)[inverse]
    return middle


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0)))


def _cross_entropy(logits: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float(np.sum(np.logaddexp(0.0, logits) - targets * logits))
