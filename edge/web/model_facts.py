"""What a model's bundle says that a reader of its answer needs: what it does not look for, how it did in the test.

Read from `bundle.yaml` by the digest that stands in the result: whoever answered with it has verified that very file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import yaml

from edge.records import Finding, ModelUsed

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


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What an operating point meant in the test, of 100 images each, 0..100.

    Attributes:
        operating_point: Its name in the bundle.
        with_it_of_100_flagged: Positive predictive value, at the share of images that had the finding in the test.
        flagged_of_100_with_it: Sensitivity; `sensitivity_low` and `sensitivity_high` are its 95 % interval.
        flagged_of_100_without_it: 100 less the specificity.
        with_it_of_100: How many had the finding in the test.
    """

    operating_point: str
    with_it_of_100_flagged: float
    flagged_of_100_with_it: float
    sensitivity_low: float
    sensitivity_high: float
    flagged_of_100_without_it: float
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
            return _figures(row)
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


def _figures(row: Measured) -> Figures:
    flagged_with = row.sensitivity.value * row.positives
    flagged_without = (1 - row.specificity.value) * (row.images - row.positives)
    flagged = flagged_with + flagged_without
    return Figures(
        operating_point=row.operating_point,
        with_it_of_100_flagged=100 * flagged_with / flagged if flagged else 0.0,
        flagged_of_100_with_it=100 * row.sensitivity.value,
        sensitivity_low=100 * row.sensitivity.low,
        sensitivity_high=100 * row.sensitivity.high,
        flagged_of_100_without_it=100 * (1 - row.specificity.value),
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
