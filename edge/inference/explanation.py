"""Where the network looked: the class activation map as a box and as a picture to lay over the preview."""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

_FINE = 112
_MAX_ALPHA = 170

Maps = dict[str, list[list[float]]]
"""Class activation maps by finding code, as they are stored."""


def box_of(cam: NDArray[np.float32], rows: int, columns: int) -> tuple[int, int, int, int] | None:
    """The region around the map's maximum where it exceeds half of it: x0, y0, x1, y1 in pixels of the image.

    Args:
        cam: (h, w), evidence for the finding where positive.
        rows: Height of the image.
        columns: Width of the image.

    Returns:
        The box, or None when nothing speaks for the finding.
    """
    fine = cv2.resize(cam, (_FINE, _FINE), interpolation=cv2.INTER_CUBIC)
    peak = float(fine.max())
    if not peak > 0:
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats((fine >= peak / 2).astype(np.uint8))
    label = labels[np.unravel_index(int(np.argmax(fine)), fine.shape)]
    left, top, width, height = (int(value) for value in stats[label][:4])
    across, down = columns / _FINE, rows / _FINE
    return (
        round(left * across),
        round(top * down),
        min(columns, round((left + width) * across)),
        min(rows, round((top + height) * down)),
    )


def encode_maps(maps: dict[str, NDArray[np.float32]]) -> str:
    """The maps as JSON, four decimals."""
    return msgspec.json.encode({code: np.round(cam.astype(float), 4).tolist() for code, cam in maps.items()}).decode()


def overlay_png(stored: str, width: int, height: int) -> bytes:
    """A transparent picture of the strongest evidence of all findings, in a perceptually uniform colour scale.

    Args:
        stored: What `encode_maps` gave.
        width: Of the preview it lies over, pixels.
        height: Likewise.

    Raises:
        ValueError: There is no map, or the encoder refuses it.
    """
    maps = msgspec.json.decode(stored, type=Maps)
    if not maps:
        raise ValueError("no class activation map was stored")
    strongest = np.max([np.asarray(cam, dtype=np.float32) for cam in maps.values()], axis=0)
    evidence = np.clip(cv2.resize(strongest, (width, height), interpolation=cv2.INTER_CUBIC), 0.0, None)
    scaled = np.asarray(evidence / max(float(evidence.max()), 1e-6) * 255, dtype=np.uint8)
    picture = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2BGRA)
    picture[:, :, 3] = np.asarray(scaled.astype(np.uint16) * _MAX_ALPHA // 255, dtype=np.uint8)
    written, encoded = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not written:
        raise ValueError("the overlay cannot be encoded as PNG")
    return bytes(encoded)
