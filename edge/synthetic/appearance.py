"""Draws synthetic chest radiographs from the appearance model in `appearance.npz`, which `export.synthetic` fits.

A radiograph is a *texture* (grey values on a template, where ribs lie on ribs) laid out in a *shape* (where on the
template each point of the image lies). Each is a mean plus a random mixture of principal components (Cootes, Edwards,
Taylor: Active Appearance Models, IEEE PAMI 23, 2001). No image of a patient is in the parameters, and none comes out.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

PARAMETERS = Path(__file__).with_name("appearance.npz")
FRAME = 224
"""Rows and columns of the images that the model was fitted to: the pixel in which its lengths are given."""
MARGIN = 16
"""How far the template reaches beyond the frame on each side."""
TEMPLATE = FRAME + 2 * MARGIN
"""Rows and columns of the template."""
TEXTURE_GRID = 112
"""Rows and columns at which the texture components are kept; the mean is kept at the template's."""
SHAPE_GRID = 28
"""Rows and columns of the grid of displacements that is a shape."""

# Chosen by what two networks trained on real radiographs make of the samples; the README tells how.
_TEXTURE_SPREAD = 0.8
_SHAPE_SPREAD = 0.6
_SHARPENING = 1.0
_SHARPENING_SIGMA = 1.5  # pixels of the template
# Standard deviation, as a part of full scale, at which 12 bits of 2500 x 2048 compress about as well as a detector's.
_GRAIN = 0.003
_GRAIN_PIXELS = 2500 * 2048
_COEFFICIENT_STEP = 1 / 64  # of the finest texture step

_MARK = (
    " #### #   # #   # ##### #   # ##### ##### #####  #### ",
    "#     #   # ##  #   #   #   # #       #     #   #     ",
    "#      # #  ##  #   #   #   # #       #     #   #     ",
    " ###    #   # # #   #   ##### ####    #     #   #     ",
    "    #   #   #  ##   #   #   # #       #     #   #     ",
    "    #   #   #  ##   #   #   # #       #     #   #     ",
    "####    #   #   #   #   #   # #####   #   #####  #### ",
)
_MARK_BORDER = 2
_MARK_PIXEL = 300  # one pixel of the mark for so many rows or columns of the image


class Kind(StrEnum):
    """What a radiograph is drawn to resemble: one of the two labels of the training images."""

    CLEAR = "clear"
    OPACITY = "opacity"


class _Parameters(NamedTuple):
    """One kind's statistics.

    Attributes:
        texture_mean: Grey levels of 255, (template, template); stored as 256ths in uint16.
        textures: (count, texture grid, texture grid), in `texture_steps` grey levels at one standard deviation.
        texture_steps: (count,) grey levels.
        shape_mean: (2, shape grid, shape grid), how much farther right and down on the template a point of the image
            lies, in pixels of the frame; stored as 256ths in int16.
        shapes: (count, 2, shape grid, shape grid), likewise, at one standard deviation.
    """

    texture_mean: NDArray[np.float32]
    textures: NDArray[np.int8]
    texture_steps: NDArray[np.float32]
    shape_mean: NDArray[np.float32]
    shapes: NDArray[np.float32]


def radiograph(kind: Kind, seed: int, rows: int, columns: int) -> NDArray[np.float32]:
    """Draw a radiograph, with a detector's grain and the word SYNTHETIC in its upper left corner.

    The same seed is the same chest at every size, and the same pixels wherever the versions of NumPy and OpenCV are
    the same (elsewhere they may differ in the last of 16 bits). Chests are drawn in the squashed frame of the training
    images: they look right at 5 : 4 (2048 rows x 2500 columns) for `CLEAR` and up to 3 : 2 for `OPACITY`.

    Args:
        kind: What it should resemble.
        seed: Which one, from 0.
        rows: At least 128.
        columns: At least 128.

    Returns:
        float32 (rows, columns), 0 black to 1 white, bone white.

    Raises:
        ValueError: When the seed is negative or the size too small for the mark.
    """
    if min(rows, columns) < 128:
        raise ValueError(f"{rows} x {columns} pixels; the mark SYNTHETIC needs at least 128 x 128: give a larger size")
    image = unmarked(kind, seed, rows, columns)
    image += _random(kind, seed, stream=1).standard_normal(image.shape, np.float32) * np.float32(
        _GRAIN * (rows * columns / _GRAIN_PIXELS) ** 0.5
    )
    np.clip(image, 0, 1, out=image)
    _burn_in_mark(image)
    return image


def unmarked(kind: Kind, seed: int, rows: int, columns: int) -> NDArray[np.float32]:
    """The chest alone, without grain and mark: for measuring how near to a training image it comes.

    Never to be stored or sent. Arguments and result are those of `radiograph`.
    """
    model, random = _parameters(kind), _random(kind, seed, stream=0)
    weights = random.standard_normal(len(model.textures)) * _TEXTURE_SPREAD * model.texture_steps
    shape = model.shape_mean + np.tensordot(
        (random.standard_normal(len(model.shapes)) * _SHAPE_SPREAD).astype(np.float32), model.shapes, axes=1
    )
    texture = _texture(model, weights)
    across, down = (cv2.resize(axis, (columns, rows), interpolation=cv2.INTER_CUBIC) for axis in shape)
    across += (np.arange(columns, dtype=np.float32)[None, :] + 0.5) * (FRAME / columns) - 0.5 + MARGIN
    down += (np.arange(rows, dtype=np.float32)[:, None] + 0.5) * (FRAME / rows) - 0.5 + MARGIN
    image = cv2.remap(texture, across, down, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(np.clip(image / np.float32(255), 0, 1), dtype=np.float32)


def _texture(model: _Parameters, weights: NDArray[np.float64]) -> NDArray[np.float32]:
    """Mix and sharpen: float32 (template, template), 0 to 255 and a little beyond.

    Mixed in integers, so that every processor gets the same sum. Averaging and bending blur; sharpening undoes that.
    """
    unit = float(model.texture_steps.min()) * _COEFFICIENT_STEP
    whole = np.round(weights / unit).astype(np.int32)
    mixture = np.einsum("i,ijk->jk", whole, model.textures, dtype=np.int32).astype(np.float32) * np.float32(unit)
    texture = model.texture_mean + cv2.resize(mixture, (TEMPLATE, TEMPLATE), interpolation=cv2.INTER_CUBIC)
    blurred = cv2.GaussianBlur(texture, (0, 0), _SHARPENING_SIGMA)
    return np.asarray(texture + np.float32(_SHARPENING) * (texture - blurred), dtype=np.float32)


def _burn_in_mark(image: NDArray[np.float32]) -> None:
    """White letters on a black plate: legible whatever lies beneath, and clear of the lungs."""
    plate = np.pad(np.array([[pixel == "#" for pixel in row] for row in _MARK], dtype=np.float32), _MARK_BORDER)
    scale = max(1, min(image.shape) // _MARK_PIXEL)
    plate = np.kron(plate, np.ones((scale, scale), np.float32))
    image[: plate.shape[0], : plate.shape[1]] = plate


def _random(kind: Kind, seed: int, stream: int) -> np.random.Generator:
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: give 0 or more")
    return np.random.Generator(np.random.PCG64([seed, stream, *kind.encode()]))


@cache
def _parameters(kind: Kind) -> _Parameters:
    with np.load(PARAMETERS) as file:
        return _Parameters(
            texture_mean=file[f"{kind}_texture_mean"].astype(np.float32) / 256,
            textures=file[f"{kind}_textures"],
            texture_steps=file[f"{kind}_texture_steps"],
            shape_mean=file[f"{kind}_shape_mean"].astype(np.float32) / 256,
            shapes=file[f"{kind}_shapes"].astype(np.float32) / 256,
        )
