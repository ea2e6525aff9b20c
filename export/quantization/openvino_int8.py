"""INT8 for OpenVINO through NNCF, the weights on the same 7-bit grid as in `onnxruntime_int8`."""

import logging
import os
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# NNCF reports usage over the network unless this is set before it is imported; the export stage reports to nobody.
os.environ.setdefault("NNCF_TELEMETRY", "0")

import nncf
import openvino
from openvino import opset13
from openvino.passes import ConstantFolding, Manager

from export.architectures import GRID_STEPS
from export.datasets import to_input
from export.quantization.running import Pixels
from export.recipe import OpenVinoRecipe

nncf.set_log_level(logging.ERROR)  # it lists every node that is left in float

SCHEME = (
    "NNCF post-training, activations per tensor, int8 weights per channel within 7 bits (saturation-free without VNNI)"
)
_PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}
_BIASED = "/WithoutBiases"
"""OpenVINO splits a convolution with a bias in two; this is how it calls the first half."""


def quantize(
    prepared: Path, int8: Path, calibration: Pixels, recipe: OpenVinoRecipe, in_float: Collection[str]
) -> None:
    """Writes ``int8`` (.xml, .bin beside) made from the ONNX file ``prepared``.

    Args:
        prepared: From `export.quantization.onnxruntime_int8.prepare`, so that both engines see the same weights.
        int8: The .xml to write.
        calibration: Images uint8 [N, H, W], read one at a time; may be a memory map.
        recipe: Preset and bias correction.
        in_float: The convolutions that stay in float.
    """
    model = openvino.Core().read_model(str(prepared))
    # Weights of depthwise convolutions come behind a chain of reshapes, which hides them from NNCF until folded.
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    weights = {op.get_friendly_name(): op.input_value(1).get_node().data.copy() for op in _convolutions(model)}
    kept = [name for name in weights if name.removesuffix(_BIASED) in in_float]
    quantized = nncf.quantize(
        model,
        nncf.Dataset(range(len(calibration)), lambda place: to_input(calibration[place : place + 1])),
        preset=_PRESETS[recipe.preset],
        subset_size=len(calibration),
        fast_bias_correction=recipe.fast_bias_correction,
        ignored_scope=nncf.IgnoredScope(names=[*kept, *_around_convolutions(model)]),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE, disable_bias_correction=not recipe.bias_correction
        ),
    )
    for op in _convolutions(quantized):
        _set_grid(op, weights[op.get_friendly_name()])
    openvino.save_model(quantized, str(int8), compress_to_fp16=False)


def weight_integers(int8: Path) -> dict[str, NDArray[np.generic]]:
    """The quantized weights of the convolutions and matrix products of an IR file, by node name."""
    found = {}
    for op in openvino.Core().read_model(str(int8)).get_ordered_ops():
        if op.get_type_name() in (*_CONVOLUTIONS, "MatMul"):
            node = op.input_value(1).get_node()
            while node.get_type_name() != "Constant" and node.get_input_size() > 0:
                node = node.input_value(0).get_node()
            if node.get_type_name() == "Constant" and node.data.dtype.kind in "iu":
                found[op.get_friendly_name().removesuffix(_BIASED)] = node.data.copy()
    return found


def _set_grid(convolution: openvino.Node, weights: NDArray[np.float32]) -> None:
    """Puts the weights on the grid of `export.architectures.on_grid`, from which NNCF's step differs by a little.

    Weights that were trained on the grid then lose nothing, and are the same integers in both engines.
    """
    multiply = convolution.input_value(1).get_node()
    if multiply.get_type_name() == "Constant":
        return  # left in float
    convert = multiply.input_value(0).get_node()
    largest = np.abs(weights).max(axis=tuple(range(_channel_axes(weights), weights.ndim)), keepdims=True)
    step = np.maximum(largest, 1e-12) / GRID_STEPS
    steps = np.rint(weights / step).astype(np.int8)
    convert.input(0).replace_source_output(opset13.constant(steps).output(0))
    multiply.input(1).replace_source_output(opset13.constant(step.astype(np.float32)).output(0))


def _channel_axes(weights: NDArray[np.float32]) -> int:
    """How many leading axes count output channels: [out, in, h, w], or [groups, out, in, h, w]."""
    return weights.ndim - 3


_CONVOLUTIONS = ("Convolution", "GroupConvolution")


def _around_convolutions(model: openvino.Model) -> list[str]:
    """The nodes that no convolution stands before, or none behind: the views of the image and the means of the answers.

    They cost no time, and 8 bits lose their small differences: NNCF clipped all negative logits to zero there.
    """
    ordered = [op for op in model.get_ordered_ops() if op.get_type_name() not in ("Constant", "Parameter", "Result")]
    behind = _reached(ordered, lambda op: [value.get_source_output().get_node() for value in op.inputs()])
    ahead = _reached(
        ordered[::-1], lambda op: [to.get_node() for value in op.outputs() for to in value.get_target_inputs()]
    )
    names = [op.get_friendly_name() for op in ordered if op.get_type_name() not in _CONVOLUTIONS]
    return [name for name in names if name not in behind or name not in ahead]


def _reached(
    ordered: Sequence[openvino.Node], neighbours: Callable[[openvino.Node], Sequence[openvino.Node]]
) -> set[str]:
    """The nodes with a convolution among their neighbours, or among those of these."""
    found: set[str] = set()
    for op in ordered:
        if any(each.get_type_name() in _CONVOLUTIONS or each.get_friendly_name() in found for each in neighbours(op)):
            found.add(op.get_friendly_name())
    return found


def _convolutions(model: openvino.Model) -> list[openvino.Node]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() in _CONVOLUTIONS]
