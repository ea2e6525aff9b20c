"""The peer: what most projects run, in one process: pynetdicom, `pixel_array`, min-max, `cv2.resize`, PyTorch eager.

`python -m benchmarks.usual_stack PORT NETWORK`: listens, analyses inside the C-STORE handler, answers success when it
has a score. Nothing is stored durably. The network is DenseNet-121, which most chest projects take (CheXNet,
Rajpurkar et al. 2017; TorchXRayVision), or our own, so that the two causes of a difference can be told apart.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import cv2
import numpy as np
import torch
from monai.networks.nets.densenet import DenseNet121
from pynetdicom import AE, AllStoragePresentationContexts, evt
from torch import nn

from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from export.architectures.mobilenet_v2 import MobileNetV2Grey

NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "DenseNet-121": lambda: DenseNet121(spatial_dims=2, in_channels=1, out_channels=1),
    "our network": lambda: MobileNetV2Grey(1),
}
_SIDE = 224


def main(port: int, name: str) -> None:
    """Serve until killed."""
    torch.set_num_threads(2)
    network = NETWORKS[name]().eval()

    def handle(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        pixels = dataset.pixel_array.astype(np.float32)
        scaled = (pixels - pixels.min()) / (pixels.max() - pixels.min())
        image = cv2.resize(scaled, (_SIDE, _SIDE))
        with torch.inference_mode():
            torch.sigmoid(torch.as_tensor(network(torch.from_numpy(image)[None, None])[0]))
        return 0x0000

    entity = AE(ae_title="USUAL")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, list(DECODED_SYNTAXES))
    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, handle)], block=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
