"""Data sets: a CSV of labelled images, prepared as the device prepares them, split by patient and by content."""

import csv
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from edge.imaging.resample import to_model_input
from export.recipe import DatasetRecipe, FindingRecipe

Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_COLUMNS = ("path", "label", "finding", "patient_id")


class DatasetError(ScansideError):
    """A data set that cannot be used; the message is one line."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled image."""

    path: str
    """Relative to the data set's folder."""
    label: str
    patient: str
    """``finding/patient_id``: numbering may restart from finding to finding."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Prepared images with their labels and splits, in the order of the CSV."""

    rows: tuple[Row, ...]
    pixels: NDArray[np.uint8]
    """[N, side, side], prepared as on the device, then rounded to 8 bits (exact for 8-bit images of that size)."""
    targets: NDArray[np.float32]
    """[N, K] of 0 and 1."""
    splits: tuple[Split, ...]
    fingerprint: str
    """SHA-256 over paths, labels, patients and prepared pixels."""

    def indices(self, split: Split) -> NDArray[np.int64]:
        """The images of ``split``."""
        return np.flatnonzero(np.array([s == split for s in self.splits]))


def load(
    root: Path, recipe: DatasetRecipe, findings: Sequence[FindingRecipe], *, side: int, seed: int, cache: Path
) -> Dataset:
    """Reads, prepares and splits a data set; prepared pixels are kept in ``cache``.

    Raises:
        DatasetError: A file is missing, a column is missing, an image cannot be read, or a class is missing in a split.
    """
    rows = read_rows(root / recipe.labels)
    pixels = _prepared(root, rows, side, cache)
    targets = np.array([[row.label == finding.label for finding in findings] for row in rows], dtype=np.float32)
    reserved = {row.patient for listed in recipe.reserved for row in read_rows(root / listed)}
    contents = [hashlib.sha256(image.tobytes()).hexdigest() for image in pixels]
    shares = (recipe.train, recipe.validation, recipe.calibration, recipe.test)
    splits = split(rows, contents, reserved, shares, seed)
    _check_classes(targets, splits, findings)
    digest = hashlib.sha256(msgspec.json.encode((rows, contents))).hexdigest()
    return Dataset(rows=rows, pixels=pixels, targets=targets, splits=splits, fingerprint=digest)


def read_rows(path: Path) -> tuple[Row, ...]:
    """Reads a label CSV with the columns ``path``, ``label``, ``finding`` and ``patient_id``.

    Raises:
        DatasetError: No such file, or a column is missing.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{path}: no column {missing[0]!r}; a label file has {', '.join(_COLUMNS)}")
            return tuple(
                Row(path=line["path"], label=line["label"], patient=f"{line['finding']}/{line['patient_id']}")
                for line in reader
            )
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; correct the recipe's dataset or give --dataset") from error


def read_image(path: Path, side: int) -> NDArray[np.float32]:
    """Reads a radiograph (DICOM, PNG or JPEG) as the device does: float32 [1, 1, side, side] in 0..1.

    Raises:
        DatasetError: The device would refuse the file.
    """
    try:
        source = Source(path.read_bytes())
        return to_model_input(source.image(source.decode()).pixels, side, side)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; restore it or take its line out of the label file") from error
    except Refusal as refusal:
        raise DatasetError(
            f"{path}: {refusal.reason}: {refusal.detail}; repair the file or take its line out of the label file"
        ) from refusal


def to_input(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Prepared 8-bit images [N, H, W] as network input: float32 [N, 1, H, W] in 0..1."""
    return pixels[:, np.newaxis].astype(np.float32) / np.float32(255.0)


def split(
    rows: Sequence[Row], contents: Sequence[str], reserved: set[str], shares: Sequence[float], seed: int
) -> tuple[Split, ...]:
    """Assigns each image to a split so that no patient and no identical image stands in two of them.

    Images that share a patient or their content form a group; the groups of each label, in an order drawn from
    ``seed``, are dealt out by ``shares`` (train, validation, calibration, test). Groups with a patient in ``reserved``
    are test.
    """
    groups: dict[int, list[int]] = defaultdict(list)
    patients = (row.patient for row in rows)
    for index, group in enumerate(_connected(list(zip(patients, contents, strict=True)))):
        groups[group].append(index)
    strata: dict[str, list[list[int]]] = defaultdict(list)
    chosen: dict[int, Split] = {}
    for members in groups.values():
        if any(rows[index].patient in reserved for index in members):
            chosen |= dict.fromkeys(members, "test")
        else:
            strata[min((rows[index] for index in members), key=lambda row: row.path).label].append(members)
    bounds = np.cumsum(shares)
    for label in sorted(strata):
        ordered = sorted(strata[label], key=lambda members: _draw(seed, min(rows[index].path for index in members)))
        for rank, members in enumerate(ordered):
            place = int(np.searchsorted(bounds, (rank + 0.5) / len(ordered)))
            chosen |= dict.fromkeys(members, SPLITS[min(place, len(SPLITS) - 1)])
    return tuple(chosen[index] for index in range(len(rows)))


def _connected(keys: Sequence[tuple[str, str]]) -> list[int]:
    """Group number of each item; items with an equal patient or an equal content are in one group (union-find)."""
    parent = list(range(len(keys)))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    seen: dict[tuple[int, str], int] = {}
    for item, key in enumerate(keys):
        for kind, value in enumerate(key):
            other = seen.setdefault((kind, value), item)
            parent[root(item)] = root(other)
    return [root(item) for item in range(len(keys))]


def _draw(seed: int, name: str) -> str:
    return hashlib.sha256(f"{seed}:{name}".encode()).hexdigest()


def _prepared(root: Path, rows: Sequence[Row], side: int, cache: Path) -> NDArray[np.uint8]:
    stats = [(row.path, (root / row.path).stat().st_size) for row in rows if (root / row.path).exists()]
    name = hashlib.sha256(msgspec.json.encode((str(root.resolve()), stats, side))).hexdigest()[:16]
    kept = cache / f"pixels-{name}.npy"
    if kept.exists():
        return np.load(kept)  # type: ignore[no-any-return]
    pixels = np.stack([np.rint(read_image(root / row.path, side)[0, 0] * 255.0).astype(np.uint8) for row in rows])
    write_whole(kept, lambda path: _save(path, pixels))
    return pixels


def _save(path: Path, array: NDArray[np.uint8]) -> None:
    with path.open("wb") as file:
        np.save(file, array)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Writes a file so that it appears at ``path`` only when complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    write(partial)
    partial.replace(path)


def _check_classes(targets: NDArray[np.float32], splits: Iterable[Split], findings: Sequence[FindingRecipe]) -> None:
    names = np.array(list(splits))
    for name in SPLITS:
        chosen = targets[names == name]
        for finding, column in zip(findings, chosen.T, strict=True):
            if not 0 < column.sum() < len(column):
                raise DatasetError(
                    f"split {name!r} has {int(column.sum())} of {len(column)} images with {finding.label!r}; each "
                    "split needs both classes: add images or change the shares"
                )
