"""INT8 for ONNX Runtime: static QDQ, unsigned activations, signed 7-bit weights per channel.

Why 7 bits: on x86 without VNNI, ONNX Runtime multiplies with ``vpmaddubsw``, which adds two products of unsigned
activation and signed weight in 16 bits and saturates: 2 * 255 * 127 = 64,770 does not fit below 32,767. With weights
within -64..63 the worst sum is 2 * 255 * 64 = 32,640, so no sum can saturate, and a clinic's older CPU computes the
same integers as a new one. https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.recipe import OnnxRuntimeRecipe, RecipeError
from export.tracing import INPUT_NAME

SCHEME = (
    "static QDQ, uint8 activations per tensor, int8 weights per channel within 7 bits (saturation-free without VNNI)"
)
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}


def quantize(fp32: Path, int8: Path, images: NDArray[np.float32], recipe: OnnxRuntimeRecipe) -> None:
    """Writes the INT8 model ``int8`` made from ``fp32`` with the ranges seen on ``images`` [N, 1, H, W].

    The images pass one at a time; only the histogram calibrators (percentile, entropy) keep more than ranges.
    """
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(int8),
            _Images(images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=_METHODS[recipe.calibrator],
            nodes_to_exclude=_in_float(prepared, recipe.float_convolutions),
            extra_options={"CalibPercentile": recipe.percentile} if recipe.calibrator == "percentile" else {},
        )


class _Images(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime ships no types
    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images: Iterator[NDArray[np.float32]] = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next input, or none at the end: the name and shape are ONNX Runtime's."""
        image = next(self._images, None)
        return None if image is None else {INPUT_NAME: image[np.newaxis]}


def _in_float(model: Path, prefixes: tuple[str, ...]) -> list[str]:
    """Nodes of the convolutions whose module path starts with one of ``prefixes``.

    Raises:
        RecipeError: A prefix fits no convolution.
    """
    names = [node.name for node in onnx.load(str(model)).graph.node if node.op_type == "Conv"]
    return matching(names, prefixes)


def matching(names: list[str], prefixes: tuple[str, ...]) -> list[str]:
    """The module paths among ``names`` that equal a prefix or continue it after a dot.

    Raises:
        RecipeError: A prefix fits none.
    """
    for prefix in prefixes:
        if not any(f"{name}.".startswith(f"{prefix}.") for name in names):
            raise RecipeError(
                f"float_convolutions {prefix!r} names no convolution; use one of {', '.join(names[:4])}, ..."
            )
    return [name for name in names if any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes)]
