"""A recipe's members folded into one graph: each sees the image its own way, their answers are averaged."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from export.architectures.mobilenet_v2 import MobileNetV2Grey
from export.recipe import Architecture, MemberRecipe, Recipe

_COARSE = 8
"""Pixels of the input to a pixel of the surroundings: means over a window vary too slowly to need more."""
_WINDOW = 5
"""Side of the window in which ``relief`` measures contrast, in coarse pixels: about a seventh of a chest."""


class Member(nn.Module):
    """One network with its view of the image."""

    def __init__(self, network: nn.Module, view: str) -> None:
        super().__init__()
        self.network = network
        self.relief = view == "relief"

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """What the network gives for its view of ``image`` [N, 1, H, W] in 0..1."""
        seen = relief(image) if self.relief else image
        outputs: tuple[Tensor, ...] = self.network(seen)
        return outputs


class Ensemble(nn.Module):
    """All members in one pass: mean logits and cam (or mask), and the first member's embedding."""

    def __init__(self, members: Sequence[tuple[str, nn.Module]]) -> None:
        super().__init__()
        self.names = [name for name, _ in members]
        for name, network in members:
            self.add_module(name, network)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Logits, cam and embedding, or the mask, for ``image`` [N, 1, H, W] in 0..1."""
        answers = [getattr(self, name)(image) for name in self.names]
        if len(answers) == 1:
            alone: tuple[Tensor, ...] = answers[0]
            return alone
        mixed = [torch.stack(outputs).mean(dim=0) for outputs in zip(*(answer[:2] for answer in answers), strict=True)]
        return (*mixed, *answers[0][2:])


def member(recipe: MemberRecipe, findings: int) -> Member:
    """The untrained network of one member, with one output per finding."""
    return Member(_network(recipe.architecture, findings), recipe.view)


def build(recipe: Recipe) -> Ensemble:
    """The untrained ensemble of a recipe."""
    members = recipe.training.members
    return Ensemble([(each.name, member(each, len(recipe.findings))) for each in members])


def output_names(recipe: Recipe) -> tuple[str, ...]:
    """What the outputs of the graph are called, in the order of the forward pass."""
    return ("mask",) if recipe.task == "segmentation" else ("logits", "cam", "embedding")


def _network(architecture: Architecture, findings: int) -> nn.Module:
    if architecture == "mobilenet_v2":
        return MobileNetV2Grey(findings)
    from export.architectures.monai_networks import NETWORKS  # noqa: PLC0415 - two seconds that ours need not wait

    return NETWORKS[architecture](findings)


def relief(image: Tensor) -> Tensor:
    """Local contrast [N, 1, H, W] in 0..1: how far a pixel stands above its surroundings, in their standard deviations.

    Exposure, window and smooth shading fall out, edges and textures remain.
    """
    centre, square = _surroundings(image), _surroundings(image * image)
    scale = 1.0 / (6.0 * ((square - centre * centre).clamp_min(0.0).sqrt() + 0.02))
    wide = functional.interpolate(torch.cat([centre, scale], dim=1), scale_factor=float(_COARSE), mode="bilinear")
    return (0.5 + (image - wide[:, :1]) * wide[:, 1:]).clamp(0.0, 1.0)


def _surroundings(image: Tensor) -> Tensor:
    """The mean over a square window in coarse pixels, borders counting what lies inside."""
    coarse = functional.avg_pool2d(image, _COARSE)
    return functional.avg_pool2d(coarse, _WINDOW, stride=1, padding=_WINDOW // 2, count_include_pad=False)
