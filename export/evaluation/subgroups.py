"""For whom is it worse? The same figures within each sex, age band, view and source."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from edge.inference.bundle import Interval
from export.evaluation.figures import Labels, Scores, auroc_interval, proportion_interval

FEWEST = 10
"""Below so many cases a share is not stated at all."""
FEW = 50
"""Below so many it comes with a warning: Wilson's interval for 90 % of 50 is 0.79 to 0.96."""
UNKNOWN = "unknown"
_BANDS = ((1, "below 1"), (6, "1 to 5"), (15, "6 to 14"), (40, "15 to 39"), (65, "40 to 64"))


class SubgroupFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One group's figures at an operating point; None where too few cases stand behind one."""

    attribute: str
    group: str
    images: int
    patients: int
    positives: int
    auroc: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    warning: str
    """Why figures are missing or weak; empty where they are neither."""


def age_band(years: float | None) -> str:
    """The band of an age in completed years, ``unknown`` for None."""
    if years is None:
        return UNKNOWN
    return next((name for below, name in _BANDS if years < below), "65 and more")


def subgroups(
    probabilities: Scores,
    positive: Labels,
    flagged: Labels,
    patients: Sequence[str],
    groups: Mapping[str, Sequence[str]],
) -> tuple[SubgroupFigures, ...]:
    """Figures within each value of each attribute; attributes that are the same for every image are left out.

    Args:
        probabilities: [N], 0..1
        positive: [N]
        flagged: [N], at the operating point; indeterminate images are not flagged.
        patients: [N]
        groups: By attribute (``sex``, ``age``, ``view``, ``source``), each image's group, [N].
    """
    found = []
    owners = np.asarray(patients)
    for attribute, members in groups.items():
        values = np.asarray(members)
        names = sorted(set(members))
        if len(names) < 2:
            continue
        for name in names:
            chosen = values == name
            answers = (probabilities[chosen], positive[chosen], flagged[chosen])
            found.append(_figures(attribute, name, answers, len(np.unique(owners[chosen]))))
    return tuple(found)


def worst(rows: Sequence[SubgroupFigures]) -> SubgroupFigures | None:
    """The group with the lowest sensitivity among those with enough positives to state one."""
    stated = [row for row in rows if row.sensitivity is not None]
    return min(stated, key=lambda row: row.sensitivity.value if row.sensitivity else 1.0, default=None)


def _figures(attribute: str, group: str, answers: tuple[Scores, Labels, Labels], patients: int) -> SubgroupFigures:
    probabilities, positive, flagged = answers
    positives, negatives = int(positive.sum()), int((~positive).sum())
    counts = {"positives": positives, "negatives": negatives}
    none = [f"{count} {name}: too few for a figure" for name, count in counts.items() if count < FEWEST]
    weak = [f"{count} {name}: wide interval" for name, count in counts.items() if FEWEST <= count < FEW]
    return SubgroupFigures(
        attribute=attribute,
        group=group,
        images=len(positive),
        patients=patients,
        positives=positives,
        auroc=auroc_interval(probabilities, positive) if not none else None,
        sensitivity=proportion_interval(int(flagged[positive].sum()), positives) if positives >= FEWEST else None,
        specificity=proportion_interval(int((~flagged[~positive]).sum()), negatives) if negatives >= FEWEST else None,
        warning="; ".join(none + weak),
    )
