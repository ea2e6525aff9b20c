"""The golden inputs: a few synthetic radiographs and what each engine answers, checked on every device at start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.imaging.resample import to_model_input
from edge.inference.engines import Outputs
from edge.synthetic.appearance import Kind, radiograph

_ROWS, _COLUMNS = 1024, 1280


def golden_inputs(count: int, side: int) -> NDArray[np.float32]:
    """``count`` synthetic radiographs [N, 1, side, side] in 0..1, the kinds in turn, in 8-bit steps to stay small."""
    kinds = list(Kind)
    drawn = [radiograph(kinds[number % len(kinds)], number, _ROWS, _COLUMNS) for number in range(count)]
    prepared = np.concatenate([to_model_input(pixels, side, side) for pixels in drawn])
    return np.asarray(np.rint(prepared * 255.0) / 255.0, dtype=np.float32)


def write_golden(path: Path, inputs: NDArray[np.float32], outputs: Mapping[str, Outputs]) -> None:
    """Writes ``inputs`` and, by engine and output, ``<engine>_<output>``, stacked over the inputs.

    `edge.inference.self_test` is the reader.
    """
    expected: dict[str, Any] = {
        f"{engine}_{name}": array for engine, given in outputs.items() for name, array in given.items()
    }
    np.savez_compressed(path, inputs=inputs, **expected)
