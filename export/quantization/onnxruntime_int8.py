"""INT8 for ONNX Runtime: static QDQ, unsigned activations, signed 7-bit weights per channel.

Why 7 bits: on x86 without VNNI, ONNX Runtime multiplies with ``vpmaddubsw``, which adds two products of unsigned
activation and signed weight in 16 bits and saturates: 2 * 255 * 127 = 64,770 does not fit below 32,767. With weights
within -64..64 the worst sum is 2 * 255 * 64 = 32,640, so no sum can saturate, and a clinic's older CPU computes the
same integers as a new one. https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

import contextlib
import io
import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.shape_inference import quant_pre_process

from export.quantization import qdq
from export.quantization.running import Pixels, batches
from export.recipe import RecipeError
from export.tracing import INPUT_NAME

SCHEME = (
    "static QDQ, uint8 activations per tensor, int8 weights per channel within 7 bits (saturation-free without VNNI)"
)
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
# Convolutions with the activations that fuse into them. Additions, concatenations and pools gain no time from
# 8 bits here and lose precision: mean shift of the logits 0.007 against 0.010 (MobileNetV2), 0.68 against 0.88
# (DenseNet-121, whose leading batch norms would be quantized too).
_QUANTIZED = ["Conv", "Relu", "Clip"]
_CHUNK = 4
"""Images whose intermediate outputs a calibrator holds at once: DenseNet-121 at 224 pixels makes 60 MB of an image."""


def prepare(fp32: Path, prepared: Path) -> None:
    """Writes ``prepared``: the graph ``fp32`` with constants folded, pairs of nodes fused and shapes inferred."""
    quant_pre_process(str(fp32), str(prepared), skip_symbolic_shape=True)


def activation_ranges(prepared: Path, calibration: Pixels, calibrator: str, percentile: float) -> TensorsData:
    """The range of every activation of ``prepared`` on images uint8 [N, H, W].

    The calibrators are fed a few images at a time, since each feeding holds all intermediate outputs of its images (the
    library's own limit, ``CalibMaxIntermediateOutputs``, drops what it has seen).

    Args:
        prepared: From `prepare`.
        calibration: May be a memory map.
        calibrator: ``minmax``, ``percentile`` or ``entropy``.
        percentile: Share of the activations inside the range, for ``percentile``.
    """
    with tempfile.TemporaryDirectory() as folder:
        collector = create_calibrator(
            prepared,
            _QUANTIZED,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=_METHODS[calibrator],
            extra_options={"percentile": percentile} if calibrator == "percentile" else {},
        )
        with contextlib.redirect_stdout(io.StringIO()):  # the histogram calibrators print a line for each chunk
            for chunk in batches(calibration, _CHUNK):
                collector.collect_data(_Images(chunk))
            return collector.compute_data()


def quantize(prepared: Path, ranges: TensorsData) -> onnx.ModelProto:
    """The QDQ model of ``prepared`` with every convolution quantized.

    Activation functions stay in the graph, so that `export.quantization.qdq` may take pairs out again; the engine fuses
    them when it loads the model.
    """
    quantizer = QDQQuantizer(
        onnx.load(str(prepared)),
        per_channel=True,
        reduce_range=True,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=ranges,
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=_QUANTIZED,
        extra_options={"QDQKeepRemovableActivations": True},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    return qdq.without_inner_pairs(quantizer.model.model)


class _Images(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime ships no types
    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images = iter(images)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        """The next input, or none at the end: the name and shape are ONNX Runtime's."""
        image = next(self._images, None)
        return None if image is None else {INPUT_NAME: image[np.newaxis]}


def matching(names: tuple[str, ...], prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """The module paths among ``names`` that equal a prefix or continue it after a dot.

    Raises:
        RecipeError: A prefix fits none.
    """
    for prefix in prefixes:
        if not any(f"{name}.".startswith(f"{prefix}.") for name in names):
            raise RecipeError(
                f"float_convolutions {prefix!r} names no convolution; use one of {', '.join(names[:4])}, ..."
            )
    return tuple(name for name in names if any(f"{name}.".startswith(f"{prefix}.") for prefix in prefixes))
