"""Stored values to grey values as a person should see them (PS3.3 C.11, C.7.6.3, PS3.14).

For 8 and 16 bit values all of it happens on a table of every possible value, so that the standard's formulas cost one
look-up for each pixel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from edge.imaging.decode import Stored
from edge.imaging.header import text_of, value_of
from edge.imaging.lookup_table import LookupTable
from edge.imaging.refusal import Refusal
from edge.imaging.span import is_padding, padding_range, span
from edge.imaging.stored_bits import Layout
from edge.records import Reason

_Scale = Callable[[NDArray[Any]], NDArray[np.float64]]
_NARROW = 1 / 16


def to_grey(stored: Stored, dataset: Dataset) -> NDArray[np.float32]:
    """Stored values to float32 (height, width), 0 black to 1 white, of the same resolution.

    In the standard's order: modality LUT or rescale (C.11.1), VOI LUT or the first window (C.11.2), presentation:
    MONOCHROME1 or Presentation LUT Shape INVERSE turns the scale round (C.11.6, C.7.6.3.1.2). Without a window, or with
    one that leaves a single grey, 8-bit values are taken as they are and wider ones span those that `span` counts.
    Padding (C.7.5.1.1.2) is black. Palettes (C.7.6.3.1.5) and RGB go through luminance; YBR is luminance.

    Raises:
        Refusal: `empty_image` when all values are the same, `undecodable` when a look-up table is broken.
    """
    values = stored.values
    if values.size == 0 or values.min() == values.max():
        raise Refusal(Reason.EMPTY_IMAGE, "every stored value is the same")
    layout = Layout.of(dataset)
    try:
        if layout.photometric == "PALETTE COLOR" or values.ndim == 3 or layout.photometric.startswith("YBR"):
            return _luminance(values, layout, dataset)
        with np.errstate(all="ignore"):  # absurd slopes and windows: what comes of them is judged below
            stated = _stated_scale(dataset)
            grey = _apply(stated, values, dataset) if stated else None
            if grey is None or not _shows_something(grey):
                grey = _apply(_spanning_scale(stored, layout, dataset), values, dataset)
    except Refusal:
        raise
    except Exception as error:  # broken LUT sequences raise nearly any type
        raise Refusal(
            Reason.UNDECODABLE, f"the grey scale's tables cannot be applied: {type(error).__name__}"
        ) from error
    if not np.isfinite(grey.min()):
        raise Refusal(Reason.UNDECODABLE, "the grey scale's tables give what is no number")
    return grey


def window(values: NDArray[np.float64], center: float, width: float, function: str = "LINEAR") -> NDArray[np.float64]:
    """A VOI window's output, 0 to 1 (PS3.3 C.11.2.1.2 LINEAR, C.11.2.1.3 SIGMOID and LINEAR_EXACT)."""
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / max(width, 1e-9), -500, 500))))
    if function == "LINEAR":
        center, width = center - 0.5, width - 1.0
    if width <= 0:
        return np.asarray(values > center, dtype=np.float64)
    return np.clip((values - center) / width + 0.5, 0.0, 1.0)


def may_average(dataset: Dataset) -> bool:
    """Whether the mean of stored values looks as the mean of their grey values would.

    Not for palette indices and colour, not beside padding, not through tables that turn back on themselves, nor through
    a window so narrow that it is a threshold.
    """
    layout = Layout.of(dataset)
    if layout.samples != 1 or layout.allocated not in (8, 16) or not layout.photometric.startswith("MONOCHROME"):
        return False
    if padding_range(dataset) is not None:
        return False
    try:
        tables = [LookupTable.of(dataset, name) for name in ("ModalityLUTSequence", "VOILUTSequence")]
    except Exception:  # a broken table is refused where it is applied
        return False
    monotonic = all(table.monotonic for table in tables if table)
    width, slope = _number(dataset, "WindowWidth"), _number(dataset, "RescaleSlope") or 1.0
    return monotonic and (width is None or width >= _NARROW * abs(slope) * (1 << layout.stored))


def _apply(scale: _Scale, values: NDArray[Any], dataset: Dataset) -> NDArray[np.float32]:
    """By table where there are few possible values, else by formula; MONOCHROME1 inverted, padding black."""

    def shown(stored: NDArray[Any]) -> NDArray[np.float32]:
        grey = scale(stored)
        grey = 1.0 - grey if _inverted(dataset) else grey
        padded = padding_range(dataset)
        if padded is not None:
            grey = np.where(is_padding(stored, padded), 0.0, grey)
        return grey.astype(np.float32)

    if values.dtype.itemsize > 2 or values.dtype.kind not in "ui":
        return shown(values)
    unsigned = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    by_table: NDArray[np.float32] = cv2.LUT(unsigned, shown(_all_values(values.dtype)))
    return by_table


def _all_values(kind: np.dtype[Any]) -> NDArray[Any]:
    """Every value of an 8 or 16 bit type, in the order of its bits read as an unsigned number."""
    return np.arange(1 << (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(f"{kind.kind}{kind.itemsize}")


def _shows_something(grey: NDArray[np.float32]) -> bool:
    darkest, brightest = float(grey.min()), float(grey.max())
    return darkest < brightest  # not for one grey, nor where some is no number


def _stated_scale(dataset: Dataset) -> _Scale | None:
    """What the tags say that values look like: by VOI LUT, else by window (C.11.2.1.1); None where they do not."""
    table = LookupTable.of(dataset, "VOILUTSequence")
    if table:
        return lambda values: table.look_up(_rescale(values, dataset)) / table.highest
    center, width = _number(dataset, "WindowCenter"), _number(dataset, "WindowWidth")
    if center is None or width is None:
        return None
    function = (text_of(dataset, "VOILUTFunction") or "LINEAR").upper()
    return lambda values: window(_rescale(values, dataset), center, width, function)


def _spanning_scale(stored: Stored, layout: Layout, dataset: Dataset) -> _Scale:
    if 0 < layout.stored <= 8 and stored.values.dtype.kind == "u":
        ends = np.array([0, (1 << layout.stored) - 1], dtype=stored.values.dtype)
    else:
        ends = span(stored, dataset)
    shown = _rescale(ends, dataset)
    low, high = float(shown.min()), float(shown.max())
    return lambda values: np.clip((_rescale(values, dataset) - low) / max(high - low, 1e-9), 0.0, 1.0)


def _rescale(values: NDArray[Any], dataset: Dataset) -> NDArray[np.float64]:
    """The modality LUT, else Rescale Slope and Intercept (C.11.1)."""
    table = LookupTable.of(dataset, "ModalityLUTSequence")
    if table:
        return table.look_up(values)
    slope, intercept = _number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")
    rescaled = np.asarray(values, dtype=np.float64)
    return rescaled * (1.0 if slope is None else slope) + (intercept or 0.0)


def _number(dataset: Dataset, keyword: str) -> float | None:
    value = value_of(dataset, keyword)
    try:
        number = None if value is None else float(value)
    except (TypeError, ValueError):
        return None
    return number if number is not None and np.isfinite(number) else None


def _inverted(dataset: Dataset) -> bool:
    """MONOCHROME1 shows its lowest value white; in DX, Presentation LUT Shape repeats that (PS3.3 C.8.11.3.1.2)."""
    photometric = text_of(dataset, "PhotometricInterpretation")
    if photometric == "MONOCHROME1":
        return True
    return text_of(dataset, "PresentationLUTShape") == "INVERSE"


def _luminance(values: NDArray[Any], layout: Layout, dataset: Dataset) -> NDArray[np.float32]:
    """Colour has no window (C.11.2): its whole range is shown."""
    bits = layout.stored
    if layout.photometric == "PALETTE COLOR":
        values, bits = apply_color_lut(values, dataset), int(dataset.RedPaletteColorLookupTableDescriptor[2])
    scaled = (values / float((1 << bits) - 1)).astype(np.float32)
    grey: NDArray[np.float32] = cv2.cvtColor(scaled[:, :, :3], cv2.COLOR_RGB2GRAY) if scaled.ndim == 3 else scaled
    if float(grey.min()) == float(grey.max()):
        raise Refusal(Reason.EMPTY_IMAGE, "every value is the same")
    return np.clip(grey, 0.0, 1.0)
