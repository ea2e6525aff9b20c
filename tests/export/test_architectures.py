from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export import architectures, tracing


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
    network = architectures.build("mobilenet_v2", 1)
    network.load_imagenet(weights / "mobilenet_v2_imagenet.npz")
    image = np.random.default_rng(0).random((1, 1, side, side), dtype=np.float32)
    published = onnxruntime.InferenceSession(_from_the_layer_list(weights).SerializeToString())
    features = published.run(None, {published.get_inputs()[0].name: np.repeat(image * 2 - 1, 3, axis=1)})[0]
    with torch.inference_mode():
        logits, cam, embedding = (output.numpy() for output in network(torch.from_numpy(image)))
    assert np.abs(embedding - features.mean(axis=(2, 3))).max() < 1e-4
    assert cam.shape == (1, 1, side // 32, side // 32)
    assert logits == pytest.approx(cam.mean(axis=(2, 3)) + network.bias.detach().numpy(), abs=1e-5)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, w00=np.zeros((16, 3, 3, 3), np.float32), b00=np.zeros(16, np.float32))
    with pytest.raises(architectures.WeightsError, match="convolution 0 has shape"):
        architectures.build("mobilenet_v2", 1).load_imagenet(wrong)
    with pytest.raises(architectures.WeightsError, match="missing"):
        architectures.build("mobilenet_v2", 1).load_imagenet(tmp_path / "missing.npz")


@pytest.mark.parametrize(("size", "stride", "expected"), [(224, 2, (0, 1)), (113, 2, (1, 1)), (7, 1, (1, 1))])
def test_same_padding_is_tensorflows(size: int, stride: int, expected: tuple[int, int]) -> None:
    assert architectures.same_padding(size, 3, stride) == expected


def test_rounded_weights_lie_on_seven_bits_and_pass_the_gradient() -> None:
    weight = torch.randn(8, 4, 3, 3, requires_grad=True)
    rounded = architectures.on_grid(weight)
    steps = (rounded / architectures.grid_scale(weight)).detach()
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert steps.abs().amax(dim=(1, 2, 3)).round().eq(architectures.GRID_STEPS).all()
    rounded.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.eq(1.0).all()
    again = architectures.on_grid(rounded.detach())
    assert torch.allclose(again, rounded.detach(), atol=1e-6)
    assert architectures.on_grid(torch.zeros(2, 3, 1, 1)).eq(0.0).all()


def test_the_traced_graph_equals_pytorch_and_names_its_parts(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, path = architectures.build("mobilenet_v2", 2), tmp_path / "fp32.onnx"
    tracing.trace(network, 64, path)
    images = np.random.default_rng(0).random((3, 1, 64, 64), dtype=np.float32)
    assert tracing.check_parity(network, path, images) <= tracing.PARITY
    session = onnxruntime.InferenceSession(str(path))
    assert {put.name: put.shape for put in (*session.get_inputs(), *session.get_outputs())} == {
        "image": [1, 1, 64, 64], "logits": [1, 2], "cam": [1, 2, 2, 2], "embedding": [1, 1280],
    }  # fmt: skip
    names = [node.name for node in onnx.load(str(path)).graph.node if node.op_type == "Conv"]
    assert names[0] == "stem"
    assert names[1] == "blocks.0.depthwise"
    assert names[-2:] == ["last", "cam"]


def test_another_networks_graph_fails_parity(tmp_path: Path) -> None:
    path = tmp_path / "fp32.onnx"
    tracing.trace(architectures.build("mobilenet_v2", 1), 64, path)
    image = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)
    with pytest.raises(tracing.ParityError, match="differs from PyTorch"):
        tracing.check_parity(architectures.build("mobilenet_v2", 1), path, image)
