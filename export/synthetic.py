"""Fits the appearance model behind the synthetic radiographs (`edge.synthetic`) to the training images.

A mean of chest radiographs is a blur, because no two chests share an outline. So every image is first bent onto a
template, where ribs lie on ribs (Cootes, Edwards, Taylor: Active Appearance Models, IEEE PAMI 23, 2001; with dense
correspondence as in Jones and Poggio, IJCV 29, 1998). What is left splits in two, each described by its mean and its
principal components, for each kind by itself:

- *texture*: the grey values on the template,
- *shape*: where on the template each point of the image lies.

Only means and components are written: sums over more than a thousand images each.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.synthetic.appearance import FRAME, MARGIN, PARAMETERS, SHAPE_GRID, TEMPLATE, TEXTURE_GRID, Kind

ATTRIBUTION = (
    "Statistics of the training images of: Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) "
    "and Chest X-Ray Images for Classification. Mendeley Data, doi:10.17632/rscbjbr9sj. Licence of the source: "
    "CC BY 4.0, https://creativecommons.org/licenses/by/4.0/. Changed: aligned, averaged, reduced to principal "
    "components, rounded."
)
LABELS = {Kind.CLEAR: "NORMAL", Kind.OPACITY: "PNEUMONIA"}

_LUNG = 255  # value of the lungs in the masks
_SMALLEST_LUNGS = FRAME // 4  # pixels across and down
# Pixels by which each round's displacements are smoothed: coarse first, or a rib locks onto its neighbour.
_SMOOTHING = (8.0, 6.0, 5.0)
_KEPT = 0.9  # share of the images kept: those that bending to the template and back reproduces best
_COMPARED = slice(20, -20)  # rows and columns over which that is judged: what leaves the frame cannot come back
_INVERSION_ROUNDS = 12

Box = tuple[float, float, float, float]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit found, for each kind by its name.

    Attributes:
        images: Images used.
        texture_spread: Root mean square deviation of the aligned images from their mean, in grey levels of 255.
        texture_left: What of it the components leave out.
        shape_left: What the shape components leave out, in pixels of 224.
        largest_share: The largest part that one image has in the variance of any texture component. Far below 1: no
            component is the picture of a patient.
        bytes: Size of the file.
        seconds: Time taken.
    """

    images: dict[str, int]
    texture_spread: dict[str, float]
    texture_left: dict[str, float]
    shape_left: dict[str, float]
    largest_share: dict[str, float]
    bytes: int
    seconds: float


class Chest(NamedTuple):
    """A training image, uint8 (224, 224), and the box around its lungs: left, right, top, bottom."""

    pixels: NDArray[np.uint8]
    lungs: Box


class Components(NamedTuple):
    """A principal component analysis.

    Attributes:
        mean: float32 (...).
        axes: float32 (count, ...), each one standard deviation long, the longest first.
        spread: Root mean square deviation from the mean.
        left: What of it the components leave out.
        largest_share: The largest part that one sample has in the variance of one component.
    """

    mean: NDArray[np.float32]
    axes: NDArray[np.float32]
    spread: float
    left: float
    largest_share: float


def fit(
    dataset: Path,
    destination: Path = PARAMETERS,
    *,
    images: int = 1500,
    textures: int = 200,
    shapes: int = 40,
    step: float = 0.1,
    seed: int = 0,
) -> Report:
    """Fit the appearance model and write its parameters.

    Args:
        dataset: Folder with `labels.csv` (path, label, mask), images of 224 x 224 and their lung masks.
        destination: The .npz to write.
        images: At most so many images of each kind, drawn at random.
        textures: Texture components of each kind.
        shapes: Shape components of each kind.
        step: Grey levels (of 255) to which texture components are rounded; coarser where 8 bits need it.
        seed: Of the random choice.

    Raises:
        ScansideError: The data set cannot be read, or holds too few images for so many components.
    """
    started, needed = time.monotonic(), max(textures, shapes) / _KEPT
    arrays: dict[str, NDArray[Any]] = {}
    figures: dict[str, dict[str, float]] = {}
    home: Box | None = None
    template: NDArray[np.float32] | None = None
    for kind, label in LABELS.items():
        chests = load(dataset, label, images, seed)
        if len(chests) <= needed + 1:
            raise ScansideError(
                f"{dataset}: {len(chests)} images labelled {label} with a lung mask; so many components need more than "
                f"{needed + 1:.0f}: give a larger data set"
            )
        home = home or _median_box(chests)
        template, aligned, placed = align(chests, home, template)
        texture = principal([_resize(image, TEXTURE_GRID) for image in aligned], textures)
        shape = principal(placed, shapes)
        mean = np.asarray(np.mean(aligned, axis=0, dtype=np.float64))
        arrays |= {f"{kind}_{name}": array for name, array in _rounded(mean, texture, shape, step).items()}
        figures[kind.value] = _figures(len(aligned), texture, shape)
    by_name = {name: {kind: figures[kind][name] for kind in figures} for name in figures[Kind.CLEAR]}
    about = json.dumps({"attribution": ATTRIBUTION, "images": by_name["images"]})
    np.savez_compressed(destination, allow_pickle=False, about=np.array(about), **arrays)
    size, seconds = destination.stat().st_size, time.monotonic() - started
    return msgspec.convert(by_name | {"bytes": size, "seconds": seconds}, Report, strict=False)


def load(dataset: Path, label: str, count: int, seed: int) -> list[Chest]:
    """At most `count` images of a label, drawn at random, of which the lung mask shows enough.

    Raises:
        ScansideError: A file is missing or not an image of 224 x 224.
    """
    try:
        with (dataset / "labels.csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["label"] == label and row["mask"]]
    except (OSError, KeyError) as error:
        raise ScansideError(
            f"{dataset}/labels.csv: cannot be read ({error!r}): give the folder that holds it"
        ) from error
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    boxes = ((row, lung_box(_read(dataset / row["mask"]))) for row in (rows[number] for number in chosen))
    return [Chest(_read(dataset / row["path"]), box) for row, box in boxes if box is not None]


def lung_box(mask: NDArray[np.uint8]) -> Box | None:
    """Left, right, top and bottom of the lungs in a mask, or None when it shows too little of them."""
    lungs = mask == _LUNG
    across, down = (np.flatnonzero(lungs.sum(axis=axis) > 4) for axis in (0, 1))
    if min(len(across), len(down)) < _SMALLEST_LUNGS:
        return None
    return float(across[0]), float(across[-1]), float(down[0]), float(down[-1])


def align(
    chests: Sequence[Chest], home: Box, template: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], list[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """Bend images onto a template: first by the box around the lungs, then point by point along the optical flow.

    Args:
        chests: The images.
        home: Where the lungs lie on the template, in pixels of the frame inside its margin.
        template: float32 (template, template) to bend onto; None: their own mean, sharper from round to round.

    Returns:
        The template; the aligned images, uint8 (template, template); and their shapes, float32 (2, grid, grid): how
        much farther right and down on the template each point of the image lies, in pixels of the frame.
    """
    x, y = _grid(TEMPLATE)
    scales = [_onto(home, chest.lungs) for chest in chests]
    boxed = [_sample(chest.pixels, s[0] * x + s[1], s[2] * y + s[3]) for chest, s in zip(chests, scales, strict=True)]
    template, flows = _flow_onto(template, boxed)
    textures, shapes, errors = [], [], []
    for chest, s, flow in zip(chests, scales, flows, strict=True):
        textures.append(_texture(chest.pixels, s[0] * (x + flow[..., 0]) + s[1], s[2] * (y + flow[..., 1]) + s[3]))
        across, down = _inverse(s, flow)
        shapes.append(_shape(across, down))
        difference = _sample(textures[-1], across, down) - chest.pixels
        errors.append(float(np.abs(difference[_COMPARED, _COMPARED]).mean()))
    kept = np.flatnonzero(errors <= np.quantile(errors, _KEPT))
    return template, [textures[number] for number in kept], [shapes[number] for number in kept]


def principal(samples: Sequence[NDArray[Any]], count: int) -> Components:
    """The mean of samples of one shape and their first `count` principal components."""
    flat = np.stack(samples).reshape(len(samples), -1).astype(np.float32)
    mean = flat.mean(axis=0)
    flat -= mean
    values, vectors = np.linalg.eigh(flat @ flat.T)  # n x n: fewer samples than pixels
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    axes = vectors[:, :count].T @ flat / np.float32(len(flat) ** 0.5)
    return Components(
        mean=mean.reshape(samples[0].shape),
        axes=axes.reshape(count, *samples[0].shape),
        spread=float(np.sqrt(values.sum() / flat.size)),
        left=float(np.sqrt(values[count:].sum() / flat.size)),
        largest_share=float((vectors[:, :count] ** 2).max()),
    )


def _flow_onto(
    template: NDArray[np.float32] | None, boxed: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The template, and float32 (n, template, template, 2): how far right and down each image has the same points."""
    x, y = _grid(TEMPLATE)
    method = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    method.setFinestScale(1)
    prepared = [_local_contrast(image) for image in boxed]
    flows = np.zeros((len(boxed), TEMPLATE, TEMPLATE, 2), np.float32)
    if template is not None:
        _follow(method, template, prepared, _SMOOTHING[-1], flows)
        return template, flows
    for sigma in _SMOOTHING:
        bent = (_sample(image, x + flow[..., 0], y + flow[..., 1]) for image, flow in zip(boxed, flows, strict=True))
        template = np.asarray(sum(bent) / np.float32(len(boxed)), dtype=np.float32)
        _follow(method, template, prepared, sigma, flows)
        flows -= flows.mean(axis=0)
    assert template is not None  # noqa: S101 - for mypy: there is at least one round
    return template, flows


def _follow(
    method: cv2.DISOpticalFlow,
    template: NDArray[np.float32],
    prepared: Sequence[NDArray[np.uint8]],
    sigma: float,
    flows: NDArray[np.float32],
) -> None:
    target = _local_contrast(template)
    for number, image in enumerate(prepared):
        flows[number] = cv2.GaussianBlur(method.calc(target, image, None), (0, 0), sigma)


def _rounded(mean: NDArray[np.float64], texture: Components, shape: Components, step: float) -> dict[str, NDArray[Any]]:
    """What is written of one kind, without the kind's name: see `edge.synthetic.appearance` for the units."""
    steps = np.maximum(step, np.abs(texture.axes).max(axis=(1, 2)) / 127).astype(np.float32)
    return {
        "texture_mean": np.round(mean * 256).astype(np.uint16),
        "textures": np.round(texture.axes / steps[:, None, None]).astype(np.int8),
        "texture_steps": steps,
        "shape_mean": np.round(shape.mean * 256).astype(np.int16),
        "shapes": np.round(shape.axes * 256).astype(np.int16),
    }


def _figures(images: int, texture: Components, shape: Components) -> dict[str, float]:
    """One kind's part of the report."""
    return {
        "images": images,
        "texture_spread": texture.spread,
        "texture_left": texture.left,
        "shape_left": shape.left,
        "largest_share": texture.largest_share,
    }


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise ScansideError(f"{path}: cannot be read as an image: give the whole data set")
    if image.shape != (FRAME, FRAME):
        raise ScansideError(f"{path}: {image.shape[0]} x {image.shape[1]} pixels; the model needs {FRAME} x {FRAME}")
    return np.asarray(image, dtype=np.uint8)


def _median_box(chests: Sequence[Chest]) -> Box:
    left, right, top, bottom = np.median([chest.lungs for chest in chests], axis=0)
    return float(left), float(right), float(top), float(bottom)


def _onto(home: Box, lungs: Box) -> tuple[float, float, float, float]:
    """Scale and offset, across and down, from template to image, so that the boxes around the lungs meet."""
    across = (lungs[1] - lungs[0]) / (home[1] - home[0])
    down = (lungs[3] - lungs[2]) / (home[3] - home[2])
    return across, lungs[0] - across * (home[0] + MARGIN), down, lungs[2] - down * (home[2] + MARGIN)


def _grid(side: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    return x, y


def _resize(image: NDArray[Any], side: int) -> NDArray[np.float32]:
    reduced = cv2.resize(image.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(reduced, dtype=np.float32)


def _sample(image: NDArray[Any], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    sampled = cv2.remap(image.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(sampled, dtype=np.float32)


def _local_contrast(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What the optical flow compares: local contrast equalised, or a dense chest and a lucent one would not meet."""
    smooth = cv2.GaussianBlur(np.clip(image, 0, 255).astype(np.uint8), (0, 0), 1.0)
    return np.asarray(cv2.createCLAHE(3.0, (4, 4)).apply(smooth), dtype=np.uint8)


def _texture(image: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values on the template; where it reaches beyond the image, its blurred border instead of streaks."""
    texture = _sample(image, x, y)
    inside = ((x >= 0) & (x <= FRAME - 1) & (y >= 0) & (y <= FRAME - 1)).astype(np.float32)
    near, far = cv2.GaussianBlur(texture * inside, (0, 0), 12), cv2.GaussianBlur(texture, (0, 0), 36)
    border = (near + 1e-3 * far) / (cv2.GaussianBlur(inside, (0, 0), 12) + 1e-3)
    weight = cv2.erode(inside, np.ones((3, 3), np.uint8))
    weight *= cv2.GaussianBlur(weight, (0, 0), 1.5)
    return np.asarray(np.clip(np.round(texture * weight + border * (1 - weight)), 0, 255), dtype=np.uint8)


def _inverse(
    scale: tuple[float, float, float, float], flow: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The place on the template, across and down, of each pixel of the image: damped fixed-point iteration."""
    x, y = _grid(FRAME)
    across, down = (x - scale[1]) / np.float32(scale[0]), (y - scale[3]) / np.float32(scale[2])
    to_x, to_y = across.astype(np.float32), down.astype(np.float32)
    for _ in range(_INVERSION_ROUNDS):
        moved = cv2.remap(flow, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        to_x = ((to_x + across - moved[..., 0]) / 2).astype(np.float32)
        to_y = ((to_y + down - moved[..., 1]) / 2).astype(np.float32)
    return to_x, to_y


def _shape(across: NDArray[np.float32], down: NDArray[np.float32]) -> NDArray[np.float32]:
    x, y = _grid(FRAME)
    return np.stack([_resize(across - MARGIN - x, SHAPE_GRID), _resize(down - MARGIN - y, SHAPE_GRID)])
