"""The quality checks on real radiographs and on the same ones spoiled. Rates as the folder's README states them."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge.imaging.quality import check_quality


def _radiographs(shared: Path, count: int) -> list[NDArray[np.float32]]:
    folder = shared / "data/cxr_kermany"
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    picked = np.random.default_rng(7).permutation(len(rows))[:count]
    return [
        np.asarray(cv2.imread(str(folder / rows[i]["path"]), 0), dtype=np.float32) / np.float32(255) for i in picked
    ]


@pytest.mark.parametrize(
    ("check", "spoil"),
    [("inverted_greys", lambda image: 1 - image), ("clipped_greys", lambda image: np.clip(image * 2 - 0.2, 0, 1))],
)
def test_rates(shared: Path, check: str, spoil: object) -> None:
    """At most 3 % of good images are warned about, at least 95 % of spoiled ones are."""
    images = _radiographs(shared, 400)
    assert callable(spoil)
    false_alarms = sum(check in {found.check for found in check_quality(image)} for image in images)
    hits = sum(check in {found.check for found in check_quality(spoil(image))} for image in images)
    assert false_alarms <= 0.03 * len(images)
    assert hits >= 0.95 * len(images)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (64, 64)])
def test_any_size_is_answered(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert isinstance(check_quality(pixels), tuple)
