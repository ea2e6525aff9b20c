"""Where weights begin: ImageNet weights, or any state dict whose layers fit."""

from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from edge.errors import ScansideError
from export.architectures.grid import HEAD
from export.architectures.mobilenet_v2 import MobileNetV2Grey

_WRAPPERS = ("state_dict", "model", "model_state_dict", "average")
"""Keys under which checkpoints are known to keep the state dict itself."""


class WeightsError(ScansideError):
    """Weights that do not fit a network; the message is one line."""


def load_weights(network: nn.Module, path: Path) -> None:
    """Loads ``path`` into a member's network: ``.npz`` of ImageNet weights, else a PyTorch file with a state dict.

    Raises:
        WeightsError: The file cannot be read, or holds other layers or shapes than this network's.
    """
    if path.suffix == ".npz":
        if not isinstance(network, MobileNetV2Grey):
            raise WeightsError(f"{path.name}: weights of MobileNetV2 do not fit {type(network).__name__}; choose a .pt")
        _load_imagenet(network, path)
    else:
        load_state(network, _read_state(path), path.name)


def load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Loads all but the head from a state dict, whose names may carry one prefix before ours.

    Raises:
        WeightsError: A layer is missing or has another shape.
    """
    wanted = {name: value for name, value in network.state_dict().items() if name.split(".")[0] not in (HEAD, "bias")}
    first = next(iter(wanted))
    prefix = next((name.removesuffix(first) for name in state if name.endswith(first)), "")
    chosen = {name: state.get(prefix + name) for name in wanted}
    for name, value in chosen.items():
        shape = None if value is None else tuple(value.shape)
        if shape != tuple(wanted[name].shape):
            found = "is missing" if shape is None else f"has shape {shape}"
            raise WeightsError(
                f"{source}: layer {name!r} {found}, the network wants {tuple(wanted[name].shape)}; choose weights of "
                "the same architecture"
            )
    network.load_state_dict(cast("dict[str, Tensor]", chosen), strict=False)


def _read_state(path: Path) -> dict[str, Tensor]:
    try:
        loaded = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the unpickler's errors are of many types; each means that this file does not serve
        raise WeightsError(f"{path}: no readable state dict ({error}); correct the member's start") from error
    while isinstance(loaded, dict) and (inner := next((key for key in _WRAPPERS if key in loaded), None)):
        loaded = loaded[inner]
    if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise WeightsError(f"{path}: holds no state dict (names to tensors); correct the member's start")
    return loaded


def _load_imagenet(network: MobileNetV2Grey, path: Path) -> None:
    """From folded convolutions ``wNN`` (out, in/groups, kh, kw) and ``bNN``.

    The first convolution is summed over its three input channels: a grey image is the same in each.
    """
    try:
        loaded = np.load(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: no readable .npz ({error}); correct the member's start") from error
    with loaded as arrays:
        for index, layer in enumerate(network.convolutions()):
            names = (f"w{index:02d}", f"b{index:02d}")
            if missing := [name for name in names if name not in arrays]:
                raise WeightsError(f"{path.name}: no array {missing[0]!r}; use weights of MobileNetV2 1.0")
            weight, bias = (arrays[name] for name in names)
            if index == 0:
                weight = weight.sum(axis=1, keepdims=True)
            if weight.shape != tuple(layer.weight.shape):
                raise WeightsError(
                    f"{path.name}: convolution {index} has shape {weight.shape}, MobileNetV2 1.0 has "
                    f"{tuple(layer.weight.shape)}; use weights of MobileNetV2 1.0 with its batch norms folded"
                )
            with torch.no_grad():
                layer.weight.copy_(torch.from_numpy(weight))
                cast("nn.Parameter", layer.bias).copy_(torch.from_numpy(bias))
