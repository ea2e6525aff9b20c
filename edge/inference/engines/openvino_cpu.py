"""OpenVINO on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
from numpy.typing import NDArray

from edge.inference.bundle import OPENVINO_FILE, SealedBundle
from edge.inference.engines import Engine, Outputs


class _OpenVino:
    name = "openvino"

    def __init__(self, sealed: SealedBundle, threads: int, cache: Path) -> None:
        core = openvino.Core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Layers left in float stay float32 everywhere: bf16 where the CPU has it would answer differently there.
            "INFERENCE_PRECISION_HINT": "f32",
            "CACHE_DIR": str(cache / "openvino"),
        }
        compiled = core.compile_model(sealed.folder / OPENVINO_FILE, "CPU", settings)
        self._request = compiled.create_infer_request()
        self._input = self._request.get_tensor(sealed.bundle.input.name).data
        self._outputs = {name: self._request.get_tensor(called).data for name, called in sealed.bundle.outputs.items()}

    def run(self, image: NDArray[np.float32]) -> Outputs:
        self._input[:] = image
        self._request.infer(share_inputs=True, share_outputs=True)
        return {name: array[0].copy() for name, array in self._outputs.items()}


def load(sealed: SealedBundle, threads: int, cache: Path) -> Engine:
    """Load the bundle's IR; compiled kernels are kept under `cache`."""
    return _OpenVino(sealed, threads, cache)
