"""Logits to an answer: calibrated probability, threshold, the four words. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edge.inference.bundle import Bundle, OperatingPoint, probability, sigmoid
from edge.records import Finding, Priority, Status

PRIORITY_OF = {
    Status.FLAGGED: Priority.URGENT,
    Status.INDETERMINATE: Priority.ROUTINE,
    Status.CLEAR: Priority.ROUTINE,
    Status.NOT_ANALYSED: Priority.ROUTINE,
}


def judge(logits: Sequence[float], bundle: Bundle, point: OperatingPoint) -> tuple[Status, tuple[Finding, ...]]:
    """The status and each finding (without its box) for a model's logits, in the order of the bundle's findings.

    One finding at or above its threshold flags the image; else one in its indeterminate band makes it indeterminate.
    """
    thresholds = {threshold.code: threshold for threshold in point.thresholds}
    findings, status = [], Status.CLEAR
    for logit, spec in zip(logits, bundle.findings, strict=True):
        threshold = thresholds[spec.code]
        calibrated = probability(logit, spec)
        flagged = calibrated >= threshold.flagged_from
        if flagged:
            status = Status.FLAGGED
        elif calibrated >= threshold.indeterminate_from and status is Status.CLEAR:
            status = Status.INDETERMINATE
        findings.append(
            Finding(
                code=spec.code,
                scheme=spec.scheme,
                meaning=spec.meaning,
                score=round(sigmoid(logit), 6),
                probability=round(calibrated, 6),
                threshold=threshold.flagged_from,
                flagged=flagged,
                box=None,
            )
        )
    return status, tuple(findings)
