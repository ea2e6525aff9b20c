"""What a model's bundle says that a reader of its answer needs: what it does not look for, how it did in the test.

Read from `bundle.yaml` by the digest that stands in the result: whoever answered with it has verified that very file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import yaml

from edge.records import Finding, ModelUsed, Record

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_SAME = 1e-9


class Interval(msgspec.Struct, frozen=True):
    """A measured share (0..1) with its 95 % interval."""

    value: float
    low: float
    high: float


class Measured(msgspec.Struct, frozen=True):
    """How one finding did at one operating point, with one engine and precision, in the test."""

    finding: str
    engine: str
    precision: str
    operating_point: str
    dataset: str
    images: int
    patients: int
    positives: int
    sensitivity: Interval
    specificity: Interval


class MeasuredRefusal(msgspec.Struct, frozen=True):
    """How many images of a data set the model's gate for unfamiliar images refused, and whether it was meant to."""

    engine: str
    images: int
    wanted: bool
    refused: Interval


class Threshold(msgspec.Struct, frozen=True):
    """From which probability (0..1) on a finding is flagged."""

    code: str
    flagged_from: float


class OperatingPoint(msgspec.Struct, frozen=True):
    """A named set of thresholds."""

    id: str
    thresholds: tuple[Threshold, ...]


class ModelFacts(msgspec.Struct, frozen=True):
    """The part of `bundle.yaml` that the page shows; the rest of it is the inference service's."""

    not_looked_for: str
    operating_points: tuple[OperatingPoint, ...] = ()
    measured: tuple[Measured, ...] = ()
    measured_refusals: tuple[MeasuredRefusal, ...] = ()


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


class ModelShelf:
    """The bundles in a folder, by the digest of their `bundle.yaml`; what was read once is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, ModelFacts] = {}

    def facts(self, model: ModelUsed) -> ModelFacts | None:
        """Of the very bundle that has answered; None when it is not, or no longer, in the folder, or cannot be read."""
        if model.digest not in self._read:
            for path in sorted(self._folder.glob("*/bundle/bundle.yaml")):
                facts = _read(path, model.digest)
                if facts:
                    self._read[model.digest] = facts
        return self._read.get(model.digest)


def figures(facts: ModelFacts, model: ModelUsed, finding: Finding) -> Figures | None:
    """What a finding's threshold meant in the test, with the engine that answered; None when it was not measured."""
    threshold = finding.threshold
    points = [
        point.id
        for point in facts.operating_points
        for each in point.thresholds
        if each.code == finding.code and abs(each.flagged_from - threshold) < _SAME
    ]
    for row in facts.measured:
        of_this = (row.finding, row.engine, row.precision) == (finding.code, model.engine, model.precision)
        if of_this and row.operating_point in points and 0 < row.positives < row.images:
            return _figures(row, threshold)
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


def _read(path: Path, digest: str) -> ModelFacts | None:
    try:
        sealed = path.read_bytes()
    except OSError:
        return (
            None  # the page says that it is not known; the inference service's account says what is wrong with models
        )
    if f"sha256:{hashlib.sha256(sealed).hexdigest()}" != digest:
        return None
    return msgspec.convert(yaml.load(sealed, Loader=_LOADER), ModelFacts)  # noqa: S506 - both are safe loaders
