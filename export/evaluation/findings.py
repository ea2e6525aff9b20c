"""Everything that an evaluation says about one finding and one engine: what the reports print and JSON keeps."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import Interval, Threshold
from export.evaluation.abstention import Kept, risk_coverage
from export.evaluation.calibration import ReliabilityBin, brier, expected_calibration_error, reliability
from export.evaluation.figures import (
    Labels,
    auroc,
    auroc_interval,
    clustered_interval,
    confusion,
    proportion_interval,
)
from export.evaluation.operating_points import Cutoff, cutoff, cutoffs
from export.evaluation.subgroups import SubgroupFigures, subgroups

Figure = Callable[[NDArray[np.float64], Labels], float]


class Scored(msgspec.Struct, frozen=True, kw_only=True):
    """One engine's answers for one finding, with the truth.

    Attributes:
        meaning: The finding in words.
        probabilities: [N], calibrated, 0..1.
        positive: [N]
        patients: [N], whose image each one is.
        groups: By attribute (``sex``, ``age``, ``view``, ``source``), each image's group [N].
        thresholds: By the operating point's name; the first is the one that subgroups and curves use.
        prevalence: For predictive values, 0..1.
    """

    code: str
    meaning: str
    engine: str
    precision: str
    probabilities: NDArray[np.float64]
    positive: Labels
    patients: tuple[str, ...]
    groups: Mapping[str, Sequence[str]]
    thresholds: Mapping[str, Threshold]
    prevalence: float


class PointFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What one operating point gives; the intervals "by patient" are bootstraps of patients, the others Wilson's."""

    name: str
    indeterminate_from: float
    row: Cutoff
    sensitivity_by_patient: Interval | None
    specificity_by_patient: Interval | None
    indeterminate: Interval
    """Share of the images in the indeterminate band; they count as not flagged."""


class FindingFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One finding, one engine."""

    code: str
    meaning: str
    engine: str
    precision: str
    images: int
    patients: int
    positives: int
    prevalence: float
    auroc: Interval | None
    """DeLong's interval, as if each image were a patient; None where a class is missing."""
    auroc_by_patient: Interval | None
    brier: Interval
    """Bootstrap by patients, as the calibration errors'."""
    calibration_error: Interval
    adaptive_calibration_error: Interval
    points: tuple[PointFigures, ...]
    reliability: tuple[ReliabilityBin, ...]
    subgroups: tuple[SubgroupFigures, ...]
    risk_coverage: tuple[Kept, ...]
    cutoffs: tuple[Cutoff, ...]


def figures_of(scored: Scored) -> FindingFigures:
    """All figures of one finding and engine; the same input gives the same figures."""
    probabilities, positive, patients = scored.probabilities, scored.positive, scored.patients
    default = next(iter(scored.thresholds.values()))

    def by_patient(figure: Figure) -> Interval:
        return clustered_interval(lambda images: figure(probabilities[images], positive[images]), patients)

    return FindingFigures(
        code=scored.code,
        meaning=scored.meaning,
        engine=scored.engine,
        precision=scored.precision,
        images=len(positive),
        patients=len(set(patients)),
        positives=int(positive.sum()),
        prevalence=scored.prevalence,
        auroc=_defined(auroc_interval(probabilities, positive)),
        auroc_by_patient=_defined(by_patient(auroc)),
        brier=by_patient(brier),
        calibration_error=by_patient(expected_calibration_error),
        adaptive_calibration_error=by_patient(partial(expected_calibration_error, adaptive=True)),
        points=tuple(_point(scored, name, threshold) for name, threshold in scored.thresholds.items()),
        reliability=reliability(probabilities, positive),
        subgroups=subgroups(probabilities, positive, probabilities >= default.flagged_from, patients, scored.groups),
        risk_coverage=risk_coverage(probabilities, positive, default.flagged_from),
        cutoffs=cutoffs(probabilities, positive, scored.prevalence),
    )


def _point(scored: Scored, name: str, threshold: Threshold) -> PointFigures:
    flagged = scored.probabilities >= threshold.flagged_from
    banded = (scored.probabilities >= threshold.indeterminate_from) & ~flagged
    positive = scored.positive
    return PointFigures(
        name=name,
        indeterminate_from=threshold.indeterminate_from,
        row=cutoff(confusion(flagged, positive), threshold.flagged_from, scored.prevalence),
        sensitivity_by_patient=_defined(
            clustered_interval(lambda images: _share(flagged[images], positive[images]), scored.patients)
        ),
        specificity_by_patient=_defined(
            clustered_interval(lambda images: _share(~flagged[images], ~positive[images]), scored.patients)
        ),
        indeterminate=proportion_interval(int(banded.sum()), len(banded)),
    )


def _defined(figure: Interval) -> Interval | None:
    return None if math.isnan(figure.value) else figure


def _share(hit: Labels, among: Labels) -> float:
    """The share of the images ``among`` that are hit; NaN without any."""
    total = int(among.sum())
    return int((hit & among).sum()) / total if total else math.nan
