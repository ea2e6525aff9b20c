"""The golden inputs: a few synthetic radiographs and what each engine answers, checked on every device at start."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.inference.engines import Outputs

_BLOBS = 60


def golden_inputs(count: int, side: int, seed: int) -> NDArray[np.float32]:
    """``count`` images [N, 1, side, side] in 0..1 that no patient ever was: fields of soft blobs with grain."""
    random = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        canvas = np.zeros((side, side), dtype=np.float32)
        for _ in range(_BLOBS):
            centre = tuple(int(value) for value in random.integers(0, side, 2))
            cv2.circle(canvas, centre, int(random.integers(side // 40, side // 4)), float(random.random()), -1)
        soft = cv2.GaussianBlur(canvas, (0, 0), side / 60.0)
        soft += random.normal(0.0, 0.02, soft.shape).astype(np.float32)
        images.append(np.rint(np.clip(soft, 0.0, 1.0) * 255.0) / 255.0)
    return np.stack(images)[:, np.newaxis].astype(np.float32)


def write_golden(path: Path, inputs: NDArray[np.float32], outputs: Mapping[str, Outputs]) -> None:
    """Writes ``inputs`` and, by engine, ``<engine>_logits``, ``<engine>_cam`` and ``<engine>_embedding``, stacked.

    `edge.inference.self_test` is the reader.
    """
    expected = {f"{engine}_{name}": array for engine, given in outputs.items() for name, array in given._asdict().items()}
    np.savez_compressed(path, inputs=inputs, **expected)
