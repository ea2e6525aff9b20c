"""Claim: a quality check warns on at most 3 % of good radiographs, and on at least 95 % of spoiled ones.

`python -m benchmarks.quality`: prints the table of edge/imaging/README.md. Needs the real radiographs in ../shared.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.report import heading
from edge.imaging.quality import check_quality

FOLDER = Path(__file__).resolve().parents[2] / "shared/data/cxr_kermany"
IMAGES, SEED = 2000, 1
_Image = NDArray[np.float32]
_SPOILED: dict[str, tuple[str, Callable[[_Image], _Image]]] = {
    "inverted_greys": ("inverted", lambda image: 1 - image),
    "clipped_greys": ("with contrast doubled", lambda image: np.clip(image * 2 - 0.2, 0, 1)),
}


def main() -> None:
    """Measure and print."""
    with (FOLDER / "labels.csv").open(newline="", encoding="utf-8") as file:
        paths = [FOLDER / row["path"] for row in csv.DictReader(file)]
    picked = np.random.default_rng(SEED).permutation(len(paths))[:IMAGES]
    images = [np.asarray(cv2.imread(str(paths[i]), 0), dtype=np.float32) / np.float32(255) for i in picked]
    heading(f"Quality checks on {IMAGES} images of cxr_kermany, seed {SEED}")
    print("| check | warns on good images | warns on spoiled ones |\n| --- | --- | --- |")
    for check, (how, spoil) in _SPOILED.items():
        alarms = sum(_warns(check, image) for image in images)
        hits = sum(_warns(check, spoil(image)) for image in images)
        print(f"| `{check}` | {alarms} ({alarms / IMAGES:.2%}) | {hits} {how} ({hits / IMAGES:.1%}) |")


def _warns(check: str, image: _Image) -> bool:
    return check in {finding.check for finding in check_quality(image)}


if __name__ == "__main__":
    main()
