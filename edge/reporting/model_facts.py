"""What a model's bundle says that belongs into a report of its answer: operating point, calibration, what it looks for.

Read from `bundle.yaml` by the digest that stands in the result: whoever answered with it has verified that very file.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import yaml

from edge.records import Finding, ModelUsed

_SAME = 1e-9


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


class ModelFacts(msgspec.Struct, frozen=True):
    """The part of `bundle.yaml` that a report states."""

    not_looked_for: str = ""
    findings: tuple[Calibration, ...] = ()
    operating_points: tuple[OperatingPoint, ...] = ()

    def point_of(self, finding: Finding) -> tuple[str, Threshold] | None:
        """The operating point that a finding was judged at, by its threshold; None when none has it."""
        for point in self.operating_points:
            for threshold in point.thresholds:
                if threshold.code == finding.code and abs(threshold.flagged_from - finding.threshold) < _SAME:
                    return point.id, threshold
        return None


def facts_of(models: Path, model: ModelUsed | None) -> ModelFacts:
    """What the bundle of this model says; nothing when it is not there any more or cannot be read."""
    for file in sorted(models.glob("*/bundle/bundle.yaml")) if model else ():
        try:
            data = file.read_bytes()
            if model and model.digest == f"sha256:{hashlib.sha256(data).hexdigest()}":
                return msgspec.convert(yaml.safe_load(data), ModelFacts)
        except (OSError, yaml.YAMLError, msgspec.ValidationError):
            continue
    return ModelFacts()
