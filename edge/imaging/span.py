"""Which values an image without a window shows as black and white: those inside of collimation, without padding."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from edge.imaging.decode import Stored
from edge.imaging.header import value_of
from edge.imaging.resample import halve, halvings
from edge.imaging.stored_bits import Layout

_PERCENTILES = (0.1, 99.9)
_SAMPLED = (256, 256)
_LEAST_EXPOSED = 1 / 16
_FLAT = 0.01


def span(stored: Stored, dataset: Dataset) -> NDArray[Any]:
    """The 0.1st and 99.9th percentile of the values that count, as two stored values.

    Taken from the picture halved until it has about 256 rows or columns, so that an image decoded at a reduced
    resolution answers as the whole one does. Left out: padding (PS3.3 C.7.5.1.1.2), what the collimator (C.8.7.3) or
    the display shutter (C.7.6.11) covers; where no tag says, flat black or white lines along the edges.
    """
    values, padded = stored.values, padding_range(dataset)
    if padded is None and values.dtype in (np.uint8, np.uint16, np.int16, np.float32, np.float64):
        values = halve(values, halvings((values.shape[0], values.shape[1]), _SAMPLED))
    seen = exposed(dataset, values.shape, (stored.rows, stored.columns))
    used = values[_inside_flat_lines(values) if seen is None else seen]
    if padded is not None:
        used = used[~is_padding(used, padded)]
    if not used.size or used.min() == used.max():
        used = values
    ends = np.percentile(used, _PERCENTILES).astype(values.dtype)
    return ends if ends[0] != ends[1] else np.array([used.min(), used.max()], dtype=values.dtype)


def padding_range(dataset: Dataset) -> tuple[float, float] | None:
    """Lowest and highest stored value that mean "no image here": (0028,0120) and (0028,0121)."""
    layout, ends = Layout.of(dataset), []
    for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit"):
        try:
            value = float(value_of(dataset, keyword))
        except (TypeError, ValueError):
            continue
        # Written as US where the values are SS, it comes out too large by two to the bits.
        wraps = layout.signed and value >= 1 << max(0, layout.allocated - 1)
        ends.append(value - (1 << layout.allocated) if wraps else value)
    return (min(ends), max(ends)) if ends and value_of(dataset, "PixelPaddingValue") is not None else None


def is_padding(values: NDArray[Any], padded: tuple[float, float]) -> NDArray[np.bool_]:
    """Where the values are padding."""
    return np.asarray((values >= padded[0]) & (values <= padded[1]))


def exposed(dataset: Dataset, shape: tuple[int, ...], size: tuple[int, int]) -> NDArray[np.bool_] | None:
    """What collimator and shutter leave open, (height, width); None where no tag says so, or next to nothing is left.

    Args:
        dataset: Rectangular, circular and polygonal shapes are read (PS3.3 C.8.7.3.1, C.7.6.11).
        shape: Of the picture, which may be reduced.
        size: Rows and columns of the stored image, in which the tags count, from 1.
    """
    down, across = shape[0] / size[0], shape[1] / size[1]
    open_ = np.ones(shape[:2], dtype=np.uint8)
    stated = False
    for kind in ("Collimator", "Shutter"):
        shapes = _numbers_or_texts(dataset, f"{kind}Shape")
        for form, draw in (("RECTANGULAR", _rectangle), ("CIRCULAR", _circle), ("POLYGONAL", _polygon)):
            if form not in shapes:
                continue
            drawn = np.zeros_like(open_)
            try:
                draw(drawn, dataset, kind, across, down)
            except (TypeError, ValueError, IndexError, OverflowError, cv2.error):
                continue  # edges that are absent or no numbers say nothing
            open_ &= drawn
            stated = True
    return open_.astype(bool) if stated and open_.mean() >= _LEAST_EXPOSED else None


def _rectangle(drawn: NDArray[np.uint8], dataset: Dataset, kind: str, across: float, down: float) -> None:
    left, right, upper, lower = (
        float(value_of(dataset, f"{kind}{edge}Edge"))
        for edge in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")
    )
    rows = slice(max(0, round(upper * down)), max(0, round((lower - 1) * down)))
    drawn[rows, max(0, round(left * across)) : max(0, round((right - 1) * across))] = 1


def _circle(drawn: NDArray[np.uint8], dataset: Dataset, kind: str, across: float, down: float) -> None:
    row, column = (float(part) for part in dataset[f"CenterOfCircular{kind}"].value)
    radius = float(value_of(dataset, f"RadiusOfCircular{kind}"))
    axes = (max(0, round(radius * across)), max(0, round(radius * down)))
    cv2.ellipse(drawn, (round((column - 1) * across), round((row - 1) * down)), axes, 0, 0, 360, 1, cv2.FILLED)


def _polygon(drawn: NDArray[np.uint8], dataset: Dataset, kind: str, across: float, down: float) -> None:
    vertices = np.array([float(part) for part in dataset[f"VerticesOfThePolygonal{kind}"].value]).reshape(-1, 2)
    corners = np.rint((vertices[:, ::-1] - 1) * (across, down)).astype(np.int32)  # pairs of row and column
    cv2.fillPoly(drawn, [corners], 1)


def _numbers_or_texts(dataset: Dataset, keyword: str) -> list[str]:
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that does not fit its VR: absent
        return []
    parts = [value] if isinstance(value, str) else value or []
    return [str(part).strip().upper() for part in parts]


def _inside_flat_lines(values: NDArray[Any]) -> tuple[slice, slice]:
    """The picture without the lines along its edges that are flat and at one end of its range."""
    low, high = float(values.min()), float(values.max())
    flat = (high - low) * _FLAT
    inside = []
    for axis in (1, 0):
        least, most = values.min(axis=axis).astype(float), values.max(axis=axis).astype(float)
        kept = np.flatnonzero((most > low + flat) & (least < high - flat))
        inside.append(slice(int(kept[0]), int(kept[-1]) + 1) if kept.size else slice(None))
    return inside[0], inside[1]
