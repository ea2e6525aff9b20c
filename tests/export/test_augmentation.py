from __future__ import annotations

import msgspec
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
    assert torch.allclose(augment(images, UNCHANGED, _random()).images, images, atol=1e-3)


def test_it_stays_in_range_is_finite_and_repeats_with_its_seed() -> None:
    images = torch.rand(8, 1, 64, 64)
    first, again, other = (augment(images, AugmentationRecipe(), _random(seed)).images for seed in (1, 1, 2))
    assert torch.isfinite(first).all()
    assert 0.0 <= float(first.min()) <= float(first.max()) <= 1.0
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_left_stays_left_and_top_stays_top() -> None:
    images = torch.zeros(32, 1, 64, 64)
    images[:, :, :16, :16] = 1.0  # a marker in the upper left corner, as for the patient's right side
    recipe = AugmentationRecipe(erase=0.0, noise=0.0, shading=0.0, brightness=0.0)
    changed = augment(images, recipe, _random()).images
    upper_left = changed[:, :, :32, :32].sum(dim=(1, 2, 3))
    assert (upper_left > 0.6 * changed.sum(dim=(1, 2, 3))).all()


def test_masks_move_with_their_images_and_change_in_no_other_way() -> None:
    masks = torch.zeros(16, 1, 64, 64)
    masks[:, :, 10:40, 20:50] = 1.0
    recipe = AugmentationRecipe(
        log_gamma=0, contrast=0, brightness=0, shading=0, noise=0, smallest_side=64, sharpen=0, erase=0, mirror=0.5
    )
    images, moved, lungs = augment(masks.clone(), recipe, _random(), masks=masks, lungs=masks)
    assert moved is not None
    assert lungs is not None
    assert torch.equal(moved, lungs)
    assert torch.allclose(images, moved, atol=1e-3)  # nothing but the position changes under this recipe
    assert not torch.allclose(moved, masks, atol=0.1)


def test_a_mirror_swaps_left_and_right_in_its_share() -> None:
    images = torch.zeros(64, 1, 64, 64)
    images[:, :, :, :16] = 1.0
    changed = augment(images, msgspec.structs.replace(UNCHANGED, mirror=0.5), _random()).images
    mirrored = changed[:, :, :, 40:].sum(dim=(1, 2, 3)) > changed[:, :, :, :24].sum(dim=(1, 2, 3))
    assert 16 < int(mirrored.sum()) < 48


def test_a_share_of_the_images_keeps_its_place() -> None:
    images = torch.rand(64, 1, 32, 32)
    recipe = msgspec.structs.replace(UNCHANGED, rotation_degrees=8, shift=0.1, unmoved=0.5)
    moved = (augment(images, recipe, _random()).images - images).abs().amax(dim=(1, 2, 3)) > 0.05
    assert 16 < int(moved.sum()) < 48


def test_the_background_changes_and_the_lungs_stay() -> None:
    images = torch.rand(64, 1, 64, 64)
    lungs = torch.zeros_like(images)
    lungs[:32, :, 16:48, 16:48] = 1.0  # the other half of the images has no mask
    recipe = msgspec.structs.replace(UNCHANGED, background=0.5)
    difference = (augment(images, recipe, _random(), lungs=lungs).images - images).abs()
    changed = difference[:, :, :8].amax(dim=(1, 2, 3)) > 0.05
    assert 8 < int(changed[:32].sum()) < 24
    assert not changed[32:].any()
    assert float(difference[:, :, 22:42, 22:42].max()) < 1e-3
