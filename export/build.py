"""From a recipe to a sealed bundle: data, training, tracing, quantization, evaluation, golden inputs, card, seal."""

import datetime
import hashlib
import platform
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from edge.inference.bundle import (
    GOLDEN_FILE,
    ONNX_FILE,
    OPENVINO_FILE,
    Accepts,
    Bundle,
    FindingSpec,
    Input,
    OperatingPoint,
    SealedBundle,
)
from edge.inference.engines import ENGINES, Outputs, open_engine
from export import card, datasets, evaluation, golden, seal, tracing, training
from export.architectures import OUTPUT_NAMES, MobileNetV2Grey
from export.datasets import SPLITS, Dataset, Split, to_input
from export.evaluation import EngineScores
from export.inspection import describe
from export.quantization import onnxruntime_int8, openvino_int8
from export.recipe import Recipe, read_recipe, training_key

Report = Callable[[str], None]
FP32 = "pytorch"
_PARITY_IMAGES = 16
_GOLDEN_IMAGES = 6


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a build reads and writes."""

    recipe: Path
    """recipe.yaml; the bundle goes to ``bundle/`` beside it."""
    cache: Path
    """Prepared pixels and training checkpoints; safe to delete."""
    dataset: Path | None = None
    """The data set's folder, when it is not where the recipe says."""

    @property
    def bundle(self) -> Path:
        """The bundle's folder."""
        return self.recipe.parent / "bundle"


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe with its data and its fitted network."""

    recipe: Recipe
    dataset: Dataset
    network: MobileNetV2Grey
    history: list[training.Epoch]
    key: str


def train(place: Place, report: Report) -> Trained:
    """Reads the data and trains, unless the cache holds the finished training of these very inputs."""
    recipe = read_recipe(place.recipe)
    root = place.dataset or (place.recipe.parent / recipe.dataset.path).resolve()
    data = datasets.load(root, recipe.dataset, recipe.findings, side=recipe.side, seed=recipe.seed, cache=place.cache)
    counts = Counter(data.splits)
    report(f"data: {len(data.rows)} images; {', '.join(f'{name} {counts[name]}' for name in SPLITS)}")
    key = training_key(recipe, data.fingerprint)
    folder = place.cache / recipe.id / key
    if training.is_finished(recipe.training, training.history(folder)):
        report(f"training: finished before, kept in {folder}")
    else:
        weights = None if recipe.training.weights is None else (place.recipe.parent / recipe.training.weights).resolve()
        training.train(recipe, data, weights, folder, report)
    network = training.trained(recipe, folder)
    return Trained(recipe=recipe, dataset=data, network=network, history=training.history(folder), key=key)


def build(place: Place, signing_key: Ed25519PrivateKey, report: Report) -> str:
    """Makes and seals the bundle beside the recipe; returns its digest.

    Nothing appears at the bundle's place before it is complete.
    """
    started = time.monotonic()
    work = train(place, report)
    place.bundle.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=place.bundle.parent) as temporary:
        staged = Path(temporary) / "bundle"
        (staged / OPENVINO_FILE).parent.mkdir(parents=True)
        parity = _export(work, staged, Path(temporary) / "fp32.onnx", report)
        draft = _draft(work.recipe)
        scores = _scores(work, _provisional(staged, draft), report)
        complete = _judged(draft, work, scores)
        for measured in complete.measured:
            report(describe(measured))
        inputs = golden.golden_inputs(_GOLDEN_IMAGES, work.recipe.side)
        sealed = _provisional(staged, draft)
        golden.write_golden(
            staged / GOLDEN_FILE, inputs, {engine: run_engine(engine, sealed, inputs) for engine in ENGINES}
        )
        provenance = _provenance(work, place, parity, time.monotonic() - started)
        complete = msgspec.structs.replace(complete, provenance=provenance)
        card.write_cards(staged, complete, _curves(work, scores, complete), work.recipe.weak_spots)
        digest = seal.seal(staged, complete, signing_key)
        seal.install(staged, place.bundle)
    report(f"sealed {place.bundle} {digest} after {time.monotonic() - started:.0f} s")
    return digest


def run_engine(engine: str, sealed: SealedBundle, images: NDArray[np.float32]) -> Outputs:
    """The device's own engine over images [N, 1, H, W], one at a time as on the device; the outputs stacked."""
    with tempfile.TemporaryDirectory() as cache:
        opened = open_engine(engine, sealed, max(1, torch.get_num_threads()), Path(cache))
        rows = [opened.run(image[np.newaxis]) for image in images]
    return Outputs(*(np.stack(column) for column in zip(*rows, strict=True)))


def _export(work: Trained, staged: Path, fp32: Path, report: Report) -> float:
    """Traces, proves parity, quantizes twice; returns the largest difference between PyTorch and the traced graph."""
    tracing.trace(work.network, work.recipe.side, fp32)
    validation = to_input(work.dataset.pixels[work.dataset.indices("validation")[:_PARITY_IMAGES]])
    parity = tracing.check_parity(work.network, fp32, validation)
    report(f"traced: ONNX opset {tracing.OPSET}, largest difference from PyTorch {parity:.1e}")
    calibration = to_input(work.dataset.pixels[work.dataset.indices("calibration")])
    onnxruntime_int8.quantize(fp32, staged / ONNX_FILE, calibration, work.recipe.quantization.onnxruntime)
    openvino_int8.quantize(fp32, staged / OPENVINO_FILE, calibration, work.recipe.quantization.openvino)
    report(f"quantized for ONNX Runtime and OpenVINO on {len(calibration)} images")
    return parity


def _draft(recipe: Recipe) -> Bundle:
    """The bundle as far as the recipe decides it: what the engines need to run the models."""
    return Bundle(
        id=recipe.id,
        version=recipe.version,
        task="classification",
        title=recipe.title,
        intended_use=recipe.intended_use,
        not_looked_for=recipe.not_looked_for,
        accepts=Accepts(
            modalities=recipe.modalities,
            body_parts=(recipe.body_part,),
            views=recipe.views,
            age_years=(recipe.age_years_from, recipe.age_years_below),
        ),
        input=Input(name=tracing.INPUT_NAME, height=recipe.side, width=recipe.side),
        outputs=dict(zip(OUTPUT_NAMES, OUTPUT_NAMES, strict=True)),
        findings=tuple(
            FindingSpec(code=each.code, scheme=each.scheme, meaning=each.meaning, temperature=1.0)
            for each in recipe.findings
        ),
        operating_points=(),
        default_operating_point=recipe.operating_point.name,
        golden_tolerance=recipe.golden_tolerance,
        measured=(),
        provenance={},
        files={},
    )


def _provisional(folder: Path, bundle: Bundle) -> SealedBundle:
    """An unsealed bundle in the shape that the device's engines open."""
    return SealedBundle(folder=folder, bundle=bundle, digest="")


def _scores(work: Trained, sealed: SealedBundle, report: Report) -> list[EngineScores]:
    """Logits on validation and test: FP32 first, then the two INT8 models through the device's engines."""
    images = {name: to_input(work.dataset.pixels[work.dataset.indices(name)]) for name in ("validation", "test")}
    found = [
        EngineScores(
            engine=FP32,
            precision="fp32",
            **{name: training.predict(work.network, torch.from_numpy(given)) for name, given in images.items()},
        )
    ]
    for engine in ENGINES:
        given = {name: run_engine(engine, sealed, each).logits for name, each in images.items()}
        found.append(EngineScores(engine=engine, precision="int8", **given))
        shift = float(np.abs(found[-1].validation - found[0].validation).max())
        report(f"{engine}: INT8 logits on {len(images['validation'])} validation images differ by at most {shift:.3f}")
    return found


def _judged(draft: Bundle, work: Trained, scores: Sequence[EngineScores]) -> Bundle:
    """Calibration and threshold from the validation split (of both INT8 engines), figures from the test split."""
    how, data = work.recipe.operating_point, work.dataset
    validation, test = data.indices("validation"), data.indices("test")
    patients = len({data.rows[index].patient for index in test})
    specs, thresholds, measured = [], [], []
    for column, finding in enumerate(draft.findings):
        shipped = scores[1:]
        positive = np.tile(data.targets[validation, column] > 0.5, len(shipped))
        logits = evaluation.pooled(shipped, column)
        calibration = evaluation.calibrate(logits, positive)
        spec = msgspec.structs.replace(finding, temperature=calibration.temperature, bias=calibration.bias)
        threshold = evaluation.choose_threshold(
            spec.code, calibration.probability(logits), positive, how.min_sensitivity, how.indeterminate_share
        )
        specs.append(spec)
        thresholds.append(threshold)
        measured += [
            evaluation.measure(
                each,
                reference=scores[0].test,
                positive=data.targets[test, column] > 0.5,
                column=column,
                spec=spec,
                threshold=threshold,
                point=how.name,
                dataset=work.recipe.dataset.name,
                patients=patients,
            )
            for each in scores
        ]
    description = (
        f"The highest threshold with a sensitivity of at least {how.min_sensitivity:g} on the validation split; the "
        f"{how.indeterminate_share:.1%} of the validation images nearest below it are indeterminate"
    )
    point = OperatingPoint(id=how.name, description=description, thresholds=tuple(thresholds))
    return msgspec.structs.replace(draft, findings=tuple(specs), operating_points=(point,), measured=tuple(measured))


def _curves(work: Trained, scores: Sequence[EngineScores], bundle: Bundle) -> list[card.Curve]:
    """What the card draws: test probabilities of each finding by the first INT8 engine."""
    shown, targets = scores[1], work.dataset.targets[work.dataset.indices("test")]
    return [
        card.Curve(
            meaning=spec.meaning,
            engine=shown.engine,
            probabilities=evaluation.Calibration(temperature=spec.temperature, bias=spec.bias).probability(
                shown.test[:, column]
            ),
            positive=targets[:, column] > 0.5,
            threshold=bundle.operating_points[0].thresholds[column],
        )
        for column, spec in enumerate(bundle.findings)
    ]


def _provenance(work: Trained, place: Place, parity: float, seconds: float) -> dict[str, Any]:
    """Where the model comes from, as plain values."""
    data, how = work.dataset, work.recipe.training
    best = min(training.eligible(how, work.history), key=lambda epoch: epoch.stressed_loss)
    return {
        "built": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "recipe_sha256": hashlib.sha256(place.recipe.read_bytes()).hexdigest(),
        "command": f"scanside-export build models/{work.recipe.id}/recipe.yaml",
        "seed": work.recipe.seed,
        "dataset": {
            "name": work.recipe.dataset.name,
            "licence": work.recipe.dataset.licence,
            "sha256": data.fingerprint,
            "splits": {name: _counts(data, name) for name in SPLITS},
        },
        "training": {
            "architecture": how.architecture,
            "key": work.key,
            "epochs": len(work.history),
            "quantized_epochs": how.quantized_epochs,
            "kept_epoch": best.number,
            "minutes": round(sum(epoch.seconds for epoch in work.history) / 60.0, 1),
            "history": [msgspec.to_builtins(epoch) for epoch in work.history],
        },
        "tracing": {"opset": tracing.OPSET, "largest_difference_from_pytorch": parity},
        "quantization": {"onnxruntime": onnxruntime_int8.SCHEME, "openvino": openvino_int8.SCHEME},
        "versions": {name: metadata.version(name) for name in _VERSIONED},
        "cpu": _cpu(),
        "seconds": round(seconds),
    }


def _counts(data: Dataset, split: Split) -> dict[str, int]:
    chosen = data.indices(split)
    return {
        "images": len(chosen),
        "patients": len({data.rows[index].patient for index in chosen}),
        "positives": int((data.targets[chosen].max(axis=1) > 0.5).sum()),
    }


_VERSIONED = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "numpy")


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
