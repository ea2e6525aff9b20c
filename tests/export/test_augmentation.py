from __future__ import annotations

import torch

from export.augmentation import augment
from export.recipe import AugmentationRecipe

UNCHANGED = AugmentationRecipe(
    rotation_degrees=0, shift=0, scale=0, aspect=0, log_gamma=0, contrast=0, brightness=0, shading=0, noise=0,
    smallest_side=64, sharpen=0, erase=0,
)  # fmt: skip


def _random(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_zero_ranges_change_nothing() -> None:
    images = torch.rand(4, 1, 64, 64) * 0.9 + 0.05
    assert torch.allclose(augment(images, UNCHANGED, _random()), images, atol=1e-3)


def test_it_stays_in_range_is_finite_and_repeats_with_its_seed() -> None:
    images = torch.rand(8, 1, 64, 64)
    first, again, other = (augment(images, AugmentationRecipe(), _random(seed)) for seed in (1, 1, 2))
    assert torch.isfinite(first).all()
    assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_left_stays_left_and_top_stays_top() -> None:
    images = torch.zeros(32, 1, 64, 64)
    images[:, :, :16, :16] = 1.0  # a marker in the upper left corner, as for the patient's right side
    recipe = AugmentationRecipe(erase=0.0, noise=0.0, shading=0.0, brightness=0.0)
    changed = augment(images, recipe, _random())
    upper_left = changed[:, :, :32, :32].sum(dim=(1, 2, 3))
    assert (upper_left > 0.6 * changed.sum(dim=(1, 2, 3))).all()
