"""Small data sets on the disk, as people have them, and how tests load them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pydicom import dcmread

from edge.synthetic.dicom import wrap
from export import datasets
from export.datasets import Dataset
from export.recipe import DatasetRecipe, FindingRecipe, StructureRecipe
from tests.export.conftest import SIDE, write_dataset

FINDING = FindingRecipe(code="233604007", scheme="SCT", meaning="Pneumonia", labels=("PNEUMONIA",))
STRUCTURE = StructureRecipe(code="39607008", scheme="SCT", meaning="Lung", mask_value=255)
SHARES: dict[str, Any] = {"train": 0.5, "validation": 0.2, "calibration": 0.1, "test": 0.2}
RECIPE = DatasetRecipe(name="a", licence="b", path="data", **SHARES)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    write_dataset(folder, patients=40)
    return folder


def load(root: Path, recipe: DatasetRecipe = RECIPE, **changed: Any) -> Dataset:
    how: dict[str, Any] = {"findings": [FINDING], "structure": None, "side": SIDE, "seed": 1}
    return datasets.load(root, recipe, **(how | {"cache": root.parent / "cache"} | changed))


def lines(root: Path) -> list[dict[str, str]]:
    with (root / "labels.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def rewrite(root: Path, change: Callable[[int, dict[str, str]], object], name: str = "labels.csv") -> None:
    """Every line of the label file after ``change`` had it."""
    changed = lines(root)
    for number, line in enumerate(changed):
        change(number, line)
    with (root / name).open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(changed[0]))
        writer.writeheader()
        writer.writerows(changed)


def write_masks(root: Path) -> None:
    (root / "masks").mkdir()
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[:, : SIDE // 4], mask[:, SIDE // 2 :] = 127, 255
    for number, _ in enumerate(lines(root)):
        cv2.imwrite(str(root / f"masks/{number}.png"), mask)
    rewrite(root, lambda number, line: line.update(mask=f"masks/{number}.png" if number else ""))


def write_dicom(path: Path, pixels: np.ndarray[Any, Any], number: int, **tags: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(wrap(pixels, seed=number, age="003Y"))
    dataset = dcmread(path)
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
