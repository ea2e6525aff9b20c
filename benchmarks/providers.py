"""Claim: on a GPU the bundles' INT8 models gain nothing by ONNX Runtime's CUDA provider, so the box asks for none.

`python -m benchmarks.providers`, where `onnxruntime-gpu` is installed and an NVIDIA GPU is at hand; elsewhere it
measures the CPU alone. Each provider runs the golden inputs of each shipped bundle: how far its outputs are from what
the bundle was sealed with, beside what the self-test allows, and the time of a pass, beside the CPU provider's.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import yaml

from benchmarks.report import heading, spread

_PASSES = 200
_THREADS = 2
"""As the box's own default, however many cores there are."""
_PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "CPU": ("CPUExecutionProvider", {}),
    "CUDA": ("CUDAExecutionProvider", {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}),
}
_ERRORS_ONLY = 3


def main() -> None:
    """Measure and print."""
    available = onnxruntime.get_available_providers()
    if "CUDAExecutionProvider" in available:
        onnxruntime.preload_dlls()
    for folder in sorted(Path("models").glob("*/bundle")):
        heading(
            f"{folder.parent.name}: golden inputs, batch 1, {_PASSES} passes, ONNX Runtime {onnxruntime.__version__}"
        )
        for title, (provider, settings) in _PROVIDERS.items():
            if provider in available:
                _measure(title, provider, settings, folder)
            else:
                print(f"{title}: {provider} is not in this ONNX Runtime")


def _measure(title: str, provider: str, settings: dict[str, str], folder: Path) -> None:
    bundle: dict[str, Any] = yaml.safe_load((folder / "bundle.yaml").read_text(encoding="utf-8"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = _THREADS
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=[(provider, settings)])
    if session.get_providers()[0] != provider:
        print(f"{title}: {provider} does not start here")
        return
    with np.load(folder / "golden.npz") as golden:
        inputs = golden["inputs"]
        expected = {name: golden[f"onnxruntime_{name}"] for name in bundle["golden_tolerance"]}
    names = {name: bundle["outputs"][name] for name in expected}
    farthest = dict.fromkeys(expected, 0.0)
    times = []
    for number in range(_PASSES):
        image = inputs[number % len(inputs)][np.newaxis]
        start = time.perf_counter()
        outputs = session.run(list(names.values()), {bundle["input"]["name"]: image})
        times.append((time.perf_counter() - start) * 1000)
        for name, output in zip(names, outputs, strict=True):
            distance = float(np.max(np.abs(output[0] - expected[name][number % len(inputs)])))
            farthest[name] = max(farthest[name], distance)
    said = ", ".join(f"{name} off by {far:.3g} of {bundle['golden_tolerance'][name]}" for name, far in farthest.items())
    print(f"{title}: {spread(times)}; {said}")


if __name__ == "__main__":
    main()
