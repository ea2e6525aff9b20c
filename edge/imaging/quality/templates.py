"""What was learned of a chest radiograph's look from a 16 by 16 copy, fitted by `scanside-export templates`.

A template is one vector of 256 weights; its product with `reduced.grid` is a score. Positive means more of what it is
named after. For the orientation it takes a layer between. What a mirror image or a turn would need of its own is had by
mirroring or turning the image.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

PARAMETERS = Path(__file__).with_name("templates.npz")

_Grid = NDArray[np.float32]


class Templates(NamedTuple):
    """Weights, float32.

    Attributes:
        hidden: (256, n), of the network that scores a chest the right way up and round, white on black.
        constant: (n,), added to its products.
        out: (n,), with which they are summed where they are positive.
        heart_left: (256,), the heart on the image's right, in the lungs' own box.
        tilt: (256,), degrees by which the image is turned counter-clockwise.
        cut_top: (257,), the last a constant: log odds that the lungs are cut off at the image's upper edge.
        cut_bottom: (257,), at its lower edge.
        cut_right: (257,), at its right edge.
    """

    hidden: NDArray[np.float32]
    constant: NDArray[np.float32]
    out: NDArray[np.float32]
    heart_left: NDArray[np.float32]
    tilt: NDArray[np.float32]
    cut_top: NDArray[np.float32]
    cut_bottom: NDArray[np.float32]
    cut_right: NDArray[np.float32]


@cache
def templates() -> Templates:
    """Those that came with the software."""
    with np.load(PARAMETERS) as stored:
        return Templates(**{name: stored[name] for name in Templates._fields})


def sixteen_ways(grid: _Grid) -> _Grid:
    """A grid in all its ways, (16, 256): turned by 0, 90, 180, 270 degrees, mirrored likewise; then all exchanged."""
    turns = np.stack([np.rot90(image, turn).ravel() for image in (grid, grid[:, ::-1]) for turn in range(4)])
    return np.concatenate([turns, -turns])


def uprightness(grid: _Grid) -> _Grid:
    """How much each of the sixteen ways looks like a chest the right way, (16,): differences are log odds."""
    known = templates()
    return np.asarray(np.maximum(sixteen_ways(grid) @ known.hidden + known.constant, 0) @ known.out)


def score(template: NDArray[np.float32], grid: _Grid) -> float:
    """The product of a template with a grid, and its constant where it has one."""
    return float(template[: grid.size] @ grid.ravel() + template[grid.size :].sum())
