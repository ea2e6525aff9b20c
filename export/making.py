"""The long steps of a build: from the data to what both engines answer, each kept under the hash of its inputs."""

import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edge.inference.bundle import Accepts, Bundle, FindingSpec, Input, SealedBundle, Structure
from edge.inference.engines import Outputs
from export import answering, architectures, gate, judging, latency, tracing
from export.datasets import Dataset, to_input
from export.evaluation import dice
from export.fitting import Place, Trained, fit, load
from export.judging import Kept
from export.quantization import instruction_set
from export.quantization.running import run_graph
from export.quantization.search import Accept, Quantization, quantize
from export.recipe import DatasetRecipe, Recipe
from export.steps import Report, Steps, cpu

QUANTIZATION_FILE = "quantization.json"
_PARITY_IMAGES = 16
_CAPPED_IMAGES = 64
_FP32_FILE, _PARITY_FILE, _ANSWERS_FILE = "fp32.onnx", "parity.json", "answers.npz"
_EMBEDDINGS_FILE, _SPEED_FILE = "embeddings.npz", "speed.json"
_VERSIONED = ("torch", "monai", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "numpy")


class Speed(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured of the machine rather than of the answers."""

    latencies: tuple[latency.Latency, ...]
    capped_shifts: dict[str, dict[str, float]]


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the steps made, before it is judged."""

    work: Trained
    traced: Path
    quantized: Path
    draft: Bundle
    kept: Kept
    others: dict[str, Dataset]
    embeddings: Path | None
    """Holds ``embeddings.npz`` with the training's embeddings, where the recipe asks for the gate."""
    speed: Speed

    @property
    def sealed(self) -> SealedBundle:
        """The INT8 models in the shape that the device's engines open."""
        return SealedBundle(folder=self.quantized, bundle=self.draft, digest="")

    @property
    def quantization(self) -> Quantization:
        """What was tried and kept."""
        return msgspec.json.decode((self.quantized / QUANTIZATION_FILE).read_bytes(), type=Quantization)

    @property
    def parity(self) -> float:
        """The largest difference between PyTorch and the traced graph."""
        return float(json.loads((self.traced / _PARITY_FILE).read_text(encoding="utf-8")))

    @property
    def training_embeddings(self) -> NDArray[np.float32] | None:
        """[N, F] of the training images."""
        if self.embeddings is None:
            return None
        with np.load(self.embeddings / _EMBEDDINGS_FILE) as arrays:
            found: NDArray[np.float32] = arrays["embeddings"]
        return found


def make(place: Place, report: Report) -> Made:
    """Runs, or finds done before, every step up to the answers of both INT8 engines."""
    work = fit(place, report)
    steps = Steps(place.cache / work.recipe.id, report)
    traced = steps.folder("traced", (work.key, versions()), lambda folder: _trace(work, folder, report))
    inputs = (traced.name, work.recipe.quantization, work.recipe.gate, work.recipe.operating_points)
    draft = _draft(work.recipe)
    quantized = steps.folder(
        "quantized", inputs, lambda folder: _quantize(work, traced / _FP32_FILE, draft, folder, report)
    )
    sealed = SealedBundle(folder=quantized, bundle=draft, digest="")
    others = _others(place, work.recipe, report)
    fp32 = onnx.load(str(traced / _FP32_FILE))
    answers = steps.folder(
        "answers",
        (quantized.name, {name: each.fingerprint for name, each in others.items()}),
        lambda folder: answering.write_answers(folder / _ANSWERS_FILE, work, sealed, fp32, others),
    )
    embeddings = None
    if work.recipe.familiarity is not None:
        embeddings = steps.folder(
            "embeddings",
            work.key,
            lambda folder: answering.write_training_embeddings(folder / _EMBEDDINGS_FILE, work),
        )
    speed = steps.folder(
        "speed", (quantized.name, cpu()), lambda folder: _write_speed(folder / _SPEED_FILE, work, sealed, fp32)
    )
    with np.load(answers / _ANSWERS_FILE) as arrays:
        kept = dict(arrays)
    return Made(
        work=work,
        traced=traced,
        quantized=quantized,
        draft=draft,
        kept=kept,
        others=others,
        embeddings=embeddings,
        speed=msgspec.json.decode((speed / _SPEED_FILE).read_bytes(), type=Speed),
    )


def _trace(work: Trained, folder: Path, report: Report) -> None:
    """Traces, and proves the graph equal to PyTorch on real images."""
    network, names = work.network().eval(), architectures.output_names(work.recipe)
    tracing.trace(network, names, work.recipe.side, folder / _FP32_FILE)
    images = to_input(work.dataset.pixels[work.dataset.indices("validation")[:_PARITY_IMAGES]])
    parity = tracing.check_parity(network, names, folder / _FP32_FILE, images)
    (folder / _PARITY_FILE).write_text(json.dumps(parity), encoding="utf-8")
    report(f"traced: ONNX opset {tracing.OPSET}, largest difference from PyTorch {parity:.1e}")


def _quantize(work: Trained, fp32: Path, draft: Bundle, folder: Path, report: Report) -> None:
    data = work.dataset
    done = quantize(
        fp32,
        SealedBundle(folder=folder, bundle=draft, digest=""),
        calibration=data.pixels[data.indices("calibration")],
        validation=_validation_pixels(work),
        accept=_accept(work, fp32, draft),
        recipe=work.recipe.quantization,
        report=report,
    )
    (folder / QUANTIZATION_FILE).write_bytes(msgspec.json.encode(done))


def _validation_pixels(work: Trained) -> NDArray[np.uint8]:
    """The validation images, with changed copies where the gate wants the test images to have such."""
    pixels = work.dataset.pixels[work.dataset.indices("validation")]
    return pixels if work.dataset.masks is not None else answering.with_copies(pixels, work.recipe)


def _accept(work: Trained, fp32: Path, draft: Bundle) -> Accept:
    """Judges the engines' outputs on `_validation_pixels` by the recipe's gate."""
    data, recipe = work.dataset, work.recipe
    chosen = data.indices("validation")
    reference = run_graph(onnx.load(str(fp32)), _validation_pixels(work))

    def misses(outputs: Mapping[str, Outputs]) -> Sequence[str]:
        if data.masks is not None:
            truth = data.masks[chosen]
            given = {engine: dice(each["mask"][:, 0], truth) for engine, each in outputs.items()}
            masks = gate.Masks(reference=dice(reference["mask"][:, 0], truth), engines=given)
            return judging.missed(gate.dice_drops(masks, recipe.gate))
        positive = data.targets[chosen] > 0.5
        logits = {engine: each["logits"] for engine, each in outputs.items()}
        bundle = judging.with_points(draft, recipe, [each[: len(chosen)] for each in logits.values()], positive)
        answers = gate.Answers(
            findings=bundle.findings,
            points=bundle.operating_points,
            default_point=bundle.default_operating_point,
            positive=np.tile(positive, (len(reference["logits"]) // len(chosen), 1)),
            reference=reference["logits"],
            engines=logits,
        )
        return judging.missed(gate.drops(answers, recipe.gate))

    return misses


def _others(place: Place, recipe: Recipe, report: Report) -> dict[str, Dataset]:
    """The data sets by which the gate for unfamiliar images is set and measured, where they can be had."""
    gated = recipe.familiarity
    if gated is None:
        return {}
    named: tuple[tuple[str, DatasetRecipe | None], ...] = (
        ("other_frontal", gated.other_frontal),
        ("refused", gated.refused),
    )
    return {name: load(place, recipe, each, report) for name, each in named if each is not None}


def _write_speed(path: Path, work: Trained, sealed: SealedBundle, fp32: onnx.ModelProto) -> None:
    images = work.dataset.pixels[work.dataset.indices("validation")[:_CAPPED_IMAGES]]
    capped = {
        engine: instruction_set.capped_shifts(engine, sealed, images) for engine in instruction_set.CAPPED_ENGINES
    }
    speed = Speed(latencies=latency.measure(sealed, fp32), capped_shifts=capped)
    path.write_bytes(msgspec.json.encode(speed))


def _draft(recipe: Recipe) -> Bundle:
    """The bundle as far as the recipe decides it: what the engines need to run the models."""
    names = architectures.output_names(recipe)
    structure = recipe.structure
    return Bundle(
        id=recipe.id,
        version=recipe.version,
        task=recipe.task,
        experimental=recipe.experimental,
        title=recipe.title,
        intended_use=recipe.intended_use,
        not_looked_for=recipe.not_looked_for,
        accepts=Accepts(
            modalities=recipe.modalities,
            body_parts=recipe.body_parts,
            views=recipe.views,
            age_years=(recipe.age_years_from, recipe.age_years_below),
        ),
        input=Input(name=tracing.INPUT_NAME, height=recipe.side, width=recipe.side),
        outputs=dict(zip(names, names, strict=True)),  # type: ignore[arg-type]  # the names are those of the schema
        findings=tuple(
            FindingSpec(code=each.code, scheme=each.scheme, meaning=each.meaning, temperature=1.0)
            for each in recipe.findings
        ),
        structure=None
        if structure is None
        else Structure(code=structure.code, scheme=structure.scheme, meaning=structure.meaning),
        default_operating_point=recipe.operating_points.default if recipe.findings else "",
        golden_tolerance=recipe.golden_tolerance,
        provenance={},
        files={},
    )


def versions() -> dict[str, str]:
    """What the outcome of the steps depends on beside their inputs."""
    return {name: metadata.version(name) for name in _VERSIONED}
