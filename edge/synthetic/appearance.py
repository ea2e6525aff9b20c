"""Draws synthetic chest radiographs from the appearance model in `appearance.npz` (fitted by `export.synthetic`).

A radiograph is a texture (grey values on a template on which ribs lie on ribs) laid out in a shape (where on the template each point of
the image lies). Both are a mean plus a random mixture of principal components (Cootes, Edwards, Taylor: Active Appearance Models, PAMI 2001).
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

FRAME = 224
"""Rows and columns of the images that the model was fitted to; its lengths are in these pixels."""
MARGIN = 16
"""How far the template reaches beyond the frame on each side."""
SHAPE_GRID = 28
"""Rows and columns of the grid of displacements that is a shape."""
PARAMETERS = Path(__file__).with_name("appearance.npz")

_TEXTURE_SPREAD = 0.8
_SHAPE_SPREAD = 0.8
_COEFFICIENT_STEP = 1 / 64


class Kind(StrEnum):
    """What a radiograph is drawn to look like: the two labels of the training set."""

    CLEAR = "clear"
    OPACITY = "opacity"


class Appearance(NamedTuple):
    """The parameters of one kind, as stored.

    Attributes:
        texture_mean: uint16 (canvas, canvas), 1/256 grey level of 0..255.
        textures: int8 (components, canvas, canvas), `step` grey levels at one standard deviation.
        shape_mean: int16 (2, grid, grid), right and down, 1/256 pixel of the frame.
        shapes: int16 (components, 2, grid, grid), 1/256 pixel at one standard deviation.
        step: Grey levels.
    """

    texture_mean: NDArray[np.uint16]
    textures: NDArray[np.int8]
    shape_mean: NDArray[np.int16]
    shapes: NDArray[np.int16]
    step: float


def unmarked(kind: Kind, seed: int, rows: int, columns: int) -> NDArray[np.float32]:
    """A radiograph without grain and mark: float32 (rows, columns), 0 black to 1 white."""
    model = _appearance(kind)
    random = np.random.Generator(np.random.PCG64([seed, *kind.encode()]))
    texture = model.texture_mean / np.float32(256) + _mixture(random, model.textures, _TEXTURE_SPREAD) * np.float32(
        model.step
    )
    shape = (model.shape_mean + _mixture(random, model.shapes, _SHAPE_SPREAD)) / np.float32(256)
    right, down = (cv2.resize(axis, (columns, rows), interpolation=cv2.INTER_CUBIC) for axis in shape)
    x = (np.arange(columns, dtype=np.float32) + 0.5) * np.float32(FRAME / columns) - 0.5 + MARGIN
    y = (np.arange(rows, dtype=np.float32) + 0.5) * np.float32(FRAME / rows) - 0.5 + MARGIN
    image = cv2.remap(
        texture, x[None, :] + right, y[:, None] + down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
    )
    return np.clip(image / 255, 0, 1)


def _mixture(random: np.random.Generator, components: NDArray[np.integer], spread: float) -> NDArray[np.float32]:
    """Components mixed by normal coefficients, in integers: the same on every processor."""
    coefficients = np.round(random.standard_normal(len(components)) * spread / _COEFFICIENT_STEP).astype(np.int32)
    return np.einsum("i,i...->...", coefficients, components, dtype=np.int32).astype(np.float32) * np.float32(
        _COEFFICIENT_STEP
    )


@cache
def _appearance(kind: Kind) -> Appearance:
    with np.load(PARAMETERS) as file:
        names = ("texture_mean", "textures", "shape_mean", "shapes")
        return Appearance(*(file[f"{kind}_{name}"] for name in names), step=float(file["step"]))
