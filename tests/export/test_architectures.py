from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from export import tracing
from export.architectures import (
    GRID_STEPS,
    Ensemble,
    WeightsError,
    load_weights,
    member,
    on_grid,
    rounded_weights,
    snap_weights,
)
from export.architectures.ensemble import relief
from export.architectures.mobilenet_v2 import MobileNetV2Grey, same_padding
from export.recipe import Architecture, MemberRecipe

VIEWS: tuple[tuple[str, Literal["grey", "relief"]], ...] = (("grey", "grey"), ("relief", "relief"))
TRACED: tuple[tuple[Architecture, tuple[str, ...]], ...] = (
    ("mobilenet_v2", ("logits", "cam", "embedding")),
    ("densenet121", ("logits", "cam", "embedding")),
    ("resnet18", ("logits", "cam", "embedding")),
    ("efficientnet_b0", ("logits", "cam", "embedding")),
    ("unet", ("mask",)),
)


def _from_the_layer_list(folder: Path) -> onnx.ModelProto:
    """The network rebuilt from the published layer list: ``SAME_UPPER`` is ONNX's word for TensorFlow's padding."""
    layers = json.loads((folder / "mobilenet_v2_imagenet.json").read_text(encoding="utf-8"))
    nodes, initializers = [], []
    with np.load(folder / "mobilenet_v2_imagenet.npz") as arrays:
        for layer in layers:
            if "add" in layer:
                nodes.append(helper.make_node("Add", [str(read) for read in layer["add"]], [str(layer["writes"])]))
            elif "conv" in layer and layer["kernel"][0] != 1001:
                number, clipped = layer["conv"], layer["activation"] == "relu6"
                names = [f"w{number:02d}", f"b{number:02d}"]
                initializers += [numpy_helper.from_array(arrays[name], name) for name in names]
                written = f"{layer['writes']}-raw" if clipped else str(layer["writes"])
                options = {"auto_pad": "SAME_UPPER", "group": layer["groups"], "strides": [layer["stride"]] * 2}
                nodes.append(helper.make_node("Conv", [str(layer["reads"]), *names], [written], **options))
                if clipped:
                    nodes.append(helper.make_node("Clip", [written, "zero", "six"], [str(layer["writes"])]))
    initializers += [numpy_helper.from_array(np.float32(value), name) for name, value in (("zero", 0), ("six", 6))]
    last = next(layer["reads"] for layer in layers if "global_average_pool" in layer)
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info(str(layers[0]["reads"]), TensorProto.FLOAT, [1, 3, None, None])],
        [helper.make_tensor_value_info(str(last), TensorProto.FLOAT, None)],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize("side", [224, 96])
def test_the_loaded_network_is_the_published_one_on_grey(shared: Path, side: int) -> None:
    weights = shared / "data/weights"
    network = MobileNetV2Grey(1)
    load_weights(network, weights / "mobilenet_v2_imagenet.npz")
    image = np.random.default_rng(0).random((1, 1, side, side), dtype=np.float32)
    published = onnxruntime.InferenceSession(_from_the_layer_list(weights).SerializeToString())
    features = published.run(None, {published.get_inputs()[0].name: np.repeat(image * 2 - 1, 3, axis=1)})[0]
    with torch.no_grad():
        network.head.weight.normal_()
        expected = torch.nn.functional.conv2d(torch.from_numpy(features), network.head.weight)
        logits, cam, embedding = network(torch.from_numpy(image))
    assert torch.allclose(cam, expected, atol=1e-3)
    assert cam.shape == (1, 1, side // 32, side // 32)
    assert torch.allclose(logits, cam.mean(dim=(2, 3)) + network.bias, atol=1e-5)
    assert embedding.shape == (1, 576)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, w00=np.zeros((16, 3, 3, 3), np.float32), b00=np.zeros(16, np.float32))
    with pytest.raises(WeightsError, match="convolution 0 has shape"):
        load_weights(MobileNetV2Grey(1), wrong)
    with pytest.raises(WeightsError, match="missing"):
        load_weights(MobileNetV2Grey(1), tmp_path / "missing.npz")
    with pytest.raises(WeightsError, match="do not fit UNet"):
        load_weights(member(_member("unet"), 0).network, wrong)


def test_any_state_dict_whose_layers_fit_is_a_start(tmp_path: Path) -> None:
    torch.manual_seed(1)
    given, path = member(_member("resnet18"), 3).network, tmp_path / "given.pt"
    torch.save({"state_dict": {f"module.{name}": value for name, value in given.state_dict().items()}}, path)
    network = member(_member("resnet18"), 1).network
    head = network.get_parameter("head.weight").clone()
    load_weights(network, path)
    assert torch.equal(network.get_parameter("backbone.0.weight"), given.get_parameter("backbone.0.weight"))
    assert torch.equal(network.get_parameter("head.weight"), head)
    with pytest.raises(WeightsError, match=r"layer .* is missing"):
        load_weights(member(_member("densenet121"), 1).network, path)
    path.write_bytes(b"no tensors here")
    with pytest.raises(WeightsError, match="no readable state dict"):
        load_weights(network, path)


@pytest.mark.parametrize(("size", "stride", "expected"), [(224, 2, (0, 1)), (113, 2, (1, 1)), (7, 1, (1, 1))])
def test_same_padding_is_tensorflows(size: int, stride: int, expected: tuple[int, int]) -> None:
    assert same_padding(size, 3, stride) == expected


def test_rounded_weights_lie_on_seven_bits_and_pass_the_gradient() -> None:
    weight = torch.randn(8, 4, 3, 3, requires_grad=True)
    rounded = on_grid(weight)
    steps = (rounded / (weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True) / GRID_STEPS)).detach()
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert steps.abs().amax(dim=(1, 2, 3)).round().eq(GRID_STEPS).all()
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.eq(1.0).all()
    again = on_grid(rounded.detach())
    assert torch.allclose(again, rounded.detach(), atol=1e-6)
    assert on_grid(torch.zeros(2, 3, 1, 1)).eq(0.0).all()


def test_only_the_head_keeps_exact_weights() -> None:
    network = member(_member("mobilenet_v2"), 1)
    rounded = rounded_weights(network)
    named = {f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv2d)}
    assert named - set(rounded) == {"network.head.weight"}
    snap_weights(network)
    for name, weight in rounded.items():
        assert torch.allclose(network.get_parameter(name), weight, atol=1e-7)


def test_relief_ignores_exposure_and_keeps_edges() -> None:
    image = torch.rand(1, 1, 64, 64) * 0.2 + 0.2
    image[:, :, :, 32:] += 0.3
    darker = relief(image * 0.8)
    assert float((relief(image) - darker).abs().mean()) < 0.02
    step = relief(image)[0, 0, 32]
    assert float(step[33:40].mean() - step[24:31].mean()) > 0.1
    assert 0.0 <= float(darker.min()) <= float(darker.max()) <= 1.0


def test_an_ensemble_answers_with_the_mean_of_its_members() -> None:
    torch.manual_seed(2)
    members = [(name, member(_member("mobilenet_v2", view), 2).eval()) for name, view in VIEWS]
    image = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        alone = [network(image) for _, network in members]
        logits, cam, embedding = Ensemble(members).eval()(image)
    assert torch.allclose(logits, (alone[0][0] + alone[1][0]) / 2, atol=1e-6)
    assert torch.allclose(cam, (alone[0][1] + alone[1][1]) / 2, atol=1e-6)
    assert torch.equal(embedding, alone[0][2])


@pytest.mark.parametrize(("architecture", "outputs"), TRACED)
def test_every_network_traces_to_an_equal_graph(
    architecture: Architecture, outputs: tuple[str, ...], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network, path = Ensemble([("grey", member(_member(architecture), 2).eval())]), tmp_path / "fp32.onnx"
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):  # as after training: folding them must show
            torch.nn.init.normal_(cast("Tensor", layer.running_mean), std=0.1)
            torch.nn.init.uniform_(cast("Tensor", layer.running_var), 0.8, 1.2)
    tracing.trace(network, outputs, 64, path)
    images = np.random.default_rng(0).random((2, 1, 64, 64), dtype=np.float32)
    assert tracing.check_parity(network, outputs, path, images) <= tracing.PARITY
    graph = onnx.load(str(path)).graph
    assert [put.name for put in graph.output] == list(outputs)
    assert all(dim.dim_value > 0 for put in (*graph.input, *graph.output) for dim in put.type.tensor_type.shape.dim)
    behind_convolutions = {node.output[0] for node in graph.node if node.op_type == "Conv"}
    assert not [n for n in graph.node if n.op_type == "BatchNormalization" and n.input[0] in behind_convolutions]
    names = [node.name for node in graph.node if node.op_type == "Conv"]
    assert all(name == "cam" or name.startswith("grey.network.") for name in names)


def test_another_networks_graph_fails_parity(tmp_path: Path) -> None:
    path, outputs = tmp_path / "fp32.onnx", ("logits", "cam", "embedding")
    tracing.trace(MobileNetV2Grey(1), outputs, 64, path)
    image = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)
    with pytest.raises(tracing.ParityError, match="differs from PyTorch"):
        tracing.check_parity(MobileNetV2Grey(1), outputs, path, image)


def _member(architecture: Architecture, view: Literal["grey", "relief"] = "grey") -> MemberRecipe:
    return MemberRecipe(name="grey", architecture=architecture, view=view)
