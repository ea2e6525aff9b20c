"""INT8 for OpenVINO through NNCF, every layer's weights within 7 bits.

NNCF's ``OverflowFix.ENABLE`` halves the range of the weights for the same reason as in `onnxruntime_int8`: CPUs without
VNNI add products in 16 bits. https://docs.openvino.ai/2025/openvino-workflow/model-optimization-guide.html
"""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# NNCF reports usage over the network unless this is set before it is imported; the export stage reports to nobody.
os.environ.setdefault("NNCF_TELEMETRY", "0")

import nncf
import openvino

from export.quantization.onnxruntime_int8 import matching
from export.recipe import OpenVinoRecipe

SCHEME = "NNCF post-training, activations per tensor, int8 weights per channel within 7 bits (saturation-free without VNNI)"
_PRESETS = {"performance": nncf.QuantizationPreset.PERFORMANCE, "mixed": nncf.QuantizationPreset.MIXED}


def quantize(fp32: Path, int8: Path, images: NDArray[np.float32], recipe: OpenVinoRecipe) -> None:
    """Writes ``int8`` (.xml, with its .bin beside) made from the ONNX file ``fp32``, calibrated on ``images`` [N, 1, H, W]."""
    model = openvino.Core().read_model(str(fp32))
    quantized = nncf.quantize(
        model,
        nncf.Dataset(list(images), lambda image: image[np.newaxis]),
        preset=_PRESETS[recipe.preset],
        subset_size=len(images),
        fast_bias_correction=recipe.fast_bias_correction,
        ignored_scope=nncf.IgnoredScope(names=_in_float(model, recipe.float_convolutions)),
        advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=nncf.OverflowFix.ENABLE),
    )
    _set_weight_grid(quantized)
    openvino.save_model(quantized, str(int8), compress_to_fp16=False)


def _in_float(model: openvino.Model, prefixes: tuple[str, ...]) -> list[str]:
    """Friendly names of the convolutions named by ``prefixes``; OpenVINO splits a biased one in two."""
    split = "/WithoutBiases"
    names = [op.get_friendly_name() for op in model.get_ordered_ops() if "Convolution" in op.get_type_name()]
    kept = matching([name.removesuffix(split) for name in names], prefixes)
    return [name for name in names if name.removesuffix(split) in kept]


def _set_weight_grid(model: openvino.Model) -> None:
    """Gives each convolution's weights the grid of `export.architectures.on_grid`, which NNCF's differs from by 1 %.

    Weights that were trained on the grid are then quantized without any error, and the same in both engines.
    """
    for op in model.get_ordered_ops():
        if op.get_type_name() != "FakeQuantize" or op.input_value(0).get_node().get_type_name() != "Constant":
            continue
        weights = op.input_value(0).get_node().data
        step = np.abs(weights).reshape(weights.shape[0], -1)
        print(op.get_friendly_name(), weights.shape, [op.input_value(k).get_node().data.shape for k in range(1,5)], op.get_attributes(), np.abs(weights).max(), op.input_value(1).get_node().data.ravel()[:2],op.input_value(2).get_node().data.ravel()[:2])
