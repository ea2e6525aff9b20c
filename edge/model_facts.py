"""What a model's bundle says that whoever tells of its answer needs: thresholds, calibration, how it did in the test.

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
    """From which probability (0..1) on a finding is indeterminate, and from which flagged."""

    code: str
    indeterminate_from: float
    flagged_from: float


class OperatingPoint(msgspec.Struct, frozen=True):
    """A named set of thresholds."""

    id: str
    thresholds: tuple[Threshold, ...]


class Calibration(msgspec.Struct, frozen=True):
    """How a finding's logit becomes a probability: `sigmoid(logit / temperature + bias)`."""

    code: str
    temperature: float
    bias: float = 0.0


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `bundle.yaml` that readers of an answer need; the rest of it is the inference service's."""

    not_looked_for: str = ""
    findings: tuple[Calibration, ...] = ()
    operating_points: tuple[OperatingPoint, ...] = ()
    measured: tuple[Measured, ...] = ()
    measured_refusals: tuple[MeasuredRefusal, ...] = ()

    def points_of(self, finding: Finding) -> list[tuple[str, Threshold]]:
        """The operating points at which a finding may have been judged, by its threshold."""
        return [
            (point.id, threshold)
            for point in self.operating_points
            for threshold in point.thresholds
            if threshold.code == finding.code and abs(threshold.flagged_from - finding.threshold) < _SAME
        ]


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


def _read(path: Path, digest: str) -> ModelFacts | None:
    try:
        sealed = path.read_bytes()
    except OSError:
        return (
            None  # who tells says that it is not known; the inference service's account says what is wrong with models
        )
    if f"sha256:{hashlib.sha256(sealed).hexdigest()}" != digest:
        return None
    return msgspec.convert(yaml.load(sealed, Loader=_LOADER), ModelFacts)  # noqa: S506 - both are safe loaders
