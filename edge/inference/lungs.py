"""What the outline of the lungs adds to an answer: evidence outside of them is none, and a finding has side and zone.

The outline is the segmentation's `mask` over the squashed image: float32 (height, width), 0..1, lung from a half on.
Pure.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.records import Header

Side = Literal["right", "left", "both"]
Zone = Literal["upper", "middle", "lower"]

LUNG_FROM = 0.5
_LEAST_AREA = 0.02
_LEAST_OF_LARGER = 0.25
_FINER = 4
_ZONES: tuple[Zone, ...] = ("upper", "middle", "lower")


def usable(mask: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The outline (height, width) of a segmentation's mask (1, height, width); None when it holds next to no lung."""
    lungs = mask[0]
    return lungs if float(np.mean(lungs >= LUNG_FROM)) >= _LEAST_AREA else None


def inside(cam: NDArray[np.float32], lungs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The positive part of a class activation map (h, w) times the outline, four times as fine as the map."""
    size = (cam.shape[1] * _FINER, cam.shape[0] * _FINER)
    outline = cv2.resize((lungs >= LUNG_FROM).astype(np.float32), size, interpolation=cv2.INTER_AREA)
    # Without its negative part: enlarging a step from minus to nothing would overshoot into evidence beside it.
    evidence = np.maximum(cv2.resize(cam, size, interpolation=cv2.INTER_CUBIC), 0.0) * outline
    return np.asarray(evidence, dtype=np.float32)


def place(evidence: NDArray[np.float32], lungs: NDArray[np.float32], header: Header) -> tuple[Side | None, Zone | None]:
    """In which lung, the patient's right or left, and at which third of its height the evidence inside is strongest.

    Both lungs when the weaker one's peak is at least half of the stronger one's. None where it cannot be told: no
    evidence inside, not two lungs side by side, tags that say or leave open another orientation.
    """
    fine = cv2.resize(evidence, (lungs.shape[1], lungs.shape[0]), interpolation=cv2.INTER_LINEAR)
    pair = _two_lungs(lungs)
    if pair is None:
        return None, None
    peaks = [float(fine[lung].max()) for lung in pair]
    stronger = int(np.argmax(peaks))
    if not peaks[stronger] > 0:
        return None, None
    rows = np.flatnonzero(pair[stronger].any(axis=1))
    row = int(np.argmax(np.where(pair[stronger], fine, -np.inf).max(axis=1)))
    third = (row - int(rows[0])) * len(_ZONES) // (int(rows[-1]) - int(rows[0]) + 1)
    sides = _sides(header)
    if sides is None:
        return None, None if header.patient_orientation else _ZONES[third]
    return "both" if min(peaks) >= peaks[stronger] / 2 else sides[stronger], _ZONES[third]


def _two_lungs(lungs: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]] | None:
    """The two largest regions, the one on the image's left first; None unless they lie side by side, of like size."""
    _, labels, stats, centres = cv2.connectedComponentsWithStats((lungs >= LUNG_FROM).astype(np.uint8))
    areas = stats[1:, cv2.CC_STAT_AREA]
    if len(areas) < 2:
        return None
    larger, smaller = (int(label) for label in np.argsort(areas)[::-1][:2])
    apart = np.abs(centres[1 + larger] - centres[1 + smaller])
    if areas[smaller] < areas[larger] * _LEAST_OF_LARGER or apart[0] <= apart[1]:
        return None
    first, second = sorted((1 + larger, 1 + smaller), key=lambda label: float(centres[label][0]))
    return labels == first, labels == second


def _sides(header: Header) -> tuple[Side, Side] | None:
    """Whose side lies on the image's left and right, by Patient Orientation (PS3.3 C.7.6.1.1.1), else by the view."""
    stated = header.patient_orientation
    if stated:
        along_row, _, along_column = stated.partition("\\")
        upright = along_column.startswith("F")
        known: dict[str, tuple[Side, Side]] = {"L": ("right", "left"), "R": ("left", "right")}
        return known.get(along_row[:1]) if upright else None
    return ("right", "left") if (header.view or "").upper() in ("AP", "PA") else None
