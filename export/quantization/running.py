"""Running many images through a model: the device's own engines, and FP32 graphs."""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from edge.inference.bundle import SealedBundle
from edge.inference.engines import Outputs, open_engine
from export.datasets import to_input

Pixels = NDArray[np.uint8]
"""Prepared images [N, H, W], as `export.datasets.Dataset.pixels` holds them; may be a memory map."""


def run_engine(engine: str, sealed: SealedBundle, pixels: Pixels, threads: int = 1) -> Outputs:
    """The device's own engine over all images, one at a time as on the device; the outputs stacked [N, ...]."""
    with tempfile.TemporaryDirectory() as cache:
        opened = open_engine(engine, sealed, threads, Path(cache))
        return _stacked(opened.run(image) for image in batches(pixels, 1))


def run_graph(model: onnx.ModelProto, pixels: Pixels, threads: int = 1) -> Outputs:
    """ONNX Runtime over all images, one at a time; the graph's outputs by name, stacked [N, ...]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names, given = [output.name for output in session.get_outputs()], session.get_inputs()[0].name
    return _stacked(
        {name: array[0] for name, array in zip(names, session.run(names, {given: image}), strict=True)}
        for image in batches(pixels, 1)
    )


def batches(pixels: Pixels, size: int) -> Iterator[NDArray[np.float32]]:
    """Network inputs float32 [size or fewer, 1, H, W], made only when they are asked for."""
    for start in range(0, len(pixels), size):
        yield to_input(pixels[start : start + size])


def _stacked(answers: Iterable[Outputs]) -> Outputs:
    rows = list(answers)
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}
