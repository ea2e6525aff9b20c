"""Fits the templates of the box's quality checks (`edge.imaging.quality.templates`) to real radiographs.

The heart's side and the cut edges are conditional logits (McFadden 1974) over a 16 by 16 copy: of two versions, how
much more does the true one look like what the template is named after? The tilt is a linear regression; the
orientation is `quality_orientation`'s. Few weights fitted to thousands of images hold no picture of any. The same
images give the same file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.imaging.quality.orientation import around
from edge.imaging.quality.positioning import LUNG_FROM
from edge.imaging.quality.reduced import grid, reduced
from edge.imaging.quality.templates import PARAMETERS, Templates
from export.quality_images import (
    ADULTS,
    CHILDREN,
    SIDES,
    Grey,
    Mask,
    cut,
    outline,
    outliner,
    radiographs,
    tilted,
    touches,
)
from export.quality_orientation import fit_orientation, versions

_IMAGES = 4000
_RIDGE = 1e-3
_TILT_RIDGE = 1000.0
_SHARES = (0.15, 0.25, 0.40)
_DEGREES = 30.0
_TURNS = 6
_TILT_WIDTH = 96
_LEAST_LUNGS = 0.05
_ROUNDS = 30

_Rows = NDArray[np.float64]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was fitted to: images of the tuning half by set, and how many iterations each linear template took."""

    images: dict[str, int]
    iterations: dict[str, int]


class Example(NamedTuple):
    """A radiograph of the tuning half, its set, and its lungs."""

    of: str
    pixels: Grey
    lungs: Mask


def fit(data: Path, destination: Path = PARAMETERS) -> Report:
    """Fit all templates and write them.

    Args:
        data: The folder with the data sets `cxr_kermany` and `cxr_nih`, each with its `labels.csv`.
        destination: The .npz to write.

    Raises:
        ScansideError: A data set cannot be read.
        BundleError, EngineError: The lungs of images without a mask cannot be outlined.
    """
    try:
        examples = list(_examples(data))
    except (OSError, KeyError, ValueError) as error:
        raise ScansideError(f"{data}: cannot be read ({error}): give the folder that holds the data sets") from error
    sets = [example.of for example in examples]
    weights = _balanced(sets)
    iterations: dict[str, int] = {}
    fitted: dict[str, NDArray[Any]] = {}
    hearts = np.stack([_sides(grid(around(reduced(each.pixels), each.lungs.astype(np.float32)))) for each in examples])
    fitted["heart_left"], iterations["heart_left"] = conditional_logit(hearts, weights)
    drawn = np.random.default_rng(0)
    grids = np.stack([squares for each in examples for squares in versions(each.pixels, each.lungs, drawn)])
    fitted["hidden"], fitted["constant"], fitted["out"] = fit_orientation(grids, np.repeat(weights, 4))
    for side in ("top", "bottom", "right"):
        name = f"cut_{side}"
        fitted[name], iterations[name] = conditional_logit(*_cut_versions(examples, side))
    fitted["tilt"] = _tilt(examples)
    ordered = Templates(**{name: fitted[name].astype(np.float32) for name in Templates._fields})
    np.savez(destination, **ordered._asdict())
    return Report(images={name: sets.count(name) for name in sorted(set(sets))}, iterations=iterations)


def conditional_logit(versions: _Rows, weights: _Rows) -> tuple[_Rows, int]:
    """The weights w that best choose the first version of each sample by softmax(versions @ w), and the iterations.

    Newton's method on the mean log loss plus `1e-3 |w|^2`.

    Args:
        versions: float64 (samples, versions, features).
        weights: Of the samples, (samples,), summing to one.
    """
    features = versions.shape[2]
    found = np.zeros(features)
    iteration = 0
    while iteration < _ROUNDS:
        iteration += 1
        scores = versions @ found
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        mean = np.einsum("nk,nkf->nf", chances, versions)
        gradient = (weights[:, None] * (mean - versions[:, 0])).sum(axis=0) + 2 * _RIDGE * found
        flat = versions.reshape(-1, features)
        spread = (flat * (weights[:, None] * chances).reshape(-1, 1)).T @ flat - (mean * weights[:, None]).T @ mean
        step = np.linalg.solve(spread + 2 * _RIDGE * np.eye(features), gradient)
        found -= step
        if float(np.abs(step).max()) < 1e-6:
            break
    return found, iteration


def _examples(data: Path) -> Iterable[Example]:
    outlines = outliner()
    for name in (CHILDREN, ADULTS):
        for radiograph in radiographs(data, name, _IMAGES):
            if radiograph.tuning and not radiograph.stored:
                lungs = (
                    radiograph.lungs
                    if radiograph.lungs is not None
                    else outline(outlines, radiograph.pixels) >= LUNG_FROM
                )
                if float(lungs.mean()) >= _LEAST_LUNGS:
                    yield Example(name, radiograph.pixels, lungs)


def _balanced(*groups: Sequence[object]) -> _Rows:
    """Weights by which each combination of the groups' values counts alike; they sum to one."""
    keys = list(zip(*groups, strict=True))
    counts = {key: keys.count(key) for key in set(keys)}
    return np.array([1 / (len(counts) * counts[key]) for key in keys])


def _sides(squares: Grey) -> _Rows:
    return np.stack([squares.ravel(), squares[:, ::-1].ravel()]).astype(np.float64)


def _cut_versions(examples: Sequence[Example], side: str) -> tuple[_Rows, _Rows]:
    """Images cut at this side against whole ones, their mirror images, and ones cut elsewhere."""
    rows, signs, sets = [], [], []

    def add(pixels: Grey, sign: int, name: str) -> None:
        rows.append(grid(reduced(pixels)).ravel())
        signs.append(sign)
        sets.append(name)

    for example in (example for example in examples if not touches(example.lungs)):
        for version in (example.pixels, example.pixels[:, ::-1]):
            add(version, -1, example.of)
        for other in SIDES:
            for share in _SHARES:
                pixels = cut(example.pixels, example.lungs, other, share)
                if other == side:
                    add(pixels, 1, example.of)
                elif (other, side) == ("left", "right"):
                    add(pixels[:, ::-1], 1, example.of)
                elif share == _SHARES[1]:
                    add(pixels, -1, example.of)
    signed = np.array(signs)[:, None] * np.column_stack([np.array(rows, dtype=np.float64), np.ones(len(rows))])
    return np.stack([signed, np.zeros_like(signed)], axis=1), _balanced(sets, signs)


def _tilt(examples: Sequence[Example]) -> _Rows:
    """Degrees by linear regression over images turned at random; a mirror image leans the other way."""
    drawn = np.random.default_rng(0)
    rows, degrees = [], []
    for example in examples:
        height = round(_TILT_WIDTH * example.pixels.shape[0] / example.pixels.shape[1])
        small = cv2.resize(example.pixels, (_TILT_WIDTH, height), interpolation=cv2.INTER_AREA)
        for turn in range(_TURNS):
            angle = float(drawn.uniform(-_DEGREES, _DEGREES))
            squares = grid(tilted(small, angle, black=turn % 2 == 0))
            rows += [squares.ravel(), squares[:, ::-1].ravel()]
            degrees += [angle, -angle]
    features = np.array(rows, dtype=np.float64)
    spread = features.T @ features + _TILT_RIDGE * np.eye(features.shape[1])
    return np.asarray(np.linalg.solve(spread, features.T @ np.array(degrees)))
