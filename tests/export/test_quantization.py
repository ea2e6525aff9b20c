from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor, nn

from edge.inference.bundle import (
    ONNX_FILE,
    OPENVINO_FILE,
    Accepts,
    Bundle,
    FindingSpec,
    Input,
    OperatingPoint,
    SealedBundle,
    Threshold,
    find_bundles,
)
from edge.inference.engines import ENGINES, Outputs
from export import gate, latency, tracing
from export.architectures.grid import GRID_STEPS, on_grid, snap_weights
from export.document import markdown
from export.quantization import onnxruntime_int8, openvino_int8, qdq
from export.quantization.instruction_set import CAP, CappedRunError, capped_shifts, run_capped
from export.quantization.integers import largest_pair_sum
from export.quantization.onnxruntime_int8 import matching
from export.quantization.running import run_engine, run_graph
from export.quantization.search import Quantization, quantize
from export.quantization.section import quantization_section
from export.recipe import GateRecipe, OnnxRuntimeRecipe, OpenVinoRecipe, QuantizationRecipe, RecipeError
from tests.conftest import ROOT

BUNDLES = find_bundles(ROOT / "models")
NAMES = ("stem", "blocks.1.expand", "blocks.1.project", "blocks.11.expand", "cam")
OUTPUTS = ("logits", "cam", "embedding")
SIDE, CHANNELS = 32, 16
FINDING = FindingSpec(code="1", scheme="SCT", meaning="Bright", temperature=1.0)
AT_HALF = OperatingPoint(
    id="balanced", description="", thresholds=(Threshold(code="1", indeterminate_from=0.5, flagged_from=0.5),)
)
# Networks of a few microseconds gain nothing from INT8; what is judged here is the answers.
GATE = GateRecipe(faster_than_fp32=0.0, min_auroc=0.9, min_sensitivity=0.8, min_specificity=0.8)


_KERNELS = """
import sys, openvino
compiled = openvino.Core().compile_model(sys.argv[1], "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
print(*(op.get_rt_info()["primitiveType"].astype(str) for op in compiled.get_runtime_model().get_ordered_ops()))
"""


class Small(nn.Module):
    """Stem, depthwise, pointwise, head: answers whether a disc is bright."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
        self.pointwise = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.head = nn.Conv2d(CHANNELS, 1, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = torch.relu(self.depthwise(torch.relu(self.stem(image * 2.0 - 1.0))))
        features = torch.relu(self.pointwise(features))
        cam = self.head(features)
        return cam.mean(dim=(2, 3)) + self.bias, cam, features.mean(dim=(2, 3))


def discs(count: int, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Images [N, H, W] with a disc, and whether it is bright; the background's grey says nothing."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = (y - SIDE / 2) ** 2 + (x - SIDE / 2) ** 2 < (SIDE / 3) ** 2
    bright = np.arange(count) % 2 == 1
    ground = random.uniform(20, 80, (count, 1, 1)) + random.normal(0, 6, (count, SIDE, SIDE))
    disc = np.where(bright, random.uniform(90, 120, count), random.uniform(0, 30, count))[:, None, None]
    return np.clip(ground + disc * inside, 0, 255).astype(np.uint8), bright


CALIBRATION, _ = discs(32, seed=1)
VALIDATION, BRIGHT = discs(200, seed=2)
TEST, TEST_BRIGHT = discs(200, seed=3)


def trained() -> Small:
    """Random layers on the grid of the quantizers under a head fitted by ridge regression."""
    torch.manual_seed(0)
    network = Small().eval()
    snap_weights(network)
    pixels, bright = discs(400, seed=4)
    with torch.inference_mode():
        features = network(torch.from_numpy(pixels[:, None].astype(np.float32) / 255))[2].numpy().astype(float)
    centre, wanted = features.mean(axis=0), np.where(bright, 3.0, -3.0)
    spread = (features - centre).T @ (features - centre)
    ridge = 0.01 * np.trace(spread) / CHANNELS * np.eye(CHANNELS)
    weights = np.linalg.solve(spread + ridge, (features - centre).T @ wanted)
    with torch.no_grad():
        network.head.weight.copy_(torch.from_numpy(weights.astype(np.float32)).reshape(1, -1, 1, 1))
        network.bias.fill_(float(-centre @ weights))
    return network


def fragile() -> Small:
    """Computes what `trained` computes; one channel behind the depthwise layer ranges over 1000 times the others."""
    network = trained()
    with torch.no_grad():
        network.stem.weight[0] *= 1000
        cast("Tensor", network.stem.bias)[0] *= 1000
        cast("Tensor", network.depthwise.bias)[0] *= 1000
        network.pointwise.weight[:, 0] /= 1000
    return network


def traced(network: nn.Module, folder: Path) -> Path:
    path = folder / "fp32.onnx"
    tracing.trace(network, OUTPUTS, SIDE, path)
    return path


@pytest.fixture(scope="module")
def robust_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traced(trained(), tmp_path_factory.mktemp("robust"))


@pytest.fixture(scope="module")
def fragile_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return traced(fragile(), tmp_path_factory.mktemp("fragile"))


def draft(folder: Path) -> SealedBundle:
    bundle = Bundle(
        id="small",
        version="1",
        task="classification",
        title="",
        intended_use="",
        not_looked_for="",
        accepts=Accepts(modalities=(), body_parts=(), views=(), age_years=(0, 1)),
        input=Input(name=tracing.INPUT_NAME, height=SIDE, width=SIDE),
        outputs={"logits": "logits", "cam": "cam", "embedding": "embedding"},
        golden_tolerance={},
        provenance={},
        files={},
    )
    return SealedBundle(folder=folder, bundle=bundle, digest="")


def answers(outputs: Mapping[str, Outputs], reference: Outputs, positive: NDArray[np.bool_]) -> gate.Answers:
    return gate.Answers(
        findings=(FINDING,),
        points=(AT_HALF,),
        default_point="balanced",
        positive=positive[:, None],
        reference=reference["logits"],
        engines={engine: given["logits"] for engine, given in outputs.items()},
    )


def quantized(graph: Path, folder: Path, search: int) -> tuple[SealedBundle, Quantization]:
    """Both models made from ``graph``, judged by the gate's drops on the validation images."""
    sealed, said = draft(folder), list[str]()
    reference = run_graph(onnx.load(str(graph)), VALIDATION)
    done = quantize(
        graph,
        sealed,
        calibration=CALIBRATION,
        validation=VALIDATION,
        accept=lambda outputs: gate.misses(gate.drops(answers(outputs, reference, BRIGHT), GATE)),
        recipe=QuantizationRecipe(
            onnxruntime=OnnxRuntimeRecipe(calibrators=("minmax", "percentile")),
            openvino=OpenVinoRecipe(bias_correction=False),
            search=search,
        ),
        report=said.append,
    )
    assert len(said) >= len(done.rounds) + len(done.calibrators)
    return sealed, done


def judged(graph: Path, sealed: SealedBundle) -> Sequence[gate.Check]:
    """The whole gate on the test images, everything measured."""
    fp32 = onnx.load(str(graph))
    outputs = {engine: run_engine(engine, sealed, TEST) for engine in ENGINES}
    found = gate.Evidence(
        answers=answers(outputs, run_graph(fp32, TEST), TEST_BRIGHT),
        speedups={each.engine: each.speedup for each in latency.measure(sealed, fp32)},
        capped_shifts={"openvino": capped_shifts("openvino", sealed, VALIDATION[:20])},
        pair_sums={
            "onnxruntime": largest_pair_sum(qdq.weight_integers(onnx.load(str(sealed.folder / ONNX_FILE)))),
            "openvino": largest_pair_sum(openvino_int8.weight_integers(sealed.folder / OPENVINO_FILE)),
        },
    )
    return gate.check(found, GATE)


def test_a_robust_network_passes_the_gate(robust_graph: Path, tmp_path: Path) -> None:
    sealed, done = quantized(robust_graph, tmp_path, search=0)
    gate.refuse_misses(judged(robust_graph, sealed))
    assert done.left_in_float == ()
    assert {each.calibrator for each in done.calibrators} == {"minmax", "percentile"}
    assert done.kept_calibrator == min(done.calibrators, key=lambda each: each.shift.mean).calibrator
    assert all(names == ("cam",) for names in done.always_in_float.values())
    assert "Gate" in markdown("Report", [gate.gate_section(judged(robust_graph, sealed)), quantization_section(done)])
    assert msgspec.json.decode(msgspec.json.encode(done), type=Quantization) == done


def test_a_fragile_network_is_refused(fragile_graph: Path, tmp_path: Path) -> None:
    sealed, done = quantized(fragile_graph, tmp_path, search=0)
    assert done.rounds[-1].misses
    with pytest.raises(gate.GateRefusal, match="decision_flips"):
        gate.refuse_misses(judged(fragile_graph, sealed))


def test_the_search_leaves_the_sensitive_convolutions_in_float_until_the_gate_is_met(
    fragile_graph: Path, tmp_path: Path
) -> None:
    sealed, done = quantized(fragile_graph, tmp_path, search=3)
    assert not done.rounds[-1].misses
    assert all(each.misses for each in done.rounds[:-1])
    assert set(done.left_in_float) >= {"pointwise"}
    assert len(done.ranking) == 3
    gate.refuse_misses(judged(fragile_graph, sealed))
    inside = {*qdq.weight_integers(onnx.load(str(sealed.folder / ONNX_FILE)))}
    assert inside == {*openvino_int8.weight_integers(sealed.folder / OPENVINO_FILE)}
    assert inside.isdisjoint(done.left_in_float)


def test_chunks_see_the_same_ranges_as_all_images_at_once(
    robust_graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = tmp_path / "prepared.onnx"
    onnxruntime_int8.prepare(robust_graph, prepared)

    def ranges() -> dict[str, tuple[float, float]]:
        found = onnxruntime_int8.activation_ranges(prepared, CALIBRATION, "minmax", 99.99).data
        return {name: (each.range_value[0].item(), each.range_value[1].item()) for name, each in found.items()}

    chunked = ranges()
    monkeypatch.setattr(onnxruntime_int8, "_CHUNK", len(CALIBRATION))
    assert chunked == ranges()


@pytest.fixture(scope="module")
def pair(
    robust_graph: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[onnx.ModelProto, onnx.ModelProto]]:
    """The prepared FP32 graph and its fully quantized form."""
    prepared = tmp_path_factory.mktemp("pair") / "prepared.onnx"
    onnxruntime_int8.prepare(robust_graph, prepared)
    ranges = onnxruntime_int8.activation_ranges(prepared, CALIBRATION, "minmax", 99.99)
    yield onnx.load(str(prepared)), onnxruntime_int8.quantize(prepared, ranges)


def test_taking_every_pair_out_gives_the_network_with_rounded_weights(
    pair: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    fp32, int8 = pair
    plain = qdq.dequantized(int8)
    onnx.checker.check_model(plain, full_check=True)
    assert not {node.op_type for node in plain.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    assert qdq.convolutions(plain) == qdq.convolutions(fp32)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(fp32)
    inputs = {node.input[1] for node in fp32.graph.node if node.op_type == "Conv"}
    for each in rounded.graph.initializer:
        if each.name in inputs:
            on_its_grid = on_grid(torch.from_numpy(numpy_helper.to_array(each).copy())).numpy()
            each.CopyFrom(numpy_helper.from_array(on_its_grid, each.name))
    exact = run_graph(fp32, VALIDATION)["logits"]
    expected = run_graph(rounded, VALIDATION)["logits"]
    assert np.abs(expected - exact).max() > 0.05  # the head is not on the grid by itself
    assert np.allclose(run_graph(plain, VALIDATION)["logits"], expected, atol=0.01)  # biases have 32 bits, not 24
    everything = qdq.leave_float(int8, fp32, qdq.convolutions(fp32), inputs=True)
    assert np.allclose(run_graph(everything, VALIDATION)["logits"], exact, atol=1e-4)


def test_one_convolution_quantized_alone_moves_the_outputs_less_than_all(
    pair: tuple[onnx.ModelProto, onnx.ModelProto],
) -> None:
    fp32, int8 = pair
    exact = run_graph(fp32, VALIDATION)["logits"]

    def moved(model: onnx.ModelProto) -> float:
        return float(np.abs(run_graph(model, VALIDATION)["logits"] - exact).mean())

    alone = [moved(qdq.quantized_alone(fp32, int8, name)) for name in qdq.convolutions(fp32)]
    assert all(0 < each < 2 * moved(int8) for each in alone)


def test_a_capped_process_gives_nearly_the_same_answers(robust_graph: Path, tmp_path: Path) -> None:
    sealed, _ = quantized(robust_graph, tmp_path, search=0)
    shifts = capped_shifts("openvino", sealed, VALIDATION[:10])
    assert shifts.keys() == set(OUTPUTS)
    assert max(shifts.values()) < GATE.capped_shift
    kernels = subprocess.run(
        [sys.executable, "-c", _KERNELS, str(sealed.folder / OPENVINO_FILE)],
        env={**os.environ, **CAP},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    convolutions = {each for each in kernels if each.endswith("_I8") and each.startswith(("brgconv", "jit_avx2"))}
    assert convolutions
    assert all("avx2" in each for each in convolutions)


def test_a_capped_process_that_fails_says_so_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(CappedRunError, match="openvino capped at AVX2 ended with 1: ") as refusal:
        run_capped("openvino", draft(tmp_path), VALIDATION[:1])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("weights", "largest"),
    [
        ({}, 0),
        ({"a": [[64, -64]], "b": [[1, 2]]}, 32_640),
        ({"a": [[127, 3]]}, 255 * 130),
        ({"a": [[-128, -128]]}, 255 * 256),
    ],
)
def test_the_proof_adds_the_two_largest_weights(weights: dict[str, list[list[int]]], largest: int) -> None:
    assert largest_pair_sum({name: np.array(each, dtype=np.int8) for name, each in weights.items()}) == largest


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.parent.name)
def test_both_engines_compute_with_the_same_integers_that_cannot_saturate(folder: Path) -> None:
    """Two products of an unsigned activation and a weight of at most 64 steps fit into 16 bits, whatever the image."""
    ours = qdq.weight_integers(onnx.load(str(folder / ONNX_FILE)))
    theirs = openvino_int8.weight_integers(folder / OPENVINO_FILE)
    assert len(ours) >= 20
    assert ours.keys() == theirs.keys()
    for name, integers in ours.items():
        assert np.array_equal(integers.ravel(), theirs[name].ravel()), name
    assert largest_pair_sum(ours) <= 2 * 255 * GRID_STEPS


def test_a_prefix_names_whole_parts_of_the_module_path() -> None:
    assert matching(NAMES, ("blocks.1", "cam")) == ("blocks.1.expand", "blocks.1.project", "cam")
    assert matching(NAMES, ()) == ()
    with pytest.raises(RecipeError, match="'block' names no convolution"):
        matching(NAMES, ("block",))
