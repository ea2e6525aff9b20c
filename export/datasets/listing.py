"""Which images there are, and what is said of them: a label CSV, or the folders that they lie in."""

import csv
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from edge.imaging.header import parse_age
from export.datasets.preparation import Tags
from export.datasets.records import DatasetError, Row
from export.datasets.splitting import draw
from export.recipe import DatasetRecipe

MASKS = "masks"
"""In a data set without a CSV, the folder whose files, at an image's own path and as PNG, are the masks."""
_PICTURES = {".png", ".jpg", ".jpeg", ".dcm", ".dicom"}
# The files of Kermany et al. as Kaggle gives them: person12_bacteria_34.jpeg, IM-0115-0001.jpeg,
# NORMAL2-IM-0383-0001.jpeg. Numbering restarts between bacteria and virus.
_PERSON = re.compile(r"(person\d+)_(bacteria|virus)_\d+\S*\.jpe?g")
_IM = re.compile(r"((?:NORMAL2-)?IM-\d+)-\d+\S*\.jpe?g")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An image as its list names it, before anybody opened it; None is what the list does not say."""

    path: str
    label: str
    patient: str | None
    mask: str | None
    view: str | None = None
    sex: str | None = None
    age_years: float | None = None
    source: str | None = None
    reference: str = ""
    """The cell of the recipe's reference column."""


def entries(root: Path, recipe: DatasetRecipe) -> tuple[Entry, ...]:
    """The images of a data set, in the order of its CSV, or sorted by path.

    Raises:
        DatasetError: A file or a column is missing, there is no image, or one lies in no folder.
    """
    return _in_folders(root, recipe) if recipe.labels is None else _in_csv(root / recipe.labels, recipe)


def limited(listed: Sequence[Entry], limit: int | None, seed: int) -> tuple[Entry, ...]:
    """At most ``limit`` of the images, drawn from ``seed``: as many of each reference label and, within, of each label.

    They stay in their order.
    """
    if limit is None or len(listed) <= limit:
        return tuple(listed)
    drawn = sorted(listed, key=lambda entry: draw(seed, entry.path))
    by_label = _in_turn(drawn, lambda entry: (entry.reference, entry.label))
    chosen = {entry.path for entry in _in_turn(by_label, lambda entry: entry.reference)[:limit]}
    return tuple(entry for entry in listed if entry.path in chosen)


def _in_turn(listed: Sequence[Entry], kind: Callable[[Entry], object]) -> list[Entry]:
    """One of each kind, then a second of each, and so on; in the given order otherwise."""
    seen: Counter[object] = Counter()
    ranked = []
    for entry in listed:
        ranked.append((seen[kind(entry)], entry))
        seen[kind(entry)] += 1
    return [entry for _, entry in sorted(ranked, key=lambda pair: pair[0])]


def reserved_entries(path: Path, recipe: DatasetRecipe) -> tuple[Entry, ...]:
    """The images of one of the CSVs in ``recipe.reserved``: whose patients, whatever their label.

    Raises:
        DatasetError: As `entries`; here the patient columns are needed too.
    """
    lines = _lines(path, ("path", *recipe.patient_columns))
    return tuple(Entry(path=line["path"], label="", patient=_patient(line, recipe), mask=None) for line in lines)


def row(entry: Entry, tags: Tags, recipe: DatasetRecipe) -> Row:
    """An image with what its file's tags say where its list is silent.

    Raises:
        DatasetError: Nothing says whose image it is.
    """
    patient = entry.patient or tags.patient or _patient_in_name(entry.path)
    if patient is None:
        raise DatasetError(
            f"{entry.path}: nothing names its patient, and a split keeps patients apart: give a label CSV with "
            f"{', '.join(recipe.patient_columns)}, or set patient_columns ([path] if each image is of another patient)"
        )
    return Row(
        path=entry.path,
        label=entry.label,
        patient=patient,
        mask=entry.mask,
        view=entry.view or tags.view,
        sex=entry.sex or tags.sex,
        age_years=tags.age_years if entry.age_years is None else entry.age_years,
        source=entry.source,
        referenced=entry.reference != "",
    )


def _in_csv(path: Path, recipe: DatasetRecipe) -> tuple[Entry, ...]:
    reference = recipe.reference.column if recipe.reference else None
    lines = _lines(path, ("path", recipe.label_column, *([reference] if reference else [])))
    return tuple(
        Entry(
            path=line["path"],
            label=line[recipe.label_column],
            patient=_patient(line, recipe),
            mask=line.get("mask") or None,
            view=line.get("view") or None,
            sex=line.get("sex") or None,
            age_years=_years(line.get("age", "")),
            source=line.get("source") or None,
            reference=line[reference] if reference else "",
        )
        for line in lines
    )


def _in_folders(root: Path, recipe: DatasetRecipe) -> tuple[Entry, ...]:
    if recipe.reference is not None:
        raise DatasetError(
            f"{root}: folders hold no column {recipe.reference.column!r}; give a label CSV, or take "
            "the recipe's reference out"
        )
    paths = sorted(path.relative_to(root) for path in root.rglob("*") if _is_image(path, root))
    if not paths:
        raise DatasetError(f"{root}: no image in it; correct the recipe's dataset, or give --dataset")
    loose = next((path for path in paths if len(path.parts) == 1), None)
    if loose is not None:
        raise DatasetError(f"{root / loose}: lies in no folder, and the folder is the label; move it, or give a CSV")
    found = []
    for path in paths:
        mask = (Path(MASKS) / path).with_suffix(".png")
        line = {"path": path.as_posix(), recipe.label_column: path.parent.name}
        found.append(
            Entry(
                path=path.as_posix(),
                label=path.parent.name,
                patient=_patient(line, recipe),
                mask=mask.as_posix() if (root / mask).is_file() else None,
            )
        )
    return tuple(found)


def _is_image(path: Path, root: Path) -> bool:
    """By its suffix or, without one as DICOM files often are, by DICOM's preamble (PS3.10 7.1)."""
    inside = path.relative_to(root)
    if inside.parts[0] == MASKS or any(part.startswith((".", "__MACOSX")) for part in inside.parts):
        return False
    if path.suffix.lower() in _PICTURES:
        return path.is_file()
    # A UID as a file's name has dots, but its last part is a number, no suffix.
    if path.suffix and not path.suffix[1:].isdigit():
        return False
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _lines(path: Path, columns: Sequence[str]) -> tuple[Mapping[str, str], ...]:
    """The lines of a CSV (UTF-8, with a header) as column to cell, stripped."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="", restval="")
            missing = [column for column in columns if column not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(
                    f"{path}: no column {missing[0]!r}; this recipe needs {', '.join(columns)}: add it or correct the "
                    "recipe's dataset"
                )
            lines = tuple({key: value.strip() for key, value in line.items() if key} for line in reader)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; correct the recipe's dataset or give --dataset") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: no UTF-8 text ({error.reason}); save it as UTF-8") from error
    if not lines:
        raise DatasetError(f"{path}: no line below the header; list the images there")
    return lines


def _patient(line: Mapping[str, str], recipe: DatasetRecipe) -> str | None:
    """Whose image it is; None where a column of the patient is missing. An empty cell is an error, not a patient."""
    columns = recipe.patient_columns
    if not columns or any(column not in line for column in columns):
        return None
    empty = next((column for column in columns if not line[column]), None)
    if empty is not None:
        raise DatasetError(
            f"{line['path']}: its cell {empty!r} is empty, and a split keeps patients apart: fill it in, or take the "
            "line out"
        )
    return "/".join(line[column] for column in columns)


def _patient_in_name(path: str) -> str | None:
    name = path.rsplit("/", 1)[-1]
    if match := _PERSON.fullmatch(name):
        return f"{match[2]}/{match[1]}"
    match = _IM.fullmatch(name)
    return match[1] if match else None


def _years(cell: str) -> float | None:
    """The age of a cell: years as a number, or an Age String (PS3.5 6.2); None for anything else."""
    try:
        return float(cell)
    except ValueError:
        return parse_age(cell)
