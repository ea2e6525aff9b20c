"""A data set's folder and its recipe to a `Dataset`."""

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from export.datasets.listing import Entry, entries, limited, reserved_entries, row
from export.datasets.preparation import Tags, content, in_progress, prepare, read_mask
from export.datasets.records import SPLITS, Dataset, DatasetError, Row, Split
from export.datasets.splitting import Candidate, Shares, split
from export.recipe import DatasetRecipe, FindingRecipe, ReferenceRecipe, StructureRecipe
from export.steps import Report


def load(
    root: Path,
    recipe: DatasetRecipe,
    *,
    findings: Sequence[FindingRecipe],
    structure: StructureRecipe | None,
    side: int,
    seed: int,
    cache: Path,
    report: Report = lambda _: None,
) -> Dataset:
    """Reads, prepares and splits a data set; prepared pixels are kept in ``cache``.

    Without findings and structure the images are only prepared and split: for measuring what is refused.

    Raises:
        DatasetError: A file or a column is missing, an image or mask cannot be used, a split lacks a class, or
            reserved patients would be trained on.
    """
    everyone = entries(root, recipe)
    listed = limited(everyone, recipe.limit, seed)
    pixels, tags = prepare(root, [entry.path for entry in listed], side, cache, report)
    rows = tuple(row(entry, found, recipe) for entry, found in zip(listed, tags, strict=True))
    targets = _targets(listed, recipe.reference, findings)
    masks = None if structure is None else _masks(root, rows, tags, side=side, structure=structure, report=report)
    contents = [content(image) for image in pixels]
    candidates = _candidates(rows, listed, contents, targets, recipe=recipe, structure=structure)
    reserved = {root / path: reserved_entries(root / path, recipe) for path in recipe.reserved}
    strangers = {str(entry.patient) for images in reserved.values() for entry in images}
    splits = split(candidates, reserved=strangers, shares=_shares(recipe), seed=seed)
    known = {str(entry.patient) for entry in everyone} | {each.patient for each in rows}
    for path, images in reserved.items():
        _check_known(path, images, known)
        seen, _ = prepare(path.parent, [entry.path for entry in images], side, cache, report)
        _check_unseen(path, images, [content(image) for image in seen], candidates, splits)
    _check_classes(targets, splits, findings, structure)
    return Dataset(
        rows=rows,
        pixels=pixels,
        targets=targets,
        masks=masks,
        splits=splits,
        fingerprint=_fingerprint(rows, contents, targets, masks, splits),
    )


def load_lungs(
    root: Path, rows: Sequence[Row], *, side: int, value: int, cache: Path, report: Report
) -> NDArray[np.uint8]:
    """The masks [N, side, side] of 0 and 1 of a data set that was loaded for something else; all 0 where there is none.

    Raises:
        DatasetError: A mask cannot be used.
    """
    _, tags = prepare(root, [row.path for row in rows], side, cache, report)
    structure = StructureRecipe(code="39607008", scheme="SCT", meaning="Lung", mask_value=value)
    return _masks(root, rows, tags, side=side, structure=structure, report=report)


def _candidates(
    rows: Sequence[Row],
    listed: Sequence[Entry],
    contents: Sequence[str],
    targets: NDArray[np.float32],
    *,
    recipe: DatasetRecipe,
    structure: StructureRecipe | None,
) -> list[Candidate]:
    return [
        Candidate(
            path=each.path,
            patient=each.patient,
            content=digest,
            stratum=str(target.tolist()) if target.size else each.label,
            used=_is_used(entry, recipe.reference, structure),
            referenced=each.referenced,
        )
        for each, entry, digest, target in zip(rows, listed, contents, targets, strict=True)
    ]


def _shares(recipe: DatasetRecipe) -> Shares:
    everyone: dict[Split, float] = dict(
        zip(SPLITS, (recipe.train, recipe.validation, recipe.calibration, recipe.test), strict=True)
    )
    trained = recipe.reference.train if recipe.reference else 0.0
    judged = (1.0 - trained) / max(recipe.validation + recipe.test, 1e-9)
    return Shares(
        everyone=everyone,
        referenced={"train": trained, "validation": recipe.validation * judged, "test": recipe.test * judged},
    )


def _targets(
    listed: Sequence[Entry], reference: ReferenceRecipe | None, findings: Sequence[FindingRecipe]
) -> NDArray[np.float32]:
    """[N, K]: the reference label where an image carries one, else the label."""
    if reference is not None and len(findings) > 1:
        raise DatasetError(
            f"reference column {reference.column!r}: a reference label speaks for one finding, the recipe has "
            f"{len(findings)}; take out the reference or the other findings"
        )
    targets = np.zeros((len(listed), len(findings)), dtype=np.float32)
    for index, entry in enumerate(listed):
        if reference is not None and entry.reference:
            targets[index] = entry.reference in reference.positive
        else:
            values = {value.strip() for value in entry.label.split("|")}
            targets[index] = [not values.isdisjoint(finding.labels) for finding in findings]
    return targets


def _is_used(entry: Entry, reference: ReferenceRecipe | None, structure: StructureRecipe | None) -> bool:
    if structure is not None and entry.mask is None:
        return False
    return reference is None or entry.reference in ("", *reference.positive, *reference.negative)


def _masks(
    root: Path, rows: Sequence[Row], tags: Sequence[Tags], *, side: int, structure: StructureRecipe, report: Report
) -> NDArray[np.uint8]:
    masks = np.zeros((len(rows), side, side), dtype=np.uint8)
    for index, each in enumerate(in_progress(rows, "reading masks", report)):
        if each.mask is not None:
            masks[index] = read_mask(root / each.mask, side, structure.mask_value, tags[index])
    return masks


def _check_known(path: Path, images: Sequence[Entry], known: Collection[str]) -> None:
    if not any(image.patient in known for image in images):
        raise DatasetError(
            f"{path}: none of its patients is in the data set, so it keeps nobody apart; name patients alike in both, "
            "or take it out of the recipe's reserved"
        )


def _check_unseen(
    path: Path,
    images: Sequence[Entry],
    contents: Sequence[str],
    candidates: Sequence[Candidate],
    splits: Sequence[Split | None],
) -> None:
    """Whoever is reserved is a stranger to the model by name already, as `split` sees to; here by the pixels too."""
    seen = {
        candidate.content: candidate.path
        for candidate, name in zip(candidates, splits, strict=True)
        if name not in ("test", None)
    }
    for image, digest in zip(images, contents, strict=True):
        if digest in seen:
            raise DatasetError(
                f"{path}: {image.path} has the pixels of {seen[digest]}, which is another patient's and not in test; "
                "no reserved image may be trained on: correct the patient in one of the two label files"
            )


def _check_classes(
    targets: NDArray[np.float32],
    splits: Sequence[Split | None],
    findings: Sequence[FindingRecipe],
    structure: StructureRecipe | None,
) -> None:
    if not findings and structure is None:
        return
    names = np.array([str(name) for name in splits])
    for name in SPLITS:
        chosen = targets[names == name]
        if not len(chosen):
            what = "image" if structure is None else "image with a mask"
            raise DatasetError(f"split {name!r} has no {what}; each split needs some: add images or change the shares")
        for finding, column in zip(findings, chosen.T, strict=True):
            if not 0 < column.sum() < len(column):
                raise DatasetError(
                    f"split {name!r} has {int(column.sum())} of {len(column)} images with {finding.meaning!r}; each "
                    f"split needs both classes: add images, change the shares or correct {', '.join(finding.labels)!r}"
                )


def _fingerprint(
    rows: Sequence[Row],
    contents: Sequence[str],
    targets: NDArray[np.float32],
    masks: NDArray[np.uint8] | None,
    splits: Sequence[Split | None],
) -> str:
    digest = hashlib.sha256(msgspec.json.encode((rows, contents, targets.tolist(), splits)))
    if masks is not None:
        digest.update(masks.tobytes())
    return digest.hexdigest()
