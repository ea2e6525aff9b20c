"""evaluation.json: what an evaluation found; it names no image and no patient."""

from typing import Literal

import msgspec

from edge.inference.bundle import Interval, MeasuredMask
from export.deployed.site_point import SitePoint
from export.evaluation.findings import FindingFigures
from export.evaluation.localisation import Localisation


class NotAnalysed(msgspec.Struct, frozen=True, kw_only=True):
    """Images that the device gave a reason instead of an answer."""

    reason: str
    images: int
    positives: int
    """How many of them have a finding."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from a file's bytes to its answer, images of this data set, percentiles."""

    p50: float
    p95: float
    p99: float


class EngineFigures(msgspec.Struct, frozen=True, kw_only=True):
    """How the bundle did on one engine.

    Attributes:
        not_analysed: Share of the images that got a reason instead of an answer; `findings` are of the others.
        indeterminate: Share of all images that are indeterminate at the default operating point.
        sensitivity_of_all: By finding, the share flagged of all images with it, those not analysed counting as not
            flagged.
        localisation: Of the images with the finding that were flagged or indeterminate; None without a reference.
    """

    engine: str
    precision: str
    images: int
    not_analysed: Interval
    reasons: tuple[NotAnalysed, ...]
    indeterminate: Interval
    sensitivity_of_all: tuple[Interval, ...]
    findings: tuple[FindingFigures, ...]
    localisation: Localisation | None
    masks: MeasuredMask | None
    latency_ms: Latency | None


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of it.

    Attributes:
        model: Its id, version and digest.
        dataset: Name, which part of it, and the SHA-256 over its images and their truth.
        disagreements: On how many images the engines decide differently; None with one engine.
    """

    schema: Literal["scanside.evaluation/1"] = "scanside.evaluation/1"
    model: dict[str, str]
    experimental: bool
    date: str
    command: str
    dataset: dict[str, str]
    images: int
    patients: int
    engines: tuple[EngineFigures, ...]
    disagreements: int | None
    site_points: tuple[SitePoint, ...]
