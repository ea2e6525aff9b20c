"""Changes that a radiograph may meet on its way to the network: position, exposure, detector; mirrors on request."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from export.recipe import AugmentationRecipe


class Augmented(NamedTuple):
    """Changed copies of some images, and of their masks and lungs where given."""

    images: Tensor
    masks: Tensor | None
    lungs: Tensor | None


def augment(
    images: Tensor,
    recipe: AugmentationRecipe,
    random: torch.Generator,
    *,
    masks: Tensor | None = None,
    lungs: Tensor | None = None,
) -> Augmented:
    """Changed copies of ``images``, float32 [N, 1, H, W] in 0..1; deterministic for a given generator.

    Args:
        images: The images.
        recipe: How far they may be changed.
        random: Where the draws come from.
        masks: [N, 1, H, W] in 0..1: move with their images and are changed in no other way.
        lungs: [N, 1, H, W] of 0 and 1, the lungs with a margin: move likewise, and are what
            `AugmentationRecipe.background` keeps.
    """
    if lungs is not None and recipe.background:
        images = _change_background(images, lungs, recipe.background, random)
    grid = _grid(images, recipe, random)
    exposed = _expose(_resample(_moved(images, grid, random), recipe, random), recipe, random)
    moved = (None if each is None else _sample(each, grid, "zeros") for each in (masks, lungs))
    return Augmented(_erase(exposed, recipe.erase, random).clamp(0.0, 1.0), *moved)


def _uniform(count: int, amplitude: float, random: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=random) * 2.0 - 1.0) * amplitude


def _grid(images: Tensor, recipe: AugmentationRecipe, random: torch.Generator) -> Tensor:
    """Where each pixel comes from: rotated, zoomed, stretched, shifted, and mirrored where the recipe allows that."""
    count = len(images)
    angle = _uniform(count, math.radians(recipe.rotation_degrees), random)
    zoom = torch.exp(_uniform(count, recipe.scale, random))
    stretch = torch.exp(_uniform(count, recipe.aspect / 2.0, random))
    across, down = _uniform(count, 2.0 * recipe.shift, random), _uniform(count, 2.0 * recipe.shift, random)
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    matrix = torch.stack(
        [
            torch.stack([cosine * stretch, -sine * stretch, across], dim=1),
            torch.stack([sine / stretch, cosine / stretch, down], dim=1),
        ],
        dim=1,
    )
    if recipe.mirror:
        mirrored = torch.rand(count, generator=random) < recipe.mirror
        matrix[:, 0] *= torch.where(mirrored, -1.0, 1.0)[:, None]
    if recipe.unmoved:
        kept = torch.rand(count, generator=random) < recipe.unmoved
        matrix[kept] = torch.eye(2, 3)
    return functional.affine_grid(matrix, list(images.shape), align_corners=False)


def _moved(images: Tensor, grid: Tensor, random: torch.Generator) -> Tensor:
    """Sampled where the grid says; what comes in from outside is black, as a collimator leaves it, or like the edge."""
    black = torch.rand(len(images), generator=random) < 0.5
    return torch.where(black[:, None, None, None], _sample(images, grid, "zeros"), _sample(images, grid, "border"))


def _sample(images: Tensor, grid: Tensor, outside: str) -> Tensor:
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode=outside, align_corners=False)


def _change_background(images: Tensor, lungs: Tensor, chance: float, random: torch.Generator) -> Tensor:
    """Puts the lungs of some images into another image's surroundings, or into a flat grey."""
    count = len(images)
    others = images[torch.randperm(count, generator=random)]
    flat = torch.rand(count, generator=random)[:, None, None, None].expand_as(images)
    draws = torch.rand((count, 2), generator=random)
    surroundings = torch.where((draws[:, 0] < 0.5)[:, None, None, None], others, flat)
    changed = (draws[:, 1] < chance) & (lungs.sum(dim=(1, 2, 3)) > 0)
    kept = functional.avg_pool2d(lungs, 9, stride=1, padding=4, count_include_pad=False)
    mixed = images * kept + surroundings * (1.0 - kept)
    return torch.where(changed[:, None, None, None], mixed, images)


def _resample(images: Tensor, recipe: AugmentationRecipe, random: torch.Generator) -> Tensor:
    """Loses detail in one half of the images, as soft exposures and compression do, and sharpens the other half."""
    side, count = images.shape[-1], len(images)
    target = int(torch.randint(min(recipe.smallest_side, side), side + 1, (1,), generator=random))
    small = functional.interpolate(images, size=(target, target), mode="bilinear", antialias=True)
    soft = functional.interpolate(small, size=images.shape[-2:], mode="bilinear")
    amount = torch.rand(count, generator=random)[:, None, None, None] * recipe.sharpen
    sharp = images + amount * (images - functional.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False))
    half = torch.rand(count, generator=random) < 0.5
    return torch.where(half[:, None, None, None], soft, sharp)


def _expose(images: Tensor, recipe: AugmentationRecipe, random: torch.Generator) -> Tensor:
    count = len(images)

    def each(values: Tensor) -> Tensor:
        return values[:, None, None, None]

    toned = images.clamp_min(1e-4) ** each(torch.exp(_uniform(count, recipe.log_gamma, random)))
    coarse = 1.0 + (torch.rand((count, 1, 3, 3), generator=random) * 2.0 - 1.0) * recipe.shading
    toned = toned * functional.interpolate(coarse, size=images.shape[-2:], mode="bicubic", align_corners=True)
    contrast = each(torch.exp(_uniform(count, recipe.contrast, random)))
    brightness = each(_uniform(count, recipe.brightness, random))
    centre = toned.mean(dim=(2, 3), keepdim=True)
    grain = each(torch.rand(count, generator=random) * recipe.noise)
    noise = torch.randn(images.shape, generator=random) * grain
    return (toned - centre) * contrast + centre + brightness + noise


def _erase(images: Tensor, chance: float, random: torch.Generator) -> Tensor:
    """Blanks one rectangle of up to a third of each side in ``chance`` of the images."""
    count, _, height, width = images.shape
    draws = torch.rand((count, 6), generator=random)
    rows, columns = torch.arange(height)[None, :], torch.arange(width)[None, :]
    tall, wide = draws[:, 0:1] * height / 3.0, draws[:, 1:2] * width / 3.0
    top, left = draws[:, 2:3] * (height - tall), draws[:, 3:4] * (width - wide)
    in_rows, in_columns = (rows >= top) & (rows < top + tall), (columns >= left) & (columns < left + wide)
    blanked = in_rows[:, :, None] & in_columns[:, None, :] & (draws[:, 4] < chance)[:, None, None]
    return torch.where(blanked[:, None], draws[:, 5][:, None, None, None], images)
