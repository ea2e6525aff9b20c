"""From the trained network to one ONNX graph with a fixed shape, proven equal to PyTorch on real images."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from edge.errors import ScansideError

OPSET = 18
INPUT_NAME = "image"
PARITY = 1e-4
"""Largest difference from PyTorch that an output may have, relative to the output's largest magnitude when above 1."""


class ParityError(ScansideError):
    """The traced graph does not compute what PyTorch computes."""


def trace(network: nn.Module, outputs: Sequence[str], side: int, path: Path) -> None:
    """Writes ``path``: input ``image`` float32 [1, 1, side, side], outputs named by ``outputs``, batch norms folded.

    Each convolution's node is named after its module, so that recipes can name those to leave in float; the one that
    makes an output is named after the output (``cam``), as OpenVINO would call it anyway.
    """
    example = torch.zeros(1, 1, side, side)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation notes of the exporter's own internals
        program = torch.onnx.export(
            network.eval(),
            (example,),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=list(outputs),
            verbose=False,
        )
    model = program.model_proto  # type: ignore[union-attr]  # None only for the other exporter
    for node in model.graph.node:
        if node.op_type == "Conv":
            made = node.output[0]
            node.name = made if made in outputs else node.input[1].removesuffix(".weight")
        del node.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def check_parity(network: nn.Module, outputs: Sequence[str], path: Path, images: NDArray[np.float32]) -> float:
    """Runs real images [N, 1, H, W] through PyTorch and the traced graph; returns the largest difference.

    Raises:
        ParityError: A difference exceeds ``PARITY``.
    """
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    worst = 0.0
    for image in images:
        with torch.inference_mode():
            expected = [output.numpy() for output in network.eval()(torch.from_numpy(image[np.newaxis]))]
        found = session.run(list(outputs), {INPUT_NAME: image[np.newaxis]})
        for name, want, have in zip(outputs, expected, found, strict=True):
            gap = float(np.abs(want - have).max()) / max(1.0, float(np.abs(want).max()))
            if not gap <= PARITY:
                raise ParityError(f"output {name!r} differs from PyTorch by {gap:.2e}, at most {PARITY:.0e} is allowed")
            worst = max(worst, gap)
    return worst
