"""MONAI's networks in the shape of ours: one grey channel in 0..1; logits, cam and embedding, or a mask."""

from collections.abc import Callable

import torch
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.densenet import DenseNet121
from monai.networks.nets.efficientnet import EfficientNetBN
from monai.networks.nets.resnet import resnet18
from torch import Tensor, nn
from torch.nn import functional

_UNET_FEATURES = (24, 32, 64, 96, 128, 24)
_FOLD = 2
"""Pixels of each side that become channels: the U-Net works on quarters of the image, and no detail is lost."""


class Classifier(nn.Module):
    """A backbone [N, 1, H, W] -> [N, channels, h, w] with a class activation head."""

    def __init__(self, backbone: nn.Module, channels: int, findings: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Conv2d(channels, findings, kernel_size=1, bias=False)
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.normal_(self.head.weight, std=0.01)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits [N, K], cam [N, K, h, w] and embedding [N, channels]; logits are cam's spatial mean plus bias."""
        features = self.backbone(image * 2.0 - 1.0)
        cam = self.head(features)
        return cam.mean(dim=(2, 3)) + self.bias, cam, features.mean(dim=(2, 3))


class UNet(nn.Module):
    """MONAI's basic U-Net (Ronneberger et al. 2015, batch norms instead of instance norms) on folded pixels.

    Two by two pixels enter as four channels and leave as four (sub-pixel convolution, Shi et al. 2016): nearly the
    speed of half the resolution, with the outline drawn at the whole.
    """

    def __init__(self) -> None:
        super().__init__()
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=_FOLD * _FOLD,
            out_channels=1,
            features=_UNET_FEATURES,
            act=("relu", {"inplace": True}),
            norm="batch",
            upsample="nontrainable",
        )
        self.unet.final_conv = nn.Identity()
        self.head = nn.Conv2d(_UNET_FEATURES[-1], _FOLD * _FOLD, kernel_size=3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """Mask [N, 1, H, W] in 0..1; H and W are multiples of 32."""
        logits = self.head(self.unet(functional.pixel_unshuffle(image * 2.0 - 1.0, _FOLD)))
        return (torch.sigmoid(functional.pixel_shuffle(logits, _FOLD)),)


def densenet121(findings: int) -> nn.Module:
    """DenseNet-121 (Huang et al., CVPR 2017)."""
    network = DenseNet121(spatial_dims=2, in_channels=1, out_channels=1)
    return Classifier(nn.Sequential(network.features, nn.ReLU()), 1024, findings)


def resnet_18(findings: int) -> nn.Module:
    """ResNet-18 (He et al., CVPR 2016)."""
    network = resnet18(spatial_dims=2, n_input_channels=1, num_classes=1)
    stages = (network.layer1, network.layer2, network.layer3, network.layer4)
    stem = (network.conv1, network.bn1, network.act, network.maxpool)
    return Classifier(nn.Sequential(*stem, *stages), 512, findings)


def efficientnet_b0(findings: int) -> nn.Module:
    """EfficientNet-B0 (Tan and Le, ICML 2019)."""
    network = EfficientNetBN("efficientnet-b0", pretrained=False, spatial_dims=2, in_channels=1, num_classes=1)
    network.set_swish(memory_efficient=False)
    return Classifier(_EfficientNetFeatures(network), 1280, findings)


def unet(findings: int) -> nn.Module:  # noqa: ARG001  a segmentation answers for no finding
    """The U-Net above."""
    return UNet()


class _EfficientNetFeatures(nn.Module):
    def __init__(self, network: EfficientNetBN) -> None:
        super().__init__()
        self.stem = nn.Sequential(network._conv_stem_padding, network._conv_stem, network._bn0, nn.SiLU())
        self.blocks = network._blocks
        self.last = nn.Sequential(network._conv_head_padding, network._conv_head, network._bn1, nn.SiLU())

    def forward(self, image: Tensor) -> Tensor:
        features: Tensor = self.last(self.blocks(self.stem(image)))
        return features


NETWORKS: dict[str, Callable[[int], nn.Module]] = {
    "densenet121": densenet121,
    "resnet18": resnet_18,
    "efficientnet_b0": efficientnet_b0,
    "unet": unet,
}
