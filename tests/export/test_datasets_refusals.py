from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from pydicom import dcmread

from export.datasets import DatasetError
from export.recipe import ReferenceRecipe
from tests.export.conftest import SIDE
from tests.export.dataset_files import RECIPE, STRUCTURE, data, lines, load, rewrite, write_dicom, write_masks

__all__ = ["data"]


def break_file(root: Path) -> None:
    (root / "3.png").write_bytes(b"no picture")


def reserve(root: Path, **cells: str) -> None:
    """A reserved CSV beside the labels that lists one image of the data set under other names."""
    folder = root / "reserved"
    folder.mkdir()
    trained = next(row.path for row, name in zip(*_loaded(root), strict=True) if name == "train")
    shutil.copy(root / trained, folder / "same.png")
    first = lines(root)[0] | {"path": "same.png"} | cells
    (folder / "labels.csv").write_text(f"{','.join(first)}\n{','.join(first.values())}\n", encoding="utf-8")


def _loaded(root: Path) -> tuple[Any, Any]:
    loaded = load(root)
    return loaded.rows, loaded.splits


def write_nan(root: Path) -> None:
    write_dicom(root / "3.dcm", np.arange(SIDE * SIDE, dtype=np.uint16).reshape(SIDE, SIDE), 1)
    dataset = dcmread(root / "3.dcm")
    values = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32)
    values[7] = np.nan
    del dataset.PixelData
    dataset.FloatPixelData, dataset.BitsAllocated = values.tobytes(), 32
    for keyword in ("BitsStored", "HighBit", "PixelRepresentation", "WindowCenter", "WindowWidth"):
        if keyword in dataset:
            delattr(dataset, keyword)
    dataset.save_as(root / "3.dcm")
    rewrite(root, lambda number, line: line.update(path="3.dcm") if number == 3 else None)


def change_masks(root: Path, mask: np.ndarray[Any, Any]) -> None:
    write_masks(root)
    cv2.imwrite(str(root / "masks/3.png"), mask)


def change_mask_file(root: Path, content: bytes | None) -> None:
    write_masks(root)
    (root / "masks/3.png").unlink()
    if content is not None:
        (root / "masks/3.png").write_bytes(content)


def empty(root: Path) -> None:
    for path in root.glob("*.png"):
        path.unlink()


def drop_column(root: Path, column: str) -> None:
    rewrite(root, lambda _, line: line.pop(column))


BAD: list[tuple[str, Callable[[Path], object], dict[str, Any], dict[str, Any], str]] = [
    ("no CSV", lambda root: (root / "labels.csv").unlink(), {}, {}, r"labels\.csv: No such file.*--dataset"),
    ("no lines", lambda root: (root / "labels.csv").write_text("path,label\n"), {}, {}, "no line below the header"),
    ("no text", lambda root: (root / "labels.csv").write_bytes(b"path,label\n\xff,x"), {}, {}, "UTF-8"),
    ("no label column", lambda root: drop_column(root, "label"), {}, {}, "no column 'label'.*add it or correct"),
    ("no patient", lambda root: drop_column(root, "patient_id"), {}, {}, r"0\.png: nothing names its patient.*finding"),
    ("empty patient", lambda root: rewrite(root, lambda _, line: line.update(patient_id="")), {}, {}, "is empty.*fill"),
    (
        "no reference column",
        lambda root: None,
        {"reference": ReferenceRecipe(column="rsna", positive=("a",), negative=("b",))},
        {},
        "no column 'rsna'",
    ),
    ("missing image", lambda root: (root / "3.png").unlink(), {}, {}, r"3\.png: No such file.*restore it"),
    ("broken image", break_file, {}, {}, r"3\.png: not_dicom.*repair"),
    (
        "constant image",
        lambda root: cv2.imwrite(str(root / "3.png"), np.full((SIDE, SIDE), 9, dtype=np.uint8)),
        {},
        {},
        r"3\.png: empty_image.*repair",
    ),
    ("NaN", write_nan, {}, {}, r"3\.dcm: undecodable: some pixels are no finite numbers.*repair"),
    (
        "one class",
        lambda root: rewrite(root, lambda _, line: line.update(label="NORMAL")),
        {},
        {},
        r"split 'train' has 0 of 40 images with 'Pneumonia'.*both classes.*correct",
    ),
    ("empty split", lambda root: None, {"train": 0.6, "calibration": 0.0}, {}, "'calibration' has no image"),
    (
        "same pixels reserved",
        reserve,
        {"reserved": ("reserved/labels.csv",)},
        {},
        r"same\.png has the pixels of \d+\.png.*correct the patient",
    ),
    (
        "strangers reserved",
        lambda root: reserve(root, patient_id="nobody"),
        {"reserved": ("reserved/labels.csv",)},
        {},
        "none of its patients is in the data set",
    ),
    (
        "mask of another size",
        lambda root: change_masks(root, np.full((SIDE, SIDE + 1), 255, dtype=np.uint8)),
        {},
        {"findings": [], "structure": STRUCTURE},
        rf"3\.png: the mask's shape is \({SIDE}, {SIDE + 1}\).*export it again",
    ),
    (
        "mask in colour",
        lambda root: change_masks(root, np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)),
        {},
        {"findings": [], "structure": STRUCTURE},
        r"3\.png: the mask's shape is .*one grey channel",
    ),
    (
        "empty mask",
        lambda root: change_masks(root, np.full((SIDE, SIDE), 127, dtype=np.uint8)),
        {},
        {"findings": [], "structure": STRUCTURE},
        r"3\.png: no pixel of the mask is 255.*mask_value",
    ),
    (
        "broken mask",
        lambda root: change_mask_file(root, b"x"),
        {},
        {"findings": [], "structure": STRUCTURE},
        r"masks/3\.png: the mask is no picture",
    ),
    (
        "missing mask",
        lambda root: change_mask_file(root, None),
        {},
        {"findings": [], "structure": STRUCTURE},
        r"masks/3\.png: the mask cannot be read",
    ),
    ("no folders", lambda root: None, {"labels": None}, {}, r"0\.png: lies in no folder"),
    (
        "no images",
        empty,
        {"labels": None},
        {},
        "no image in it.*--dataset",
    ),
]


@pytest.mark.parametrize(
    ("spoil", "recipe", "how", "message"), [each[1:] for each in BAD], ids=[each[0] for each in BAD]
)
def test_bad_data_is_refused_in_one_line_with_the_fix(
    data: Path, spoil: Callable[[Path], object], recipe: dict[str, Any], how: dict[str, Any], message: str
) -> None:
    spoil(data)
    with pytest.raises(DatasetError, match=message) as refused:
        load(data, msgspec.structs.replace(RECIPE, **recipe), **how)
    assert "\n" not in str(refused.value)
