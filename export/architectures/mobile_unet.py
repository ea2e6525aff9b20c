"""A U-Net whose way down is MobileNetV2: features that ImageNet taught generalise better than ones from a few masks."""

from torch import Tensor, cat, nn, sigmoid
from torch.nn import functional

from export.architectures.mobilenet_v2 import BLOCK_CHANNELS, MobileNetV2Features

_SKIPS = (12, 5, 2, 0)
"""The last block at 1/16, 1/8, 1/4 and 1/2 of the input's resolution."""
_WIDTHS = (96, 48, 32, 16)
"""Channels on the way up, at the same resolutions."""


class MobileUNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) on MobileNetV2's blocks, ending at half the resolution.

    The outline of a lung is smooth: halving costs nothing that the masks resolve.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = MobileNetV2Features()
        channels = BLOCK_CHANNELS[-1]
        ups: list[nn.Module] = []
        for skip, width in zip(_SKIPS, _WIDTHS, strict=True):
            ups.append(_Up(channels, BLOCK_CHANNELS[skip], width))
            channels = width
        self.ups = nn.ModuleList(ups)
        self.head = nn.Conv2d(channels, 1, kernel_size=1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Mask [N, 1, H, W] in 0..1 for ``image`` [N, 1, H, W] in 0..1; H and W are multiples of 32."""
        given = self.encoder.features(image)
        features = given[-1]
        for up, skip in zip(self.ups, _SKIPS, strict=True):
            features = up(features, given[skip])
        wide = functional.interpolate(self.head(features), scale_factor=2.0, mode="bilinear")
        return (sigmoid(wide),)


class _Up(nn.Module):
    """Twice the resolution, joined with what the way down saw there."""

    def __init__(self, channels: int, skipped: int, width: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, width, kernel_size=1)
        self.join = nn.Conv2d(width + skipped, width, kernel_size=3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, below: Tensor, skipped: Tensor) -> Tensor:
        wide = functional.interpolate(self.narrow(below), scale_factor=2.0, mode="nearest")
        joined: Tensor = functional.relu(self.norm(self.join(cat([wide, skipped], dim=1))))
        return joined
