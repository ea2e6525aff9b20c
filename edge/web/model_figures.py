"""How a model did in the test, as somebody who reads its answer is told it: at the threshold that was used."""

from __future__ import annotations

from edge.model_facts import Interval, Measured, ModelFacts
from edge.records import Finding, ModelUsed, Record


class Figures(Record, frozen=True, kw_only=True):
    """What a finding's threshold meant in the test of the model that answered.

    Attributes:
        finding: The finding's code.
        threshold: From which probability (0..1) on it is flagged.
        operating_point: Its name in the bundle.
        sensitivity: Of the images that had the finding, the share that was flagged.
        specificity: Of those that had not, the share that was not.
        with_it_of_100_flagged: Positive predictive value in percent, where as many had the finding as in the test.
        with_it_of_100: How many of 100 had the finding in the test.
        images: How many were tested on, of how many patients, and which.
    """

    finding: str
    threshold: float
    operating_point: str
    sensitivity: Interval
    specificity: Interval
    with_it_of_100_flagged: float
    with_it_of_100: float
    images: int
    patients: int
    dataset: str


def figures(facts: ModelFacts, model: ModelUsed, finding: Finding) -> Figures | None:
    """What a finding's threshold meant in the test, with the engine that answered; None when it was not measured."""
    points = [name for name, _ in facts.points_of(finding)]
    for row in facts.measured:
        of_this = (row.finding, row.engine, row.precision) == (finding.code, model.engine, model.precision)
        if of_this and row.operating_point in points and 0 < row.positives < row.images:
            return _figures(row, finding.threshold)
    return None


def reference(facts: ModelFacts | None, model: ModelUsed) -> dict[str, dict[str, int]]:
    """What the test says about images anywhere, for the drift watch: how many of its kind the model finds unfamiliar.

    Of its scores and flags the test says nothing about another site: they go with how frequent the finding is there.
    """
    for row in facts.measured_refusals if facts else ():
        if row.engine == model.engine and not row.wanted and row.images:
            refused = round(row.refused.value * row.images)
            return {"familiarity": {"familiar": row.images - refused, "unfamiliar": refused}}
    return {}


def _figures(row: Measured, threshold: float) -> Figures:
    flagged_with = row.sensitivity.value * row.positives
    flagged_without = (1 - row.specificity.value) * (row.images - row.positives)
    flagged = flagged_with + flagged_without
    return Figures(
        finding=row.finding,
        threshold=threshold,
        operating_point=row.operating_point,
        sensitivity=row.sensitivity,
        specificity=row.specificity,
        with_it_of_100_flagged=100 * flagged_with / flagged if flagged else 0.0,
        with_it_of_100=100 * row.positives / row.images,
        images=row.images,
        patients=row.patients,
        dataset=row.dataset,
    )
