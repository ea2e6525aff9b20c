"""INT8 for OpenVINO through NNCF, the weights on the same 7-bit grid as in `onnxruntime_int8`."""

import os
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
from export.quantization.onnxruntime_int8 import matching
from export.recipe import OpenVinoRecipe

SCHEME = (
    "NNCF post-training, activations per tensor, int8 weights per channel within 7 bits (saturation-free without VNNI)"
)
_PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}


def quantize(fp32: Path, int8: Path, images: NDArray[np.float32], recipe: OpenVinoRecipe) -> None:
    """Writes ``int8`` (.xml, .bin beside) made from the ONNX file ``fp32``, calibrated on ``images`` [N, 1, H, W]."""
    model = openvino.Core().read_model(str(fp32))
    # Weights of depthwise convolutions come behind a chain of reshapes, which hides them from NNCF until folded.
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    weights = {op.get_friendly_name(): op.input_value(1).get_node().data.copy() for op in _convolutions(model)}
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(images), lambda image: image[np.newaxis]),
        preset=_PRESETS[recipe.preset],
        subset_size=len(images),
        fast_bias_correction=recipe.fast_bias_correction,
        ignored_scope=nncf.IgnoredScope(names=_in_float(model, recipe.float_convolutions)),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE, disable_bias_correction=not recipe.bias_correction
        ),
    )
    for op in _convolutions(quantized):
        _set_grid(op, weights[op.get_friendly_name()])
    openvino.save_model(quantized, str(int8), compress_to_fp16=False)


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


def _convolutions(model: openvino.Model) -> list[openvino.Node]:
    return [op for op in model.get_ordered_ops() if op.get_type_name() in ("Convolution", "GroupConvolution")]


def _in_float(model: openvino.Model, prefixes: tuple[str, ...]) -> list[str]:
    """Friendly names of the convolutions named by ``prefixes``; OpenVINO splits a biased one in two."""
    split = "/WithoutBiases"
    names = [op.get_friendly_name() for op in _convolutions(model)]
    kept = matching([name.removesuffix(split) for name in names], prefixes)
    return [name for name in names if name.removesuffix(split) in kept]
