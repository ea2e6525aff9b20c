"""The peer: what most projects run, in one process: pynetdicom, `pixel_array`, min-max, `cv2.resize`, PyTorch eager.

`python -m benchmarks.usual_stack PORT`: listens, analyses inside the C-STORE handler, answers success when it has a
score. Nothing is stored durably.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
import torch
from pynetdicom import AE, AllStoragePresentationContexts, evt

from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from export.architectures.mobilenet_v2 import MobileNetV2Grey

_SIDE = 224


def main(port: int) -> None:
    """Serve until killed."""
    torch.set_num_threads(2)
    network = MobileNetV2Grey(1).eval()

    def handle(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        pixels = dataset.pixel_array.astype(np.float32)
        scaled = (pixels - pixels.min()) / (pixels.max() - pixels.min())
        image = cv2.resize(scaled, (_SIDE, _SIDE))
        with torch.inference_mode():
            torch.sigmoid(network(torch.from_numpy(image)[None, None])[0])
        return 0x0000

    entity = AE(ae_title="USUAL")
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax, list(DECODED_SYNTAXES))
    entity.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, handle)], block=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
