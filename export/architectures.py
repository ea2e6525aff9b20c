"""The networks that Scanside trains: one forward pass gives logits, class activation map and embedding."""

from pathlib import Path
from typing import Literal, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from edge.errors import ScansideError

Output = Literal["logits", "cam", "embedding"]
OUTPUT_NAMES: tuple[Output, ...] = get_args(Output)
GRID_STEPS = 64
"""Weights of INT8 convolutions lie within this many steps: two products of an unsigned 8-bit activation and such a
weight add up to at most 2 * 255 * 64 = 32,640, which 16 bits hold, so CPUs without VNNI cannot saturate."""
# Inverted residual stages of MobileNetV2 (Sandler et al., CVPR 2018, table 2): expansion, channels, repeats, stride.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_STEM_CHANNELS = 32
_EMBEDDING_CHANNELS = 1280


class WeightsError(ScansideError):
    """Weights that do not fit a network; the message is one line."""


class MobileNetV2Grey(nn.Module):
    """MobileNetV2 1.0 for one grey channel, with a class activation head.

    The batch norms are folded (the weights come that way), strided convolutions pad as TensorFlow does, and the
    normalisation ``x * 2 - 1`` is part of the graph, so the input is float32 [N, 1, H, W] in 0..1 (0 black, 1 white).
    """

    def __init__(self, findings: int) -> None:
        super().__init__()
        self.stem = _SameConv2d(1, _STEM_CHANNELS, kernel=3, stride=2)
        blocks: list[nn.Module] = []
        channels = _STEM_CHANNELS
        for expansion, width, repeats, stride in _STAGES:
            for repeat in range(repeats):
                blocks.append(_InvertedResidual(channels, width, stride if repeat == 0 else 1, expansion))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        self.last = _SameConv2d(channels, _EMBEDDING_CHANNELS, kernel=1)
        self.head = nn.Conv2d(_EMBEDDING_CHANNELS, findings, kernel_size=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, K], cam [N, K, H/32, W/32] and embedding [N, 1280]; logits are cam's spatial mean plus bias."""
        features = functional.relu6(self.stem(image * 2.0 - 1.0))
        features = functional.relu6(self.last(self.blocks(features)))
        cam = self.head(features)
        return cam.mean(dim=(2, 3)) + self.bias, cam, features.mean(dim=(2, 3))

    def load_imagenet(self, weights: Path) -> None:
        """Loads the backbone from an ``.npz`` of folded convolutions ``wNN`` (out, in/groups, kh, kw) and ``bNN``.

        The first convolution is summed over its three input channels: a grey image is the same in each.

        Raises:
            WeightsError: The file cannot be read, or holds other shapes than this network's.
        """
        try:
            loaded = np.load(weights)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{weights}: no readable .npz ({error}); correct training.weights") from error
        with loaded as arrays:
            for index, layer in enumerate(self.convolutions()):
                weight, bias = arrays[f"w{index:02d}"], arrays[f"b{index:02d}"]
                if index == 0:
                    weight = weight.sum(axis=1, keepdims=True)
                if weight.shape != tuple(layer.weight.shape):
                    raise WeightsError(
                        f"{weights.name}: convolution {index} has shape {weight.shape}, MobileNetV2 1.0 has "
                        f"{tuple(layer.weight.shape)}; use weights of MobileNetV2 1.0 with its batch norms folded"
                    )
                with torch.no_grad():
                    layer.weight.copy_(torch.from_numpy(weight))
                    cast("nn.Parameter", layer.bias).copy_(torch.from_numpy(bias))

    def quantize_weights(self, quantized: bool) -> None:
        """Makes every convolution but the head compute with rounded weights, or with exact ones again."""
        for layer in self.convolutions():
            layer.quantized = quantized

    def snap_weights(self) -> None:
        """Replaces the weights by their rounded ones, for good: quantizers on the same grid then lose nothing."""
        for layer in self.convolutions():
            layer.weight.data = on_grid(layer.weight.data)

    def convolutions(self) -> list["_SameConv2d"]:
        """The backbone's convolutions in the order of the data (the head is not among them)."""
        return [layer for layer in self.modules() if isinstance(layer, _SameConv2d)]


class _SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's ``SAME``: at stride 2 more at the bottom and on the right.

    While ``quantized``, it computes with its weights rounded to the grid of `on_grid`; gradients pass the rounding.
    """

    quantized = False

    def __init__(self, channels: int, width: int, *, kernel: int, stride: int = 1, groups: int = 1) -> None:
        symmetric = kernel // 2 if stride == 1 else 0
        super().__init__(channels, width, kernel, stride=stride, padding=symmetric, groups=groups)
        # He initialisation, for networks that start without ImageNet weights.
        nn.init.kaiming_normal_(self.weight)
        nn.init.zeros_(cast("nn.Parameter", self.bias))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the name is nn.Conv2d's
        if self.stride[0] > 1:
            top, bottom = same_padding(input.shape[2], self.kernel_size[0], self.stride[0])
            left, right = same_padding(input.shape[3], self.kernel_size[1], self.stride[1])
            input = functional.pad(input, (left, right, top, bottom))  # noqa: A001  see above
        weight = on_grid(self.weight) if self.quantized else self.weight
        output: Tensor = self._conv_forward(input, weight, self.bias)
        return output


class _InvertedResidual(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.expand = _SameConv2d(channels, hidden, kernel=1) if expansion > 1 else None
        self.depthwise = _SameConv2d(hidden, hidden, kernel=3, stride=stride, groups=hidden)
        self.project = _SameConv2d(hidden, width, kernel=1)
        self.residual = stride == 1 and channels == width

    def forward(self, features: Tensor) -> Tensor:
        hidden = features if self.expand is None else functional.relu6(self.expand(features))
        projected: Tensor = self.project(functional.relu6(self.depthwise(hidden)))
        if self.residual:
            projected = projected + features
        return projected


def grid_scale(weight: Tensor) -> Tensor:
    """The step of each output channel's grid [out, 1, 1, 1]: its largest weight is 64 steps (7 bits)."""
    return weight.detach().abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12) / GRID_STEPS


def on_grid(weight: Tensor) -> Tensor:
    """Weights [out, in, kh, kw] rounded to -64..64 steps of their channel's grid (straight-through gradient)."""
    scale = grid_scale(weight)
    return weight + (torch.round(weight / scale) * scale - weight).detach()


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows or columns that TensorFlow's ``SAME`` adds before and after an axis of ``size`` pixels."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def build(name: str, findings: int) -> MobileNetV2Grey:
    """The untrained network called ``name`` in a recipe, with one output per finding."""
    return _NETWORKS[name](findings)


_NETWORKS = {"mobilenet_v2": MobileNetV2Grey}
