"""The grid of the INT8 weights: what training rounds to, and what both quantizers are put on."""

import torch
from torch import Tensor, nn

GRID_STEPS = 64
"""Weights of INT8 convolutions lie within this many steps: two products of an unsigned 8-bit activation and such a
weight add up to at most 2 * 255 * 64 = 32,640, which 16 bits hold, so CPUs without VNNI cannot saturate."""
HEAD = "head"
"""How every network calls its last convolution, which stays in float: it costs nothing and keeps small differences."""


def on_grid(weight: Tensor) -> Tensor:
    """Weights [out, in, kh, kw] rounded to -64..64 steps of their channel's grid (straight-through gradient)."""
    scale = _step(weight)
    return weight + (torch.round(weight / scale) * scale - weight).detach()


def rounded_weights(network: nn.Module) -> dict[str, Tensor]:
    """The weights of every convolution but the heads, on their grid, by name: for `torch.func.functional_call`.

    A batch norm behind a convolution scales each channel and its grid alike: folded weights lie on a grid too.
    """
    return {f"{name}.weight": on_grid(layer.weight) for name, layer in _convolutions(network)}


def snap_weights(network: nn.Module) -> None:
    """Replaces the weights by their rounded ones, for good: quantizers on the same grid then lose nothing."""
    for _, layer in _convolutions(network):
        layer.weight.data = on_grid(layer.weight.data)


def _convolutions(network: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    named = network.named_modules()
    return [(name, layer) for name, layer in named if isinstance(layer, nn.Conv2d) and name.split(".")[-1] != HEAD]


def _step(weight: Tensor) -> Tensor:
    """The step of each output channel's grid [out, 1, 1, 1]: its largest weight is 64 steps (7 bits)."""
    return weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) / GRID_STEPS
