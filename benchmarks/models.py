"""Claim: the shipped classifier in INT8 on OpenVINO is at least six times as fast as the same network in PyTorch eager.

`python -m benchmarks.models`: models x engines x precisions x one and two cores, one image at a time. All contenders of
a row's model and cores take turns, so that a busy neighbour slows all of them. The FP32 graphs are the bundles' own,
with the quantization taken out; PyTorch runs the architecture of the recipe beside the bundle.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import torch

from benchmarks.report import heading, ratio, spread
from edge.config import Config
from edge.inference.bundle import ONNX_FILE, SealedBundle, find_bundles, open_bundle
from export import architectures, latency
from export.quantization import qdq
from export.recipe import read_recipe

CORES, ROUNDS, RUNS = (1, 2), 20, 5
_EAGER = ("PyTorch eager", "FP32")


def main() -> None:
    """Measure and print."""
    config = Config()
    heading(f"Models: one image, {ROUNDS} alternating rounds of {RUNS}; milliseconds, median (middle half)")
    print("| model | cores | engine | precision | one image | beside PyTorch eager |")
    print("| --- | --- | --- | --- | --- | --- |")
    for folder in find_bundles(config.models_folder):
        sealed = open_bundle(folder, config.trusted_keys)
        for cores in CORES:
            times = _times(sealed, cores)
            for (engine, precision), values in times.items():
                beside = "" if (engine, precision) == _EAGER else ratio(times[_EAGER], values)
                print(
                    f"| {sealed.bundle.id} | {cores} | {engine} | {precision} | {spread(values).strip()} | {beside} |"
                )


def _times(sealed: SealedBundle, cores: int) -> dict[tuple[str, str], list[float]]:
    torch.set_num_threads(cores)
    fp32 = qdq.dequantized(onnx.load(str(sealed.folder / ONNX_FILE)))
    network = architectures.build(read_recipe(sealed.folder.parent / "recipe.yaml")).eval()
    eager = partial(_eager, network, torch.from_numpy(latency.random_image(sealed)))
    with tempfile.TemporaryDirectory() as name:
        contenders: dict[tuple[str, str], Callable[[], object]] = {_EAGER: eager}
        contenders |= latency.contenders(sealed, fp32, cores, Path(name))
        return latency.alternate(contenders, ROUNDS, RUNS)


def _eager(network: torch.nn.Module, image: torch.Tensor) -> None:
    with torch.inference_mode():
        network(image)


if __name__ == "__main__":
    main()
