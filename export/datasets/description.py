"""A data set as a section of the build's report: who is in it, how bright its images are, and a sheet of samples."""

import base64
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from export.datasets.preparation import content
from export.datasets.records import SPLITS, Dataset, Row
from export.document import Section, Table
from export.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ABSENT, _PRESENT = "#2b6cb0", "#b5541c"
_SAMPLES, _SAMPLE_SIDE = 12, 112
_AGES = ((0, 1), (1, 6), (6, 15), (15, 40), (40, 65), (65, 200))


def data_section(dataset: Dataset, recipe: Recipe) -> Section:
    """Class distribution, known facts about the patients, intensity histograms, and samples of the training images.

    The samples are radiographs of people: the section is for the local report and goes neither into a bundle nor into
    the repository.

    Args:
        dataset: What ``load`` made of the data set of ``recipe``.
        recipe: Names the findings or the structure.
    """
    meanings = [finding.meaning for finding in recipe.findings]
    classes = _classes(dataset, meanings)
    return Section(
        title="Data",
        paragraphs=(
            f"{recipe.dataset.name}; licence: {recipe.dataset.licence}; fingerprint `{dataset.fingerprint}`.",
            "No patient and no identical image stands in two splits. The last picture shows training images, a row for "
            "each class: it belongs to this local report and is in no bundle.",
        ),
        points=_notes(dataset),
        tables=(
            _distribution(dataset, meanings),
            *(
                table
                for name, value in (("View", _view), ("Sex", _sex), ("Age, years", _age_band))
                if (table := _groups(dataset, classes, name, value)) is not None
            ),
        ),
        plots=(_histograms(dataset, recipe, classes), _sheet(dataset, classes)),
    )


Classes = Sequence[tuple[str, NDArray[np.bool_]]]


def _classes(dataset: Dataset, meanings: Sequence[str]) -> Classes:
    """Name and members of each class of the used images: with and without each finding; all, for a segmentation."""
    used = np.array([split is not None for split in dataset.splits])
    if not meanings:
        return [("all images", used)]
    return [
        (f"{words} {meaning}", used & (dataset.targets[:, column] == target))
        for column, meaning in enumerate(meanings)
        for words, target in (("without", 0), ("with", 1))
    ]


def _notes(dataset: Dataset) -> tuple[str, ...]:
    """What the shares do not tell: who is left out, which images are there twice, whose patient nobody knows."""
    left_out = sum(split is None for split in dataset.splits)
    twice = len(dataset.pixels) - len({content(image) for image in dataset.pixels})
    alone = sum(row.patient == row.path for row in dataset.rows)
    total = len(dataset.rows)
    notes = [f"Left out: {left_out} of {total} images"] if left_out else []
    notes += [f"With the pixels of another image, and in its split: {twice} of {total} images"] if twice else []
    notes += [f"Taken for the only image of their patient, as the recipe says: {alone} of {total}"] if alone else []
    return tuple(notes)


def _distribution(dataset: Dataset, meanings: Sequence[str]) -> Table:
    rows = []
    for split in SPLITS:
        chosen = dataset.indices(split)
        patients = {dataset.rows[index].patient for index in chosen}
        positives = [
            f"{int(column.sum())} ({column.mean():.1%})" if len(column) else "0" for column in dataset.targets[chosen].T
        ]
        rows.append((split, f"{len(chosen)}", f"{len(patients)}", *positives))
    return Table(("Split", "Images", "Patients", *(f"With {meaning}" for meaning in meanings)), tuple(rows))


def _groups(dataset: Dataset, classes: Classes, name: str, value: Callable[[Row], str | None]) -> Table | None:
    """How a property is spread over the classes, where confounding shows; None where nobody knows the property."""
    values = [value(row) or "unknown" for row in dataset.rows]
    if set(values) == {"unknown"}:
        return None
    rows = []
    for split in SPLITS:
        chosen = dataset.indices(split)
        counts = [Counter(values[index] for index in chosen if members[index]) for _, members in classes]
        rows += [
            (split, each, *(f"{count[each]} ({count[each] / max(1, count.total()):.1%})" for count in counts))
            for each in sorted(set().union(*counts))
        ]
    return Table(("Split", name, *(f"{words[0].upper()}{words[1:]}" for words, _ in classes)), tuple(rows))


def _view(row: Row) -> str | None:
    return row.view


def _sex(row: Row) -> str | None:
    return row.sex


def _age_band(row: Row) -> str | None:
    if row.age_years is None:
        return None
    return next((f"{low:02d} to below {high}" for low, high in _AGES if low <= row.age_years < high), None)


def _histograms(dataset: Dataset, recipe: Recipe, classes: Classes) -> str:
    """Share of the training images' pixels at each grey value: by class, or inside and outside of the structure."""
    from export.drawing import svg  # noqa: PLC0415 - matplotlib takes a second that who only loads need not wait

    train = dataset.indices("train")
    if dataset.masks is not None and recipe.structure is not None:
        masks, meaning = dataset.masks, recipe.structure.meaning
        counts = {
            f"outside of {meaning}": _counts(dataset.pixels[index][masks[index] == 0] for index in train),
            f"inside of {meaning}": _counts(dataset.pixels[index][masks[index] == 1] for index in train),
        }
    else:
        counts = {
            name: _counts(dataset.pixels[index] for index in train if members[index]) for name, members in classes
        }
    return svg("Grey values of the training images", [lambda axes: _draw_histogram(axes, counts)])


def _counts(images: Iterable[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Pixels at each four grey values, one image at a time to spare the memory."""
    total = np.zeros(256, dtype=np.int64)
    for image in images:
        total += np.bincount(image.reshape(-1), minlength=256)
    quarters: NDArray[np.int64] = total.reshape(64, 4).sum(axis=1)
    return quarters


def _draw_histogram(axes: "Axes", counts: dict[str, NDArray[np.int64]]) -> None:
    for number, (name, count) in enumerate(counts.items()):
        style = ("-", "--", ":", "-.")[number // 2 % 4]
        color = _PRESENT if number % 2 else _ABSENT
        axes.stairs(count / max(1, count.sum()), np.arange(65) * 4, color=color, linestyle=style, label=name)
    axes.set(xlabel="grey value, 0 black to 255 white", ylabel="share of the pixels")
    axes.legend()


def _sheet(dataset: Dataset, classes: Classes) -> str:
    """Training images in one picture, a row for each class, masks outlined; as a PNG data URI."""
    sheet = []
    for _, members in classes:
        chosen = [index for index in dataset.indices("train") if members[index]][:_SAMPLES]
        tiles = [_tile(dataset, index) for index in chosen]
        blank = np.zeros((_SAMPLE_SIDE, _SAMPLE_SIDE, 3), dtype=np.uint8)
        sheet.append(np.hstack(tiles + [blank] * (_SAMPLES - len(tiles))))
    _, encoded = cv2.imencode(".png", np.vstack(sheet))
    text = base64.b64encode(encoded.tobytes()).decode("ascii")
    names = ", ".join(name for name, _ in classes)
    return f'<img alt="Training images, a row for each of: {names}" src="data:image/png;base64,{text}">'


def _tile(dataset: Dataset, index: int) -> NDArray[np.uint8]:
    side = (_SAMPLE_SIDE, _SAMPLE_SIDE)
    grey = cv2.resize(dataset.pixels[index], side, interpolation=cv2.INTER_AREA)
    tile: NDArray[np.uint8] = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    if dataset.masks is not None:
        mask = cv2.resize(dataset.masks[index], side, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(tile, outlines, -1, (0, 200, 255), 1)
    return tile
