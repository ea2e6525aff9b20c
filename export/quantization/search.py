"""From one FP32 graph to the INT8 models of both engines, leaving in float what validation shows to be sensitive."""

import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
import onnx

from edge.inference.bundle import ONNX_FILE, OPENVINO_FILE, SealedBundle
from edge.inference.engines import ENGINES, Outputs
from export.architectures.grid import HEAD
from export.quantization import onnxruntime_int8, openvino_int8, qdq
from export.quantization.onnxruntime_int8 import matching
from export.quantization.running import Pixels, run_engine, run_graph
from export.recipe import QuantizationRecipe
from export.steps import Report

Accept = Callable[[Mapping[str, Outputs]], Sequence[str]]
"""Given every engine's outputs on the validation images, what they miss of the gate, in words; nothing when fine."""
Judged = Literal["logits", "mask"]
"""The output that decides the answer, and whose shift is watched."""

_RANKING_IMAGES = 16


class Shift(msgspec.Struct, frozen=True, kw_only=True):
    """How far logits (or mask) lie from FP32 on the validation images, absolute."""

    mean: float
    largest: float


class Tried(msgspec.Struct, frozen=True, kw_only=True):
    """A calibrator of ONNX Runtime and what came of it."""

    calibrator: str
    shift: Shift
    seconds: float


class Sensitivity(msgspec.Struct, frozen=True, kw_only=True):
    """What quantizing one convolution alone costs."""

    convolution: str
    mean_shift: float


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Both INT8 models with some convolutions left in float."""

    left_in_float: tuple[str, ...]
    """By the search, the most sensitive one first."""
    shifts: dict[str, Shift]
    """By engine."""
    misses: tuple[str, ...]
    """What validation misses of the gate, in words."""


class Quantization(msgspec.Struct, frozen=True, kw_only=True):
    """What was tried and kept."""

    calibrators: tuple[Tried, ...]
    kept_calibrator: str
    always_in_float: dict[str, tuple[str, ...]]
    """By engine: the heads, and what the recipe names; what they read stays quantized."""
    ranking: tuple[Sensitivity, ...]
    """The most sensitive convolution first; empty where no search was needed."""
    rounds: tuple[Round, ...]
    """The last one is what was kept."""
    calibration_images: int
    validation_images: int

    @property
    def left_in_float(self) -> tuple[str, ...]:
        """The convolutions that the search left in float."""
        return self.rounds[-1].left_in_float


class _Work(msgspec.Struct, frozen=True, kw_only=True):
    """What all steps share."""

    prepared: Path
    fp32: onnx.ModelProto
    sealed: SealedBundle
    calibration: Pixels
    validation: Pixels
    reference: Outputs
    judged: Judged
    recipe: QuantizationRecipe
    report: Report


def quantize(
    fp32: Path,
    sealed: SealedBundle,
    *,
    calibration: Pixels,
    validation: Pixels,
    accept: Accept,
    recipe: QuantizationRecipe,
    report: Report,
) -> Quantization:
    """Writes the INT8 models of both engines into the bundle's folder.

    The calibrator of ONNX Runtime whose logits (or mask) move least from FP32 on validation images is kept. While an
    engine misses the gate there, the convolution that costs most when it alone is quantized is left in float in both
    engines, up to ``recipe.search`` of them. Whether the last models do is for the gate to say.

    Args:
        fp32: The traced ONNX graph.
        sealed: The draft of the bundle, unsealed: its folder is written to, its outputs are what the engines load.
        calibration: Images uint8 [N, H, W] for the ranges, used for nothing else; may be a memory map.
        validation: Images uint8 [M, H, W] for the choices made here.
        accept: Judges the outputs on the validation images, for example with `export.gate.drops`.
        recipe: Calibrators, engine options and depth of the search.
        report: Told about each step.

    Raises:
        RecipeError: ``float_convolutions`` names none.
    """
    (sealed.folder / OPENVINO_FILE).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        onnxruntime_int8.prepare(fp32, prepared)
        model = onnx.load(str(prepared))
        work = _Work(
            prepared=prepared,
            fp32=model,
            sealed=sealed,
            calibration=calibration,
            validation=validation,
            reference=run_graph(model, validation),
            judged="mask" if "mask" in sealed.bundle.outputs else "logits",
            recipe=recipe,
            report=report,
        )
        always = _always_in_float(work)
        tried, qdq_model = _best_calibrator(work, always["onnxruntime"])
        ranking: tuple[Sensitivity, ...] = ()
        rounds = [_round(work, qdq_model, always, (), accept)]
        while rounds[-1].misses and len(rounds) <= recipe.search:
            ranking = ranking or _ranked(work, qdq_model, always)
            left = tuple(each.convolution for each in ranking[: len(rounds)])
            if len(left) < len(rounds):
                break  # everything is in float already
            rounds.append(_round(work, qdq_model, always, left, accept))
    return Quantization(
        calibrators=tuple(tried),
        kept_calibrator=min(tried, key=lambda each: each.shift.mean).calibrator,
        always_in_float=always,
        ranking=ranking,
        rounds=tuple(rounds),
        calibration_images=len(calibration),
        validation_images=len(validation),
    )


def shift(outputs: Outputs, reference: Outputs, judged: Judged) -> Shift:
    """How far the judged output lies from FP32."""
    distance = np.abs(outputs[judged] - reference[judged])
    return Shift(mean=float(distance.mean()), largest=float(distance.max()))


def _always_in_float(work: _Work) -> dict[str, tuple[str, ...]]:
    """By engine: heads cost next to nothing in float and keep small differences; the recipe may name more."""
    names = qdq.convolutions(work.fp32)
    outputs = set(work.sealed.bundle.outputs.values())
    heads = {name for name in names if name.rsplit(".", 1)[-1] == HEAD or name in outputs}
    prefixes = {
        "onnxruntime": work.recipe.onnxruntime.float_convolutions,
        "openvino": work.recipe.openvino.float_convolutions,
    }
    return {
        engine: tuple(name for name in names if name in heads or name in matching(names, prefixes[engine]))
        for engine in ENGINES
    }


def _best_calibrator(work: _Work, in_float: Collection[str]) -> tuple[list[Tried], onnx.ModelProto]:
    """Every calibrator's figures, and the QDQ model of the best one with ``in_float`` in float."""
    how = work.recipe.onnxruntime
    tried: list[Tried] = []
    best = None
    for calibrator in how.calibrators:
        started = time.monotonic()
        ranges = onnxruntime_int8.activation_ranges(work.prepared, work.calibration, calibrator, how.percentile)
        model = onnxruntime_int8.quantize(work.prepared, ranges)
        model = qdq.leave_float(model, work.fp32, in_float, inputs=False)
        found = shift(run_graph(model, work.validation), work.reference, work.judged)
        tried.append(Tried(calibrator=calibrator, shift=found, seconds=time.monotonic() - started))
        work.report(f"ONNX Runtime, {calibrator} on {len(work.calibration)} images: {_in_words(found)}")
        if found.mean <= min(each.shift.mean for each in tried):
            best = model
    if best is None:
        raise ValueError("every calibrator gave outputs that are not numbers; look at the FP32 graph's outputs")
    return tried, best


def _round(
    work: _Work,
    model: onnx.ModelProto,
    always: Mapping[str, Collection[str]],
    left: tuple[str, ...],
    accept: Accept,
) -> Round:
    """Writes both models with ``left`` in float, and judges them through the device's own engines."""
    folder = work.sealed.folder
    onnx.save(qdq.leave_float(model, work.fp32, left, inputs=True), str(folder / ONNX_FILE))
    openvino_int8.quantize(
        work.prepared,
        folder / OPENVINO_FILE,
        work.calibration,
        work.recipe.openvino,
        {*always["openvino"], *left},
    )
    answers = {engine: run_engine(engine, work.sealed, work.validation) for engine in ENGINES}
    done = Round(
        left_in_float=left,
        shifts={engine: shift(given, work.reference, work.judged) for engine, given in answers.items()},
        misses=tuple(accept(answers)),
    )
    figures = "; ".join(f"{engine}: {_in_words(done.shifts[engine])}" for engine in ENGINES)
    missed = f"misses {'; '.join(done.misses)}" if done.misses else "meets the gate on validation"
    work.report(f"{len(left)} convolutions left in float by the search: {figures}; {missed}")
    return done


def _ranked(work: _Work, model: onnx.ModelProto, always: Mapping[str, Collection[str]]) -> tuple[Sensitivity, ...]:
    """Every convolution that is quantized in some engine, by the shift that it causes when quantized alone."""
    places = np.linspace(0, len(work.validation) - 1, min(_RANKING_IMAGES, len(work.validation))).astype(int)
    pixels = work.validation[places]
    reference: Outputs = {work.judged: work.reference[work.judged][places]}
    in_float = set(always["onnxruntime"]) & set(always["openvino"])
    names = [name for name in qdq.convolutions(work.fp32) if name not in in_float]
    found: list[Sensitivity] = []
    started = time.monotonic()
    for number, name in enumerate(names, start=1):
        outputs = run_graph(qdq.quantized_alone(work.fp32, model, name), pixels)
        found.append(Sensitivity(convolution=name, mean_shift=shift(outputs, reference, work.judged).mean))
        if number % 20 == 0:
            left = (time.monotonic() - started) / number * (len(names) - number)
            work.report(f"sensitivity: {number} of {len(names)} convolutions, {left:.0f} s left")
    return tuple(sorted(found, key=lambda each: -each.mean_shift))


def _in_words(found: Shift) -> str:
    return f"shift from FP32 {found.mean:.4f} on average, {found.largest:.3f} at most"
