"""The real radiographs by which the quality checks are set and measured, and what is done to spoil them.

Patients are parted in two by a hash of their identity, over all sets alike: on one half templates are fitted and limits
chosen, on the other half rates are measured. What is spoiled is spoiled here, once for both.
"""

from __future__ import annotations

import csv
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.config import Config
from edge.errors import ScansideError
from edge.imaging.resample import to_model_input
from edge.inference.bundle import find_bundles, open_bundle
from edge.inference.models import Segmentation, load_model

CHILDREN, ADULTS = "cxr_kermany", "cxr_nih"
SETS = (CHILDREN, "cxr_kermany_aspect", "cxr_full_size", ADULTS)
SIDES = ("top", "bottom", "left", "right")

# By eye: stored in these states by their publisher. They are no good images, and no synthetic ones either.
_SIDEWAYS = (
    "00017007_002 00026986_007 00002265_000 00004573_000 00014439_000 00013594_050 00001880_006 00007098_003"
    " 00010597_000 00006763_012 00019470_001 00008168_008 00010531_041 00008980_003 00017158_024 00020826_008"
    " 00029358_004 00019473_002 00016831_003 00021160_000 00009600_020 00019395_010 00011757_005 00012681_003"
    " 00021916_007 00017824_000 00017964_001 00014285_013 00021068_000 00002117_004 00002599_004 00003081_000"
    " 00012935_022 00022463_000 00016435_000 00016182_000 00018276_000 00017779_000"
)
STORED_SIDEWAYS = frozenset(_SIDEWAYS.split())
STORED_UPSIDE_DOWN = frozenset({"00003490_011"})
STORED_INVERTED = frozenset({"00017999_000"})

_LUNG = 255  # value of the lungs in the masks
_MOST_SIDE = 512
_TOUCHING = 0.02
_EDGE = 2

Grey = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, kw_only=True)
class Radiograph:
    """One image of a set.

    Attributes:
        name: Its file's name without the ending.
        pixels: float32 (rows, columns), 0 black to 1 white, in its true proportions, at most 512 on the short side.
        tuning: Of the half on which limits are set; else of the half on which rates are measured.
        lungs: Lungs by the human-reviewed mask, over the whole image in any size; None where there is none.
    """

    name: str
    pixels: Grey
    tuning: bool
    lungs: Mask | None

    @property
    def stored(self) -> str | None:
        """The check that ought to warn about the image as it was published; None for nearly all."""
        states = {"sideways": STORED_SIDEWAYS, "upside_down": STORED_UPSIDE_DOWN, "inverted_greys": STORED_INVERTED}
        return next((check for check, names in states.items() if self.name in names), None)


def radiographs(data: Path, name: str, most: int | None = None) -> Iterator[Radiograph]:
    """The images of a set in an order that is the same everywhere, the second of two identical files left out.

    Args:
        data: The folder that holds the sets.
        name: One of `SETS`.
        most: So many at most, of both halves together.
    """
    with (data / name / "labels.csv").open(newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: _hash(row["path"]))
    seen: set[str] = set()
    for row in rows:
        if most is not None and len(seen) >= most:
            return
        content = (data / name / row["path"]).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest in seen:
            continue
        seen.add(digest)
        yield _radiograph(row, content, data / name)


def outliner() -> Segmentation:
    """The shipped bundle that outlines lungs, served.

    Raises:
        ScansideError: There is none, or it cannot be served.
    """
    config = Config()
    with tempfile.TemporaryDirectory() as cache:
        for folder in find_bundles(config.models_folder):
            if open_bundle(folder, config.trusted_keys).bundle.task == "segmentation":
                model = load_model(folder, config, Path(cache))
                if isinstance(model, Segmentation):
                    return model
    raise ScansideError(f"{config.models_folder}: no bundle outlines lungs: build models/cxr-lungs first")


def outline(model: Segmentation, pixels: Grey) -> Grey:
    """The lungs over the whole image as the box would have them: float32 (height, width), 0..1."""
    size = model.sealed.bundle.input
    return np.asarray(model.engine.run(to_model_input(pixels, size.height, size.width))["mask"][0])


def cut(pixels: Grey, lungs: Mask, side: str, share: float) -> Grey:
    """The image without this side's `share` of its lungs, as if the patient had stood too far there."""
    rows, columns = pixels.shape
    across = side in ("left", "right")
    along = np.cumsum(lungs.sum(axis=0 if across else 1)) / np.count_nonzero(lungs)
    first = side in ("top", "left")
    at = np.searchsorted(along, share if first else 1 - share) / len(along) * (columns if across else rows)
    kept = slice(int(at), None) if first else slice(0, int(at) + 1)
    return pixels[:, kept] if across else pixels[kept]


def shifted(pixels: Grey, side: str, share: float) -> Grey:
    """The image moved out of its frame at this side by a share of its height or width, black behind it."""
    rows, columns = pixels.shape
    down = {"top": -share, "bottom": share}.get(side, 0.0) * rows
    right = {"left": -share, "right": share}.get(side, 0.0) * columns
    move = np.array([[1, 0, right], [0, 1, down]], dtype=np.float32)
    return np.asarray(cv2.warpAffine(pixels, move, (columns, rows)), dtype=np.float32)


def tilted(pixels: Grey, degrees: float, *, black: bool) -> Grey:
    """The image turned counter-clockwise about its middle: in its frame with black corners, or cut to the inside."""
    rows, columns = pixels.shape
    turn = cv2.getRotationMatrix2D((columns / 2, rows / 2), degrees, 1.0)
    turned = np.asarray(cv2.warpAffine(pixels, turn, (columns, rows), flags=cv2.INTER_LINEAR), dtype=np.float32)
    if black:
        return turned
    part = 1 / (np.cos(np.radians(25)) + np.sin(np.radians(25)))  # the same for all, so that size says nothing
    top, left = int(rows * (1 - part) / 2), int(columns * (1 - part) / 2)
    return turned[top : rows - top, left : columns - left]


def touches(lungs: Mask) -> bool:
    """Whether the lungs reach an edge of the image along more than a fiftieth of it."""
    edges = (lungs[:_EDGE].any(0), lungs[-_EDGE:].any(0), lungs[:, :_EDGE].any(1), lungs[:, -_EDGE:].any(1))
    return max(float(edge.mean()) for edge in edges) > _TOUCHING


def _radiograph(row: dict[str, str], content: bytes, folder: Path) -> Radiograph:
    pixels = np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE), dtype=np.float32) / 255
    rows, columns = pixels.shape
    if row["orig_w"] and row["orig_h"]:  # the training set was squashed; its longer side grows back
        aspect = int(row["orig_w"]) / int(row["orig_h"])
        rows, columns = (rows, round(rows * aspect)) if aspect >= 1 else (round(columns / aspect), columns)
    scale = min(1.0, _MOST_SIDE / min(rows, columns))
    size = (round(columns * scale), round(rows * scale))
    method = cv2.INTER_AREA if size[0] <= pixels.shape[1] and size[1] <= pixels.shape[0] else cv2.INTER_LINEAR
    mask = cv2.imread(str(folder / row["mask"]), cv2.IMREAD_GRAYSCALE) if row["mask"] else None
    # Numbering restarts between bacterial and viral.
    patient = row["patient_id"] + (row["finding"] if folder.name != ADULTS else "")
    return Radiograph(
        name=Path(row["path"]).stem,
        pixels=np.asarray(cv2.resize(pixels, size, interpolation=method), dtype=np.float32),
        tuning=int(_hash(patient), 16) % 2 == 0,
        lungs=None if mask is None else mask == _LUNG,
    )


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
