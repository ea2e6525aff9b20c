"""What every engine answers on every set of images that a build looks at."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from edge.inference.bundle import SealedBundle
from edge.inference.engines import ENGINES, Outputs
from export import training
from export.augmentation import augment
from export.datasets import Dataset, to_input
from export.evaluation import dice
from export.fitting import Trained
from export.quantization.running import run_engine, run_graph
from export.recipe import Recipe

FP32 = "fp32"
"""How the traced graph is called beside the engines: the same weights, computed in float by ONNX Runtime."""
LEFT_OUT = "left_out"
"""How the images that are in no split are called among the sets."""
COPIES = "copies"
"""How the test images with their changed copies are called, on which the cost of INT8 is judged."""
FLOAT_TRAINING = "float"
"""The network as it was before its weights were rounded to the INT8 grid, in PyTorch."""
_BATCH = 32
_COPIES_SEED = 11


def write_answers(
    path: Path, work: Trained, sealed: SealedBundle, fp32: onnx.ModelProto, others: Mapping[str, Dataset]
) -> None:
    """Writes the answers of FP32 and of both INT8 engines, as ``<engine>/<set>/<output>``.

    The sets are the splits ``validation`` and ``test``. Of the images that are in no split, as ``left_out``, and of
    ``others`` it keeps the embeddings only; of a segmentation ``dice`` [N] in the place of the masks. Where the gate
    asks for copies, the logits of the test images with theirs stand under ``copies``.
    """
    kept: dict[str, Any] = {}
    for name in ("validation", "test"):
        chosen = work.dataset.indices(name)
        pixels = work.dataset.pixels[chosen]
        truth = None if work.dataset.masks is None else work.dataset.masks[chosen]
        found = {FP32: run_graph(fp32, pixels)} | {engine: run_engine(engine, sealed, pixels) for engine in ENGINES}
        for engine, outputs in found.items():
            kept |= {f"{engine}/{name}/{output}": array for output, array in _kept(outputs, truth).items()}
        if (network := work.network_in_float()) is not None:
            answers = training.predict(network, torch.from_numpy(to_input(pixels)))
            only = {"mask" if truth is not None else "logits": answers}
            kept |= {f"{FLOAT_TRAINING}/{name}/{output}": array for output, array in _kept(only, truth).items()}
    if work.recipe.gate.copies and work.dataset.masks is None:
        pixels = with_copies(work.dataset.pixels[work.dataset.indices("test")], work.recipe)
        kept[f"{FP32}/{COPIES}/logits"] = run_graph(fp32, pixels)["logits"]
        for engine in ENGINES:
            kept[f"{engine}/{COPIES}/logits"] = run_engine(engine, sealed, pixels)["logits"]
        if (network := work.network_in_float()) is not None:
            kept[f"{FLOAT_TRAINING}/{COPIES}/logits"] = training.predict(network, torch.from_numpy(to_input(pixels)))
    strangers = {name: dataset.pixels for name, dataset in others.items()}
    if work.recipe.familiarity is not None and None in work.dataset.splits:
        strangers[LEFT_OUT] = work.dataset.pixels[[split is None for split in work.dataset.splits]]
    for name, pixels in strangers.items():
        for engine in ENGINES:
            kept[f"{engine}/{name}/embedding"] = run_engine(engine, sealed, pixels)["embedding"]
    np.savez(path, **kept)


def write_training_embeddings(path: Path, work: Trained) -> None:
    """Writes ``embeddings`` [N, F] of the training images, in FP32."""
    network = training.channels_last(training.trained(work.tasks[0]))
    images = torch.from_numpy(to_input(work.dataset.pixels[work.dataset.indices("train")]))
    with torch.inference_mode():
        rows = [network(batch)[2].numpy() for batch in torch.split(images, _BATCH)]
    np.savez(path, embeddings=np.concatenate(rows))


def with_copies(pixels: NDArray[np.uint8], recipe: Recipe) -> NDArray[np.uint8]:
    """The images [N, H, W], behind them all of them ``gate.copies`` times again, changed as in training."""
    random, images = torch.Generator().manual_seed(_COPIES_SEED), torch.from_numpy(to_input(pixels))
    drawn = [augment(images, recipe.training.augmentation, random).images for _ in range(recipe.gate.copies)]
    return np.concatenate([pixels, *(np.rint(copy[:, 0].numpy() * 255.0).astype(np.uint8) for copy in drawn)])


def _kept(outputs: Outputs, truth: NDArray[np.uint8] | None) -> dict[str, NDArray[Any]]:
    if truth is not None:
        return {"dice": dice(outputs["mask"][:, 0], truth)}
    return {name: outputs[name] for name in ("logits", "cam", "embedding") if name in outputs}
