"""The sealed model bundle: its strict schema, and the reader that trusts no byte that the signature does not cover.

A bundle is a folder: `bundle.yaml` (this schema), `bundle.yaml.sig` (detached Ed25519 over the bytes of bundle.yaml),
`model.onnx` (INT8 QDQ), `openvino/model.xml` and `.bin` (INT8 IR), `golden.npz`, `familiarity.npz` (classification),
`card.md`, `card.html`. The signature covers bundle.yaml, which lists the SHA-256 of every other file.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from edge.errors import ScansideError
from edge.records import Record

BUNDLE_FILE = "bundle.yaml"
SIGNATURE_FILE = "bundle.yaml.sig"
ONNX_FILE = "model.onnx"
OPENVINO_FILE = "openvino/model.xml"
GOLDEN_FILE = "golden.npz"
FAMILIARITY_FILE = "familiarity.npz"


_OUTPUTS_OF = {"classification": {"logits", "cam", "embedding"}, "segmentation": {"mask"}}


class BundleError(ScansideError):
    """A bundle that must not be served: the message says which file, which rule and what to do."""


class Accepts(Record, frozen=True, kw_only=True):
    """What the model was made for; the router refuses everything else.

    Attributes:
        modalities: DICOM Modality values, `CR`, `DX`.
        body_parts: Body Part Examined values that fit; an absent tag fits too.
        views: View Position values that fit; an absent tag fits too.
        age_years: From (inclusive) and to (exclusive), in years.
    """

    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    views: tuple[str, ...]
    age_years: tuple[float, float]


class Input(Record, frozen=True, kw_only=True):
    """The model's input: float32 (1, 1, height, width), 0 black to 1 white (`edge.imaging.resample.to_model_input`)."""

    name: str
    height: int
    width: int
    resize: Literal["squash"] = "squash"


class FindingSpec(Record, frozen=True, kw_only=True):
    """A finding that the model looks for, in the order of the logits, and how its logit becomes a probability.

    `probability = sigmoid(logit / temperature + bias)` (temperature scaling, Guo et al. 2017, with an optional shift).
    """

    code: str
    scheme: str
    meaning: str
    temperature: float
    bias: float = 0.0


class Threshold(Record, frozen=True, kw_only=True):
    """Where a finding's probability changes the answer.

    Below `indeterminate_from`: not flagged; from there on: indeterminate; from `flagged_from` on: flagged.
    """

    code: str
    indeterminate_from: float
    flagged_from: float


class OperatingPoint(Record, frozen=True, kw_only=True):
    """A named set of thresholds with what it costs and gives on the evaluation data."""

    id: str
    description: str
    thresholds: tuple[Threshold, ...]


class Interval(Record, frozen=True, kw_only=True):
    """A measured figure with its 95 % interval and the method of the interval."""

    value: float
    low: float
    high: float
    method: str


class Measured(Record, frozen=True, kw_only=True):
    """What one finding's evaluation gave, for one engine and precision, at one operating point."""

    finding: str
    engine: str
    precision: str
    operating_point: str
    dataset: str
    split: str
    images: int
    patients: int
    positives: int
    auroc: Interval
    sensitivity: Interval
    specificity: Interval
    expected_calibration_error: float
    indeterminate: float
    flips_against_fp32: int


class MeasuredMask(Record, frozen=True, kw_only=True):
    """What a segmentation's evaluation gave, for one engine and precision; Dice is the mean over the images."""

    engine: str
    precision: str
    dataset: str
    split: str
    images: int
    patients: int
    dice: Interval


class Familiarity(Record, frozen=True, kw_only=True):
    """When an image is unlike those that the model was trained on.

    `familiarity.npz` holds `mean` float32 (F,) and `whitening` float32 (F, F): the distance of an embedding is
    `|whitening @ (embedding - mean)|^2 / F`, Mahalanobis' distance with a shrunk covariance (Lee et al., NeurIPS 2018;
    Ledoit and Wolf 2004), around 1 for images like those of the training.

    Attributes:
        unfamiliar_from: From this distance on the image is not analysed.
        not_frontal_chest_from: From this larger one on the reason is that it is no frontal chest radiograph.
    """

    unfamiliar_from: float
    not_frontal_chest_from: float


class MeasuredRefusal(Record, frozen=True, kw_only=True):
    """How many images of a data set the familiarity gate refuses, whatever their tags say."""

    engine: str
    dataset: str
    images: int
    wanted: bool
    refused: Interval


class Structure(Record, frozen=True, kw_only=True):
    """The anatomical structure that a segmentation outlines, as a code."""

    code: str
    scheme: str
    meaning: str


class Bundle(Record, frozen=True, kw_only=True):
    """bundle.yaml.

    Attributes:
        experimental: Measured on too little to rely on; the page says so beside every answer.
        outputs: The graph's names of the outputs: `logits`, `cam`, `embedding`, or `mask` (0..1, of the input's size).
        findings: In the order of the logits; none for a segmentation.
        structure: What a segmentation outlines.
        familiarity: The gate for unfamiliar images: a classification has one, a segmentation none.
        golden_tolerance: Largest absolute difference that the self-test allows, by output (`logits`, `cam`, ...).
        measured: One row for each finding, engine and operating point.
        provenance: Data sets and their hashes, recipe, versions, CPU, date.
        files: SHA-256 (`sha256:<hex>`) of every file but bundle.yaml and its signature, by path in the bundle.
    """

    schema: Literal["scanside.bundle/1"] = "scanside.bundle/1"
    id: str
    version: str
    task: Literal["classification", "segmentation"]
    experimental: bool = False
    title: str
    intended_use: str
    not_looked_for: str
    precision: Literal["int8"] = "int8"
    accepts: Accepts
    input: Input
    outputs: dict[Literal["logits", "cam", "embedding", "mask"], str]
    findings: tuple[FindingSpec, ...] = ()
    structure: Structure | None = None
    familiarity: Familiarity | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    default_operating_point: str = ""
    golden_tolerance: dict[str, float]
    measured: tuple[Measured, ...] = ()
    measured_masks: tuple[MeasuredMask, ...] = ()
    measured_refusals: tuple[MeasuredRefusal, ...] = ()
    provenance: dict[str, Any]
    files: dict[str, str]

    def operating_point(self, name: str | None = None) -> OperatingPoint:
        """The named operating point, or the default one. Raises `BundleError` when there is none of that name."""
        wanted = name or self.default_operating_point
        for point in self.operating_points:
            if point.id == wanted:
                return point
        known = ", ".join(point.id for point in self.operating_points)
        raise BundleError(f"operating point {wanted!r} is not in model {self.id} {self.version}: use one of {known}")


class SealedBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose signature and digests were verified, and where its files lie."""

    folder: Path
    bundle: Bundle
    digest: str


def probability(logit: float, spec: FindingSpec) -> float:
    """The calibrated probability, 0..1, of a logit."""
    return sigmoid(logit / spec.temperature + spec.bias)


def sigmoid(logit: float) -> float:
    """The logistic function, 0..1, for any finite logit."""
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, logit))))


def broken_rule(bundle: Bundle) -> str | None:
    """The first rule between a bundle's fields that does not hold, in words with the value; None when all hold."""
    of_task = _OUTPUTS_OF[bundle.task]
    rules: list[tuple[bool, str]] = [
        (set(bundle.outputs) == of_task, f"outputs {_list(bundle.outputs)}, a {bundle.task} has {_list(of_task)}"),
        (
            set(bundle.golden_tolerance) == set(bundle.outputs),
            f"golden_tolerance for {_list(bundle.golden_tolerance)}, each output needs one",
        ),
        (
            all(0 < tolerance < math.inf for tolerance in bundle.golden_tolerance.values()),
            f"golden_tolerance {bundle.golden_tolerance}, each is above 0 and finite",
        ),
        (
            all(required in bundle.files for required in (ONNX_FILE, OPENVINO_FILE, GOLDEN_FILE)),
            f"files lists no {ONNX_FILE}, {OPENVINO_FILE} or {GOLDEN_FILE}, each model has them",
        ),
    ]
    rules += _rules_of_classification(bundle) if bundle.task == "classification" else _rules_of_segmentation(bundle)
    return next((words for holds, words in rules if not holds), None)


def open_bundle(folder: Path, trusted_keys: Iterable[Path]) -> SealedBundle:
    """Verify and read a bundle: signature by a trusted key, then every file's digest, then the schema.

    Args:
        folder: The bundle's folder.
        trusted_keys: PEM files of Ed25519 public keys.

    Raises:
        BundleError: A file is missing or changed, no trusted key fits the signature, or the schema does not hold.
    """
    try:
        sealed = (folder / BUNDLE_FILE).read_bytes()
        signature = base64.b64decode((folder / SIGNATURE_FILE).read_bytes(), validate=True)
    except (OSError, ValueError) as error:
        raise BundleError(
            f"{folder}: bundle.yaml or its signature cannot be read ({error}): install it again"
        ) from error
    if not any(_signed_by(key, sealed, signature) for key in sorted(trusted_keys)):
        raise BundleError(
            f"{folder}: no trusted key made the signature of {BUNDLE_FILE}: install a signed bundle or its key"
        )
    try:
        bundle = msgspec.convert(yaml.safe_load(sealed), Bundle)
    except (msgspec.ValidationError, yaml.YAMLError) as error:
        raise BundleError(f"{folder}/{BUNDLE_FILE}: {error}: export the bundle again with this version") from error
    broken = broken_rule(bundle)
    if broken:
        raise BundleError(f"{folder}/{BUNDLE_FILE}: {broken}: export the bundle again")
    _verify_files(folder, bundle.files)
    return SealedBundle(folder=folder, bundle=bundle, digest=f"sha256:{hashlib.sha256(sealed).hexdigest()}")


def find_bundles(models: Path) -> list[Path]:
    """The bundle folders under a models folder, sorted by name: `<models>/<id>/bundle/`."""
    return sorted(path.parent for path in models.glob(f"*/bundle/{BUNDLE_FILE}"))


def _rules_of_classification(bundle: Bundle) -> list[tuple[bool, str]]:
    codes = [spec.code for spec in bundle.findings]
    points = [point.id for point in bundle.operating_points]
    known = bundle.familiarity
    return [
        (bool(codes) and len(codes) == len(set(codes)), f"findings {codes}, a classification has some, each once"),
        (bundle.structure is None, "structure belongs to a segmentation"),
        (
            all(0 < spec.temperature < math.inf and math.isfinite(spec.bias) for spec in bundle.findings),
            "a finding's temperature is not above 0, or its bias not finite",
        ),
        (
            bundle.default_operating_point in points,
            f"default operating point {bundle.default_operating_point!r} is not in {points}",
        ),
        (
            all(sorted(codes) == sorted(each.code for each in point.thresholds) for point in bundle.operating_points),
            f"an operating point has not one threshold for each of the findings {codes}",
        ),
        (
            all(
                0 <= each.indeterminate_from <= each.flagged_from <= 1
                for point in bundle.operating_points
                for each in point.thresholds
            ),
            "thresholds out of order, 0 <= indeterminate_from <= flagged_from <= 1",
        ),
        (
            known is not None and FAMILIARITY_FILE in bundle.files,
            f"familiarity or {FAMILIARITY_FILE} is missing, a classification has a gate for unfamiliar images",
        ),
        (
            known is None or 0 < known.unfamiliar_from <= known.not_frontal_chest_from < math.inf,
            "familiarity out of order, 0 < unfamiliar_from <= not_frontal_chest_from",
        ),
    ]


def _rules_of_segmentation(bundle: Bundle) -> list[tuple[bool, str]]:
    return [
        (bundle.structure is not None, "structure is missing, a segmentation outlines one"),
        (
            not bundle.findings and not bundle.operating_points,
            "findings and operating points belong to a classification",
        ),
        (bundle.familiarity is None, "familiarity belongs to a classification"),
    ]


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _signed_by(key_file: Path, sealed: bytes, signature: bytes) -> bool:
    try:
        key = load_pem_public_key(key_file.read_bytes())
    except (OSError, ValueError) as error:
        raise BundleError(f"{key_file}: not a public key in PEM form ({error}): remove or replace it") from error
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(f"{key_file}: not an Ed25519 key: remove or replace it")
    try:
        key.verify(signature, sealed)
    except InvalidSignature:
        return False
    return True


def _verify_files(folder: Path, digests: dict[str, str]) -> None:
    for name, digest in digests.items():
        path = folder / name
        if path.resolve().parent not in (folder.resolve(), *(parent.resolve() for parent in folder.glob("*/"))):
            raise BundleError(f"{folder}: {name!r} lies outside the bundle: export the bundle again")
        try:
            with path.open("rb") as file:
                found = f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}: install the bundle again") from error
        if found != digest:
            raise BundleError(f"{path}: digest {found}, sealed with {digest}: install the bundle again")
