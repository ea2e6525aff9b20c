"""Changes that a radiograph may meet on its way to the network: position, exposure, detector, but never a mirror."""

import math

import torch
from torch import Tensor
from torch.nn import functional

from export.recipe import AugmentationRecipe


def augment(images: Tensor, recipe: AugmentationRecipe, random: torch.Generator) -> Tensor:
    """Returns changed copies of ``images``, float32 [N, 1, H, W] in 0..1; deterministic for a given generator."""
    moved = _move(images, recipe, random)
    resampled = _resample(moved, recipe, random)
    exposed = _expose(resampled, recipe, random)
    return _erase(exposed, recipe.erase, random).clamp(0.0, 1.0)


def _uniform(count: int, amplitude: float, random: torch.Generator) -> Tensor:
    return (torch.rand(count, generator=random) * 2.0 - 1.0) * amplitude


def _move(images: Tensor, recipe: AugmentationRecipe, random: torch.Generator) -> Tensor:
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
    grid = functional.affine_grid(matrix, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


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
