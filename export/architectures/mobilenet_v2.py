"""MobileNetV2 for one grey channel, its batch norms folded from the start."""

from typing import cast

from torch import Tensor, cat, nn, zeros
from torch.nn import functional

# Inverted residual stages of MobileNetV2 (Sandler et al., CVPR 2018, table 2): expansion, channels, repeats, stride.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
_STEM_CHANNELS = 32
_LAST_CHANNELS = 1280
_EMBEDDED_BLOCKS = (12, 13, 16)
"""The middle knows what kind of picture it is, and how it was processed; the end what the findings look at. Block 10
alone refuses 99 % of what is no frontal chest radiograph, and 19 of 24 full-size ones that are; these refuse none."""


class MobileNetV2Grey(nn.Module):
    """MobileNetV2 1.0 for one grey channel, with a class activation head.

    Strided convolutions pad as TensorFlow does, and the normalisation ``x * 2 - 1`` is part of the graph, so the input
    is float32 [N, 1, H, W] in 0..1 (0 black, 1 white).
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
        self.last = _SameConv2d(channels, _LAST_CHANNELS, kernel=1)
        self.head = nn.Conv2d(_LAST_CHANNELS, findings, kernel_size=1, bias=False)
        self.bias = nn.Parameter(zeros(findings))
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, K], cam [N, K, H/32, W/32] and embedding [N, 576]; logits are cam's spatial mean plus bias."""
        features = functional.relu6(self.stem(image * 2.0 - 1.0))
        embedded = []
        for number, block in enumerate(self.blocks):
            features = block(features)
            if number in _EMBEDDED_BLOCKS:
                embedded.append(features.mean(dim=(2, 3)))
        cam = self.head(functional.relu6(self.last(features)))
        return cam.mean(dim=(2, 3)) + self.bias, cam, cat(embedded, dim=1)

    def convolutions(self) -> list["_SameConv2d"]:
        """The backbone's convolutions in the order of the data (the head is not among them)."""
        return [layer for layer in self.modules() if isinstance(layer, _SameConv2d)]


class _SameConv2d(nn.Conv2d):
    """A convolution padded as TensorFlow's ``SAME``: at stride 2 more at the bottom and on the right."""

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
        return super().forward(input)


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


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Rows or columns that TensorFlow's ``SAME`` adds before and after an axis of ``size`` pixels."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
