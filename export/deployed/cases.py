"""Which images a bundle is evaluated on, and the truth about each."""

import csv
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from edge.errors import UsageError
from edge.inference.bundle import Bundle
from export.datasets import Row, load
from export.datasets.listing import Entry, entries
from export.deployed.wanted import Part, Wanted
from export.recipe import DatasetRecipe, FindingRecipe, OperatingPointsRecipe, Recipe, read_recipe
from export.steps import Report

Area = tuple[float, float, float, float]
"""x0, y0, x1, y1 as shares of the image's width and height."""

_LABELS = "labels.csv"
_OWN_PART: Part = "test"
_MASK_VALUE = 255
_USE_OF_PART: dict[Part, str] = {
    "train": "the weights were fitted on: these figures flatter the model",
    "validation": "set calibration and thresholds: these figures flatter the model",
    "calibration": "set the ranges of the quantizers",
    "test": "set neither weights nor calibration nor thresholds",
}
Listed = Row | Entry


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One image with what its data set says of it; None is what nobody wrote down."""

    path: Path
    positive: tuple[bool, ...]
    """In the order of the bundle's findings; empty for a segmentation."""
    patient: str | None
    mask: Path | None
    boxes: tuple[Area, ...]
    view: str | None
    sex: str | None
    age_years: float | None
    source: str | None


class Cases(msgspec.Struct, frozen=True, kw_only=True):
    """The images of an evaluation."""

    name: str
    """What reports call the data set."""
    part: str
    """Which of its images, in words."""
    split: str
    """The split's name, or ``all``."""
    cases: tuple[Case, ...]
    mask_value: int
    prevalence: float
    """For predictive values: what the recipe states."""

    def fingerprint(self) -> str:
        """SHA-256 over the images' bytes and their truth, in order."""
        digest = hashlib.sha256()
        for case in self.cases:
            with case.path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            digest.update(msgspec.json.encode((case.positive, case.boxes)))
        return f"sha256:{digest.hexdigest()}"


def find_cases(wanted: Wanted, folder: Path, bundle: Bundle, cache: Path, report: Report) -> Cases:
    """Lists the images with their truth.

    Args:
        wanted: What was asked for.
        folder: The bundle's folder; ``recipe.yaml`` may lie beside it.
        bundle: Its content.
        cache: Where prepared images are kept, when the recipe's own splits are needed.
        report: Takes lines of progress.

    Raises:
        UsageError: What was asked for does not fit the bundle or the data set.
        DatasetError: The data set cannot be read.
    """
    recipe = _recipe(folder)
    findings = _findings(wanted, bundle, recipe)
    own = recipe is not None and _is_own(wanted, folder, recipe)
    if wanted.part not in (None, "all") and not own:
        raise UsageError(f"--split {wanted.part}: splits are known of the recipe's own data set only: leave it out")
    if recipe and own and wanted.part != "all":
        part = wanted.part or _OWN_PART
        listed = _of_split(recipe, wanted.dataset, part, cache, report)
        words = f"the {part} split, which {_USE_OF_PART[part]}"
    else:
        part, source = "all", _source(wanted, recipe)
        listed = _of_list(wanted.dataset, source, findings)
        by_reference = f"all images whose {source.reference.column!r} is known" if source.reference else "all images"
        words = (
            f"{by_reference}, those that the model was built with among them: these figures flatter it"
            if own
            else by_reference
        )
    boxes = _boxes(wanted)
    cases = tuple(
        _case(wanted.dataset, image, positive, boxes)
        for image, positive in listed
        if bundle.task == "classification" or image.mask
    )
    if not cases:
        raise UsageError(
            f"{wanted.dataset}: no image, or none with the truth, to evaluate {bundle.id} on; give another data set"
        )
    return Cases(
        name=recipe.dataset.name if recipe and own else wanted.dataset.resolve().name,
        part=words,
        split=part,
        cases=cases,
        mask_value=recipe.structure.mask_value if recipe and recipe.structure else _MASK_VALUE,
        prevalence=recipe.operating_points.prevalence if recipe else OperatingPointsRecipe().prevalence,
    )


def _case(root: Path, image: Listed, positive: tuple[bool, ...], boxes: Mapping[str, tuple[Area, ...]]) -> Case:
    return Case(
        path=root / image.path,
        positive=positive,
        patient=image.patient,
        mask=root / image.mask if image.mask else None,
        boxes=boxes.get(Path(image.path).stem, ()),
        view=image.view,
        sex=image.sex,
        age_years=image.age_years,
        source=image.source,
    )


def _recipe(folder: Path) -> Recipe | None:
    beside = folder.resolve().parent / "recipe.yaml"
    return read_recipe(beside) if beside.is_file() else None


def _findings(wanted: Wanted, bundle: Bundle, recipe: Recipe | None) -> tuple[FindingRecipe, ...]:
    """Which labels mean which finding, in the order of the bundle's."""
    if wanted.positive:
        if len(bundle.findings) != 1:
            raise UsageError(
                f"--positive names the labels of one finding, and {bundle.id} has {len(bundle.findings)}: put a recipe "
                "beside the bundle instead"
            )
        spec = bundle.findings[0]
        return (FindingRecipe(code=spec.code, scheme=spec.scheme, meaning=spec.meaning, labels=wanted.positive),)
    if not bundle.findings:
        return ()
    known = {finding.code: finding for finding in recipe.findings} if recipe else {}
    unknown = next((spec for spec in bundle.findings if spec.code not in known), None)
    if unknown is not None:
        raise UsageError(
            f"{bundle.id}: no recipe beside the bundle says which labels mean {unknown.meaning!r}: give them with "
            "--positive LABEL..."
        )
    return tuple(known[spec.code] for spec in bundle.findings)


def _is_own(wanted: Wanted, folder: Path, recipe: Recipe) -> bool:
    """Whether these are the images that the recipe builds from, with the labels that it takes."""
    own = (folder.resolve().parent / recipe.dataset.path).resolve() == wanted.dataset.resolve()
    return own and wanted.labels in (None, recipe.dataset.labels) and not wanted.positive


def _source(wanted: Wanted, recipe: Recipe | None) -> DatasetRecipe:
    """How to read a data set: as the recipe reads its own, as far as this one has the columns."""
    known = recipe.dataset if recipe else DatasetRecipe(name="", licence="", path="", patient_columns=("patient_id",))
    labels = wanted.labels or known.labels or _LABELS
    if wanted.labels is None and not (wanted.dataset / labels).is_file():
        return msgspec.structs.replace(known, labels=None, reference=None, reserved=())
    columns = _columns(wanted.dataset / labels)
    return msgspec.structs.replace(
        known,
        labels=labels,
        label_column=known.label_column if known.label_column in columns else "label",
        reference=known.reference if known.reference and known.reference.column in columns else None,
        reserved=(),
    )


def _columns(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; give the label file's name with --labels") from error


def _of_split(
    recipe: Recipe, root: Path, part: Part, cache: Path, report: Report
) -> list[tuple[Listed, tuple[bool, ...]]]:
    data = load(
        root,
        recipe.dataset,
        findings=recipe.findings,
        structure=recipe.structure,
        side=recipe.side,
        seed=recipe.seed,
        cache=cache,
        report=report,
    )
    return [
        (row, tuple(bool(value) for value in targets > 0.5))
        for row, targets, split in zip(data.rows, data.targets, data.splits, strict=True)
        if split == part
    ]


def _of_list(
    root: Path, source: DatasetRecipe, findings: Sequence[FindingRecipe]
) -> list[tuple[Listed, tuple[bool, ...]]]:
    """All images; with a reference column, those that it calls positive or negative, and by its word only."""
    listed: list[tuple[Listed, tuple[bool, ...]]] = []
    for entry in entries(root, source):
        if source.reference and findings:
            if entry.reference in (*source.reference.positive, *source.reference.negative):
                listed.append((entry, (entry.reference in source.reference.positive,)))
        else:
            values = {value.strip() for value in entry.label.split("|")}
            listed.append((entry, tuple(not values.isdisjoint(finding.labels) for finding in findings)))
    return listed


def _boxes(wanted: Wanted) -> dict[str, tuple[Area, ...]]:
    """Reference boxes by the image's name without suffix."""
    if wanted.boxes is None:
        return {}
    found: dict[str, tuple[Area, ...]] = {}
    try:
        with wanted.boxes.open(encoding="utf-8-sig", newline="") as file:
            for line in csv.DictReader(file):
                cells = [line[key] for key in ("x", "y", "width", "height")]
                if not any(cells):  # an image that was looked at and has no box
                    continue
                x, y, width, height = (float(cell) / wanted.boxes_side for cell in cells)
                name = Path(line["image"]).stem
                found[name] = (*found.get(name, ()), (x, y, x + width, y + height))
    except OSError as error:
        raise UsageError(f"--boxes {wanted.boxes}: {error.strerror}; give a CSV that can be read") from error
    except (KeyError, ValueError, TypeError) as error:
        raise UsageError(
            f"--boxes {wanted.boxes}: {error}; each line has image, x, y, width and height as numbers"
        ) from error
    return found
