"""Fits the small network by which the quality checks know a chest that is stored the right way.

Of sixteen versions of one image (eight orientations, and the negative of each) it must score the true one highest. A
linear template does that for well positioned images, but takes a chest that is cut off or shifted for one that is
turned; one hidden layer does not. The same images give the same network.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from edge.imaging.quality.reduced import exposed, grid, reduced
from edge.imaging.quality.templates import sixteen_ways
from export.quality_images import SIDES, Grey, Mask, cut, shifted, tilted

HIDDEN = 32
_EPOCHS, _BATCH = 60, 96
_RATE, _DECAY = 2e-3, 0.06
_MOMENTUM, _SPREAD = 0.9, 0.999
_SHARES = (0.1, 0.4)
_SHIFTS = (0.1, 0.35)
_DEGREES = 30.0

_Array = NDArray[np.float32]
Layers = tuple[_Array, _Array, _Array]
"""Weights (256, hidden), their constants (hidden,), and the weights (hidden,) of what they are summed to."""


def versions(pixels: Grey, lungs: Mask, drawn: np.random.Generator) -> Iterable[_Array]:
    """The grids of an image as it is, cut off, tilted and shifted: badly positioned is no less upright."""
    yield _grid(pixels)
    yield _grid(cut(pixels, lungs, _side(drawn), float(drawn.uniform(*_SHARES))))
    angle = float(drawn.uniform(-_DEGREES, _DEGREES))
    yield _grid(tilted(pixels, angle, black=bool(drawn.integers(2))))
    yield _grid(shifted(pixels, _side(drawn), float(drawn.uniform(*_SHIFTS))))


def fit_orientation(grids: _Array, weights: NDArray[np.float64]) -> Layers:
    """The network that best tells the grids from their turned, mirrored and exchanged versions.

    Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019) on the log loss, the rate falling as a cosine.

    Args:
        grids: float32 (images, 16, 16).
        weights: How much each counts.
    """
    drawn = np.random.default_rng(0)
    layers = [
        drawn.normal(0, 1 / 16, (grids[0].size, HIDDEN)).astype(np.float32),
        np.zeros(HIDDEN, dtype=np.float32),
        drawn.normal(0, 0.3, HIDDEN).astype(np.float32),
    ]
    means, spreads = ([np.zeros_like(layer) for layer in layers] for _ in range(2))
    share, steps = (weights / weights.mean()).astype(np.float32), len(grids) // _BATCH
    for step in range(1, _EPOCHS * steps + 1):
        if (step - 1) % steps == 0:
            order = drawn.permutation(len(grids))
        picked = order[(step - 1) % steps * _BATCH :][:_BATCH]
        rate = _RATE * 0.5 * (1 + np.cos(np.pi * step / (_EPOCHS * steps)))
        gradients = _gradients(layers, grids[picked], share[picked])
        for at, gradient in enumerate(gradients):
            means[at] += (1 - _MOMENTUM) * (gradient - means[at])
            spreads[at] += (1 - _SPREAD) * (gradient**2 - spreads[at])
            likely = means[at] / (1 - _MOMENTUM**step) / (np.sqrt(spreads[at] / (1 - _SPREAD**step)) + 1e-8)
            layers[at] -= (rate * (likely + _DECAY * layers[at])).astype(np.float32)
    return layers[0], layers[1], layers[2]


def _gradients(layers: list[_Array], grids: _Array, share: _Array) -> tuple[_Array, _Array, _Array]:
    """Of the weighted mean of -log softmax(scores)[0], by layer."""
    hidden, constant, out = layers
    ways = np.concatenate([sixteen_ways(squares) for squares in grids])
    active = np.maximum(ways @ hidden + constant, 0)
    scores = (active @ out).reshape(len(grids), -1)
    wrong = np.exp(scores - scores.max(axis=1, keepdims=True))
    wrong /= wrong.sum(axis=1, keepdims=True)
    wrong[:, 0] -= 1
    wrong = (wrong * share[:, None] / len(grids)).reshape(-1, 1)
    back = (wrong * out) * (active > 0)
    return ways.T @ back, back.sum(axis=0), (active * wrong).sum(axis=0)


def _grid(pixels: Grey) -> _Array:
    return grid(exposed(reduced(pixels)))


def _side(drawn: np.random.Generator) -> str:
    return SIDES[int(drawn.integers(len(SIDES)))]
