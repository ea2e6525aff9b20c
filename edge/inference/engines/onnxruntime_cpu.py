"""ONNX Runtime's CPU provider."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge.inference.bundle import ONNX_FILE, SealedBundle
from edge.inference.engines import Engine, Outputs

_ERRORS_ONLY = 3


class _OnnxRuntime:
    name = "onnxruntime"

    def __init__(self, sealed: SealedBundle, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERRORS_ONLY
        options.enable_cpu_mem_arena = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        model = str(sealed.folder / ONNX_FILE)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = sealed.bundle.input.name
        self._names = list(sealed.bundle.outputs)
        self._outputs = list(sealed.bundle.outputs.values())

    def run(self, image: NDArray[np.float32]) -> Outputs:
        arrays = self._session.run(self._outputs, {self._input: image})
        return {name: array[0] for name, array in zip(self._names, arrays, strict=True)}


def load(sealed: SealedBundle, threads: int, cache: Path) -> Engine:  # noqa: ARG001 - the interface of all engines
    """Load the bundle's QDQ model; this engine keeps nothing on disk."""
    return _OnnxRuntime(sealed, threads)
