"""Fits the appearance model behind the synthetic radiographs (`edge.synthetic`) to the training images.

A mean of chest radiographs is a blur, because no two chests are alike in outline. So every image is first bent onto a common template,
where ribs lie on ribs (Cootes, Edwards, Taylor: Active Appearance Models, PAMI 2001; dense correspondence after Jones and Poggio, IJCV 1998).
What is left splits in two, each described by its mean and its principal components, for each kind by itself:

- *texture*: the grey values on the template,
- *shape*: where on the template each point of the image lies.

Only means, components and their spread are written: sums over more than a thousand images each.
"""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np

from edge.synthetic.appearance import FRAME, MARGIN, SHAPE_GRID, Kind

if TYPE_CHECKING:
    from numpy.typing import NDArray

ATTRIBUTION = (
    "Statistics of the training images of: Kermany D, Zhang K, Goldbaum M. Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images "
    "for Classification. Mendeley Data, 2018, doi:10.17632/rscbjbr9sj. Licence of the source: CC BY 4.0, "
    "https://creativecommons.org/licenses/by/4.0/. Changed: aligned, averaged, reduced to principal components, quantised."
)
LABELS = {Kind.CLEAR: "NORMAL", Kind.OPACITY: "PNEUMONIA"}

_CANVAS = FRAME + 2 * MARGIN
_LUNG = 255  # value of the lung in the masks
_SMOOTHING = (8.0, 6.0, 5.0)  # pixels by which each round's displacements are smoothed: coarse first, or ribs lock onto the wrong rib
_KEPT = 0.9  # share of the images kept: those that bending to the template and back reproduces best
_RELAXATIONS = 12


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a fit found, for each kind by its name.

    Attributes:
        images: Images used.
        texture_spread: Standard deviation of the aligned images about their mean, in grey levels of 255.
        texture_left: What of it the components leave out.
        shape_left: What the shape components leave out, in pixels of 224.
        largest_share: The largest part that a single image has in any texture component's variance: far below 1, no
            component is a picture of one patient.
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


class Chest(msgspec.Struct, frozen=True, kw_only=True):
    """A training image and where its lungs are: left, right, top, bottom in pixels of 224."""

    pixels: np.ndarray
    lungs: tuple[float, float, float, float]


def fit(
    dataset: Path, destination: Path, *, images: int = 1500, textures: int = 150, shapes: int = 40, step: float = 0.3, seed: int = 0
) -> Report:
    """Fit the appearance model and write its parameters.

    Args:
        dataset: Folder with `labels.csv` (path, label, mask), images of 224 x 224 and their lung masks.
        destination: The .npz to write.
        images: At most so many images of each kind, drawn at random.
        textures: Texture components of each kind.
        shapes: Shape components of each kind.
        step: Grey levels (of 255) to which the texture components are rounded at one standard deviation.
        seed: Of the random choice.

    Raises:
        OSError: The data set cannot be read or the file not be written.
        ValueError: The data set holds fewer images with a lung mask than components are asked for.
    """
    started = time.monotonic()
    arrays: dict[str, NDArray[np.generic]] = {}
    report: dict[str, dict[str, float]] = {name: {} for name in ("images", "texture_spread", "texture_left", "shape_left", "largest_share")}
    template: NDArray[np.float32] | None = None
    home: tuple[float, float, float, float] | None = None
    for kind in Kind:
        chests = load(dataset, LABELS[kind], images, seed)
        if len(chests) * _KEPT <= textures:
            raise ValueError(f"{dataset}: {len(chests)} images of {LABELS[kind]} with a lung mask; more than {textures / _KEPT:.0f} are needed")
        home = home or tuple(float(v) for v in np.median([c.lungs for c in chests], axis=0))  # type: ignore[assignment]
        assert home is not None
        template, texture, shape = align(chests, home, template)
        mean, components, spread, left, share = principal(texture, textures)
        report["images"][kind.value] = len(texture)
        report["texture_spread"][kind.value], report["texture_left"][kind.value], report["largest_share"][kind.value] = spread, left, share
        arrays[f"{kind.value}_texture_mean"] = np.round(mean * 256).astype(np.uint16)
        arrays[f"{kind.value}_textures"] = np.clip(np.round(components / step), -127, 127).astype(np.int8)
        mean, components, _, left, _ = principal(shape, shapes)
        report["shape_left"][kind.value] = left
        arrays[f"{kind.value}_shape_mean"] = np.round(mean * 256).astype(np.int16)
        arrays[f"{kind.value}_shapes"] = np.round(components * 256).astype(np.int16)
    about = {"attribution": ATTRIBUTION, "images": report["images"], "step": step}
    np.savez_compressed(destination, allow_pickle=False, step=np.float32(step), about=np.array(json.dumps(about)), **arrays)
    return msgspec.convert({**report, "bytes": destination.stat().st_size, "seconds": time.monotonic() - started}, Report, strict=False)


def load(dataset: Path, label: str, count: int, seed: int) -> list[Chest]:
    """At most `count` images of a label that have a usable lung mask, in the order of `labels.csv`."""
    with (dataset / "labels.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["label"] == label and row["mask"]]
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    chests = []
    for row in (rows[i] for i in chosen):
        lungs = lung_box(_read(dataset / row["mask"]))
        if lungs is not None:
            chests.append(Chest(pixels=_read(dataset / row["path"]), lungs=lungs))
    return chests


def lung_box(mask: NDArray[np.uint8]) -> tuple[float, float, float, float] | None:
    """Left, right, top and bottom of the lungs in a mask, or None when it shows too little of them."""
    lung = mask == _LUNG
    columns, rows = (np.flatnonzero(lung.sum(axis) > 4) for axis in (0, 1))
    if len(columns) < FRAME // 4 or len(rows) < FRAME // 4:
        return None
    return float(columns[0]), float(columns[-1]), float(rows[0]), float(rows[-1])


def align(
    chests: list[Chest], home: tuple[float, float, float, float], template: NDArray[np.float32] | None
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Bend images onto a template: first by the box around the lungs, then point by point along the optical flow.

    Args:
        chests: The images.
        home: Where the lungs lie on the template, in pixels of 224 inside the canvas's margin.
        template: float32 (canvas, canvas) to bend onto; None: their own mean, sharpened round by round.

    Returns:
        The template, the textures uint8 (n, canvas, canvas), and the shapes float32 (n, 2, grid, grid): for points of the image,
        how far right and down of the same place on the template they belong, in pixels of 224.
    """
    scales = [_onto(home, chest.lungs) for chest in chests]
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float32)
    boxed = [_sample(c.pixels, s[0] * x + s[1], s[2] * y + s[3]) for c, s in zip(chests, scales, strict=True)]
    prepared = [_edges(image) for image in boxed]
    flows = np.zeros((len(chests), _CANVAS, _CANVAS, 2), np.float32)
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(1)
    own = template is None
    for sigma in _SMOOTHING if own else _SMOOTHING[-1:]:
        if own:
            template = np.mean([_sample(b, x + f[..., 0], y + f[..., 1]) for b, f in zip(boxed, flows, strict=True)], axis=0, dtype=np.float32)
        target = _edges(template)
        for i, image in enumerate(prepared):
            flows[i] = cv2.GaussianBlur(flow.calc(target, image, None), (0, 0), sigma)
        if own:
            flows -= flows.mean(axis=0)
    textures = [_texture(c.pixels, s[0] * (x + f[..., 0]) + s[1], s[2] * (y + f[..., 1]) + s[3]) for c, s, f in zip(chests, scales, flows, strict=True)]
    maps = [_inverse(s, f) for s, f in zip(scales, flows, strict=True)]
    errors = [np.abs(_sample(t, *m) - c.pixels)[20:-20, 20:-20].mean() for c, t, m in zip(chests, textures, maps, strict=True)]
    kept = np.flatnonzero(errors <= np.quantile(errors, _KEPT))
    shapes = [[cv2.resize(axis, (SHAPE_GRID, SHAPE_GRID), interpolation=cv2.INTER_AREA) for axis in _displacement(*maps[i])] for i in kept]
    return template, np.stack([textures[i] for i in kept]), np.asarray(shapes, np.float32)


def principal(
    samples: NDArray[np.uint8] | NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], float, float, float]:
    """Mean and principal components of samples (n, ...), each component scaled to one standard deviation of its coefficient.

    Returns:
        Mean (...), components (count, ...), the root mean square deviation from the mean, what of it the components
        leave out, and the largest part that one sample has in one component's variance.
    """
    flat = samples.reshape(len(samples), -1).astype(np.float32)
    mean = flat.mean(axis=0)
    flat -= mean
    values, vectors = np.linalg.eigh(flat @ flat.T)  # n x n: fewer samples than pixels
    values, vectors = values[::-1].clip(min=0), vectors[:, ::-1]
    components = vectors[:, :count].T @ flat / np.sqrt(len(flat))
    spread, left = (float(np.sqrt(v.sum() / flat.size)) for v in (values, values[count:]))
    shape = samples.shape[1:]
    return mean.reshape(shape), components.reshape(count, *shape), spread, left, float((vectors[:, :count] ** 2).max())


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if image is None or image.shape != (FRAME, FRAME):
        raise OSError(f"{path}: {'cannot be read' if image is None else f'is {image.shape}'}; an image of {FRAME} x {FRAME} is needed")
    return image


def _onto(home: tuple[float, ...], lungs: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Scale and offset, across and down, from the canvas to the image, so that the lungs' boxes meet."""
    across = (lungs[1] - lungs[0]) / (home[1] - home[0])
    down = (lungs[3] - lungs[2]) / (home[3] - home[2])
    return across, lungs[0] - across * (home[0] + MARGIN), down, lungs[2] - down * (home[2] + MARGIN)


def _sample(image: NDArray[np.generic], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.remap(image.astype(np.float32), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def _edges(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    """What the optical flow looks at: local contrast equalised, so that dense and lucent chests compare."""
    smooth = cv2.GaussianBlur(np.clip(image, 0, 255).astype(np.uint8), (0, 0), 1.0)
    return cv2.createCLAHE(3.0, (4, 4)).apply(smooth)


def _texture(image: NDArray[np.uint8], x: NDArray[np.float32], y: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Grey values on the canvas; where it reaches beyond the image, its blurred border instead of streaks."""
    texture = _sample(image, x, y)
    inside = ((x >= 0) & (x <= FRAME - 1) & (y >= 0) & (y <= FRAME - 1)).astype(np.float32)
    near, far = (cv2.GaussianBlur(v, (0, 0), s) for v, s in ((texture * inside, 12), (texture, 36)))
    border = (near + 1e-3 * far) / (cv2.GaussianBlur(inside, (0, 0), 12) + 1e-3)
    weight = cv2.erode(inside, np.ones((3, 3), np.uint8))
    weight *= cv2.GaussianBlur(weight, (0, 0), 1.5)
    return np.clip(np.round(texture * weight + border * (1 - weight)), 0, 255).astype(np.uint8)


def _inverse(scale: tuple[float, float, float, float], flow: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For each pixel of the image its place on the canvas, by damped fixed-point iteration."""
    y, x = np.mgrid[0:FRAME, 0:FRAME].astype(np.float32)
    across, down = ((x - scale[1]) / scale[0]).astype(np.float32), ((y - scale[3]) / scale[2]).astype(np.float32)
    to_x, to_y = across, down
    for _ in range(_RELAXATIONS):
        step = cv2.remap(flow, to_x, to_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        to_x, to_y = (to_x + across - step[..., 0]) / 2, (to_y + down - step[..., 1]) / 2
    return to_x, to_y


def _displacement(to_x: NDArray[np.float32], to_y: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    y, x = np.mgrid[0:FRAME, 0:FRAME].astype(np.float32)
    return to_x - MARGIN - x, to_y - MARGIN - y
