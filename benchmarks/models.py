"""Claim: the INT8 model on OpenVINO is at least five times as fast as the same network in PyTorch eager FP32.

`python -m benchmarks.models`. Runs alternate, so that a busy neighbour slows both.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.report import heading, ratio, spread
from edge.config import Config
from edge.inference.bundle import find_bundles, open_bundle
from edge.inference.engines import open_engine
from export.architectures import MobileNetV2Grey

THREADS, ROUNDS, RUNS = 2, 40, 10


def main() -> None:
    """Measure and print."""
    config = Config()
    torch.set_num_threads(THREADS)
    for folder in find_bundles(config.models_folder):
        sealed = open_bundle(folder, config.trusted_keys)
        spec = sealed.bundle.input
        image = np.random.default_rng(0).random((1, 1, spec.height, spec.width), dtype=np.float32)
        network = MobileNetV2Grey(len(sealed.bundle.findings)).eval()
        tensor = torch.from_numpy(image)
        with tempfile.TemporaryDirectory() as cache:
            contenders: dict[str, Callable[[], object]] = {"PyTorch eager FP32": partial(_eager, network, tensor)}
            for name in ("openvino", "onnxruntime"):
                contenders[f"{name} INT8"] = partial(open_engine(name, sealed, THREADS, Path(cache)).run, image)
            times = _alternate(contenders)
        heading(f"{sealed.bundle.id} {sealed.bundle.version}: one image, {THREADS} threads, {ROUNDS} rounds of {RUNS}")
        for name, values in times.items():
            beside = "" if name.startswith("PyTorch") else ratio(times["PyTorch eager FP32"], values)
            print(f"{name:20} {spread(values)}  {beside}")


def _eager(network: torch.nn.Module, image: torch.Tensor) -> None:
    with torch.inference_mode():
        network(image)


def _alternate(contenders: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Milliseconds of one run: the median of each round's runs."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        for _ in range(RUNS):
            run()
    for _ in range(ROUNDS):
        for name, run in contenders.items():
            laps = []
            for _ in range(RUNS):
                start = time.perf_counter()
                run()
                laps.append((time.perf_counter() - start) * 1000)
            times[name].append(float(np.median(laps)))
    return times


if __name__ == "__main__":
    main()
