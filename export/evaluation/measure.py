"""The figures that are sealed into a bundle: one finding, one engine, one operating point."""

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import FindingSpec, Measured, Threshold
from export.evaluation.calibration import Calibration, expected_calibration_error
from export.evaluation.figures import Labels, auroc_interval, confusion


class EngineScores(msgspec.Struct, frozen=True, kw_only=True):
    """The logits that one engine gave."""

    engine: str
    precision: str
    test: NDArray[np.float32]
    """[M, K]"""


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
    counts = confusion(flagged, positive)
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
        sensitivity=counts.sensitivity,
        specificity=counts.specificity,
        expected_calibration_error=expected_calibration_error(probabilities, positive),
        indeterminate=float(np.mean((probabilities >= threshold.indeterminate_from) & ~flagged)),
        flips_against_fp32=int((flagged != flagged_fp32).sum()),
    )
