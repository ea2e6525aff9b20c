"""Where to flag: the table of every cut-off, and the choice of a named operating point with its indeterminate band."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.inference.bundle import Interval, Threshold
from export.evaluation.figures import Confusion, Labels, Scores
from export.recipe import OperatingPointRecipe


class OperatingPointError(ScansideError):
    """A rule that no threshold keeps; the message is one line."""


class Cutoff(msgspec.Struct, frozen=True, kw_only=True):
    """What flagging from one probability on would cost and give."""

    flagged_from: float
    counts: Confusion
    sensitivity: Interval
    specificity: Interval
    ppv: Interval
    """At the stated prevalence, as ``npv`` and ``alerts_per_100``."""
    npv: Interval
    alerts_per_100: float


def cutoff(counts: Confusion, flagged_from: float, prevalence: float) -> Cutoff:
    """One row of the table."""
    ppv, npv = counts.predictive_values(prevalence)
    return Cutoff(
        flagged_from=flagged_from,
        counts=counts,
        sensitivity=counts.sensitivity,
        specificity=counts.specificity,
        ppv=ppv,
        npv=npv,
        alerts_per_100=counts.alerts_per_100(prevalence),
    )


def cutoffs(probabilities: Scores, positive: Labels, prevalence: float) -> tuple[Cutoff, ...]:
    """A row for every cut-off that makes a difference, from flagging all images to flagging the highest ones only.

    Args:
        probabilities: [N], 0..1
        positive: [N]
        prevalence: For the predictive values, 0..1.
    """
    values = np.unique(probabilities)
    sick, well = np.sort(probabilities[positive]), np.sort(probabilities[~positive])
    missed, passed = np.searchsorted(sick, values), np.searchsorted(well, values)
    return tuple(
        cutoff(
            Confusion(
                true_positives=len(sick) - int(false_negatives),
                false_positives=len(well) - int(true_negatives),
                true_negatives=int(true_negatives),
                false_negatives=int(false_negatives),
            ),
            float(value),
            prevalence,
        )
        for value, false_negatives, true_negatives in zip(values, missed, passed, strict=True)
    )


def thinned(table: Sequence[Cutoff], rows: int) -> tuple[Cutoff, ...]:
    """At most ``rows`` cut-offs, evenly spread along the ROC curve, the first and the last among them."""
    if len(table) <= rows:
        return tuple(table)
    along = np.array([each.specificity.value - each.sensitivity.value for each in table])
    wanted = np.linspace(along[0], along[-1], rows)
    return tuple(table[number] for number in sorted({int(np.abs(along - place).argmin()) for place in wanted}))


def choose_threshold(
    code: str, probabilities: Scores, positive: Labels, rule: OperatingPointRecipe, indeterminate_share: float
) -> Threshold:
    """The threshold that ``rule`` asks for, with an indeterminate band below it.

    Both bounds lie halfway between two neighbouring probabilities, so that a small wobble flips no image of these.
    Among the images, the ``indeterminate_share`` nearest below the threshold fall into the band.

    Raises:
        OperatingPointError: A class is missing, or so many negatives have the highest probability that no threshold
            keeps the specificity.
    """
    if not 0 < positive.sum() < len(positive):
        raise OperatingPointError(
            f"operating point {rule.name!r}: {int(positive.sum())} of {len(positive)} images have {code}; a threshold "
            "needs both classes: add images of the other"
        )
    ordered = np.unique(np.concatenate([[0.0], probabilities, [1.0]]))
    if rule.min_sensitivity is not None:
        flagged_from = _keeping_sensitivity(probabilities[positive], ordered, rule.min_sensitivity)
    else:
        flagged_from = _keeping_specificity(probabilities[~positive], ordered, rule)
    under = np.sort(probabilities[probabilities < flagged_from])[::-1]
    banded = min(round(indeterminate_share * len(probabilities)), len(under))
    indeterminate_from = _below(under[banded - 1], ordered) if banded else flagged_from
    return Threshold(code=code, indeterminate_from=indeterminate_from, flagged_from=flagged_from)


def rule_in_words(rule: OperatingPointRecipe, indeterminate_share: float) -> str:
    """How the threshold was chosen, for the bundle and the card."""
    if rule.min_sensitivity is not None:
        chosen = f"The highest threshold with a sensitivity of at least {rule.min_sensitivity:g}"
    else:
        chosen = f"The lowest threshold with a specificity of at least {rule.min_specificity:g}"
    return (
        f"{chosen} on the images that it was chosen on; the {indeterminate_share:.1%} of them nearest below it are "
        "indeterminate"
    )


def _keeping_sensitivity(sick: Scores, ordered: NDArray[np.float64], share: float) -> float:
    missed = min(math.floor((1.0 - share) * len(sick) + 1e-9), len(sick) - 1)
    return _below(float(np.sort(sick)[missed]), ordered)


def _keeping_specificity(well: Scores, ordered: NDArray[np.float64], rule: OperatingPointRecipe) -> float:
    flagged = min(math.floor((1.0 - float(rule.min_specificity or 0.0)) * len(well) + 1e-9), len(well))
    if flagged == len(well):
        return float(ordered[0])
    highest = float(np.sort(well)[::-1][flagged])
    above = ordered[ordered > highest]
    if not len(above):
        raise OperatingPointError(
            f"operating point {rule.name!r}: {int((well == highest).sum())} of {len(well)} negatives have the "
            f"probability {highest:g}, so no threshold keeps a specificity of {rule.min_specificity:g}: ask for less"
        )
    return _below(float(above[0]), ordered)


def _below(value: float, ordered: NDArray[np.float64]) -> float:
    """Halfway between ``value`` and the next smaller one, rounded to a figure that a person can read."""
    lower = float(ordered[max(int(np.searchsorted(ordered, value)) - 1, 0)])
    exact = (lower + float(value)) / 2.0
    readable = round(exact, 4)
    if lower < readable <= value:
        return readable
    return exact if lower < exact <= value else float(value)
