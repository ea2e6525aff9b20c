"""Where the network looked: the class activation map as a box, and as a contour to lay over the preview.

A radiologist reads the image through the picture: so a line around the strongest evidence and a light fill within it,
never a heat map over the whole image.
"""

from __future__ import annotations

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.imaging.evidence import LEVEL, Explanation, Polygon, region_of
from edge.inference.lungs import LUNG_FROM

LINE, CASING = (230, 159, 0), (0, 0, 0)
"""Red, green, blue. Orange of Okabe and Ito's palette, told from every grey by all kinds of colour vision (tested), in
a black casing, by which it stands out from white bone as well as from black air."""

_FINE = 112
_LINE_SHARE, _CASING_SHARE = 1 / 250, 1 / 500
_FILL, _LINE, _CASING = 1, 2, 3
_PREMULTIPLIED = np.array(
    [
        [*(channel * alpha for channel in colour[::-1]), 255 * alpha]
        for colour, alpha in ((CASING, 0.0), (LINE, 0.15), (LINE, 1.0), (CASING, 0.6))
    ],
    dtype=np.float32,
)
"""Blue, green, red and alpha of nothing, fill, line and casing; the colours times their alpha."""

_PNG_OPTIONS = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE]
"""Nearly all of it is transparent: trying filters on it takes three times as long and saves nothing."""

_POLYGON_TOLERANCE = 0.002


def box_of(cam: NDArray[np.float32], rows: int, columns: int) -> tuple[int, int, int, int] | None:
    """The region around the map's maximum where it exceeds `LEVEL` of it: x0, y0, x1, y1 in pixels of the image.

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
    _, labels, stats, _ = cv2.connectedComponentsWithStats((fine >= peak * LEVEL).astype(np.uint8))
    label = labels[np.unravel_index(int(np.argmax(fine)), fine.shape)]
    left, top, width, height = (int(value) for value in stats[label][:4])
    across, down = columns / _FINE, rows / _FINE
    return (
        round(left * across),
        round(top * down),
        min(columns, round((left + width) * across)),
        min(rows, round((top + height) * down)),
    )


def encode_explanation(maps: dict[str, NDArray[np.float32]], outline: NDArray[np.float32] | None) -> str:
    """What `overlay_png` needs, as JSON of a few kilobytes.

    Args:
        maps: Class activation maps (h, w) by finding code.
        outline: The lungs as the segmentation sees them (height, width), lung from a half on; None when not known.
    """
    rounded = {code: np.round(cam.astype(float), 4).tolist() for code, cam in maps.items()}
    return msgspec.json.encode(
        Explanation(maps=rounded, lungs=None if outline is None else _polygons(outline))
    ).decode()


def overlay_png(stored: str, width: int, height: int) -> bytes:
    """A transparent picture: the contour of the strongest evidence of all findings at `LEVEL`, cut to the lungs.

    Line and casing lie within the region that they surround, so that nothing is drawn outside of the lungs.

    Args:
        stored: What `encode_explanation` gave.
        width: Of the picture, pixels; in the image's own proportions the line is as thick in all directions.
        height: Likewise.

    Raises:
        ValueError: It is not what `encode_explanation` gives, there is no map, or the encoder refuses the picture.
    """
    try:
        explanation = msgspec.json.decode(stored, type=Explanation)
    except msgspec.DecodeError as error:
        raise ValueError("the stored explanation cannot be read") from error
    region = region_of(explanation, width, height)
    picture = np.zeros((height, width, 4), dtype=np.uint8)
    left, top, across, down = cv2.boundingRect(region)
    if across:
        around = (slice(max(0, top - 1), top + down + 1), slice(max(0, left - 1), left + across + 1))
        picture[around] = _drawn(region[around], max(width, height))
    written, encoded = cv2.imencode(".png", picture, _PNG_OPTIONS)
    if not written:
        raise ValueError("the overlay cannot be encoded as PNG")
    return bytes(encoded)


def _drawn(region: NDArray[np.uint8], longest: int) -> NDArray[np.uint8]:
    """The region's line between two casings and its fill as blue, green, red and alpha, edges smoothed by a pixel."""
    line, casing = max(2.0, longest * _LINE_SHARE), max(1.0, longest * _CASING_SHARE)
    # The picture's own edge is an edge of the region too: the contour is always closed.
    depth = cv2.distanceTransform(cv2.copyMakeBorder(region, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 5)
    depth = depth[1:-1, 1:-1]
    kinds = np.zeros_like(region)
    for kind, beyond in ((_CASING, 0.0), (_LINE, casing), (_CASING, casing + line), (_FILL, casing + line + casing)):
        kinds[depth > beyond] = kind
    # Smoothed as colour times alpha, or transparent pixels would darken the edge.
    smooth = cv2.GaussianBlur(_PREMULTIPLIED[kinds], (3, 3), 0)
    colour = smooth[:, :, :3] * (255.0 / np.maximum(smooth[:, :, 3:], 1.0))
    return np.dstack((np.round(np.minimum(colour, 255.0)), np.round(smooth[:, :, 3:]))).astype(np.uint8)


def _polygons(outline: NDArray[np.float32]) -> list[Polygon]:
    """The outer edges of a mask as polygons in shares of its width and height, corners that hardly show left out."""
    rows, columns = outline.shape
    scale = max(1, 2 * _FINE // max(rows, columns))
    larger = cv2.resize(outline, (columns * scale, rows * scale), interpolation=cv2.INTER_LINEAR)
    edges, _ = cv2.findContours((larger >= LUNG_FROM).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    size = np.array([columns * scale, rows * scale])
    kept = [cv2.approxPolyDP(edge, _POLYGON_TOLERANCE * max(larger.shape), closed=True)[:, 0] for edge in edges]
    return [
        [(round(float(x), 4), round(float(y), 4)) for x, y in (corners + 0.5) / size]
        for corners in kept
        if len(corners) > 2
    ]
