"""Stored values to grey values as a person should see them (PS3.3 C.11, PS3.14).

For 8 and 16 bit values all of it happens on a table of every possible value, so that the standard's formulas cost one
look-up for each pixel.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi

from edge.imaging.header import value_of
from edge.imaging.refusal import Refusal
from edge.records import Reason

_PERCENTILES = (0.1, 99.9)


def to_grey(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float32]:
    """Stored values to float32 (rows, columns), 0 black to 1 white.

    In the standard's order: modality LUT or rescale (C.11.1), VOI LUT or window (C.11.2), presentation: MONOCHROME1 or
    Presentation LUT Shape INVERSE turns the scale round (C.11.6, C.7.6.3.1.2). Without a window, 8-bit values are taken
    as they are and wider ones span their 0.1st to 99.9th percentile, padding left out. Colour goes through luminance.

    Raises:
        Refusal: `empty_image` when all values are the same, `undecodable` when a look-up table is broken.
    """
    if stored.ndim == 3:
        return _luminance(stored)
    if stored.min() == stored.max():
        raise Refusal(Reason.EMPTY_IMAGE, "every stored value is the same")
    try:
        if stored.dtype.itemsize > 2 or stored.dtype.kind not in "ui":
            return np.asarray(_grey_values(stored, stored, dataset), dtype=np.float32)
        table = _grey_values(_all_values(stored.dtype), stored, dataset).astype(np.float32)
    except Exception as error:  # broken LUT sequences raise nearly any type
        raise Refusal(
            Reason.UNDECODABLE, f"the grey scale's tables cannot be applied: {type(error).__name__}"
        ) from error
    unsigned = np.ascontiguousarray(stored).view(f"u{stored.dtype.itemsize}")
    grey: NDArray[np.float32] = cv2.LUT(unsigned, table)
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


def _all_values(kind: np.dtype[Any]) -> NDArray[Any]:
    """Every value of an 8 or 16 bit type, in the order of its bits read as an unsigned number."""
    return np.arange(1 << (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(f"{kind.kind}{kind.itemsize}")


def _grey_values(values: NDArray[Any], stored: NDArray[Any], dataset: Dataset) -> NDArray[np.float64]:
    rescaled = _rescale(values, dataset)
    center, width = (value_of(dataset, keyword) for keyword in ("WindowCenter", "WindowWidth"))
    if _has_table(dataset, "VOILUTSequence"):
        bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
        grey = np.asarray(apply_voi(rescaled.astype(np.int64), dataset), dtype=np.float64) / ((1 << bits) - 1)
    elif center is not None and width is not None:
        grey = window(
            rescaled, float(center), float(width), str(value_of(dataset, "VOILUTFunction") or "LINEAR").upper()
        )
    else:
        low, high = _span(stored, dataset)
        grey = np.clip((rescaled - low) / max(high - low, 1e-9), 0.0, 1.0)
    return 1.0 - grey if _inverted(dataset) else grey


def _rescale(values: NDArray[Any], dataset: Dataset) -> NDArray[np.float64]:
    if "ModalityLUTSequence" in dataset and not _has_table(dataset, "ModalityLUTSequence"):
        return np.asarray(values, dtype=np.float64)
    return np.asarray(apply_modality_lut(values, dataset), dtype=np.float64)


def _has_table(dataset: Dataset, keyword: str) -> bool:
    """Some writers leave a look-up table sequence with an empty item: it says nothing."""
    item = value_of(dataset, keyword)
    return item is not None and item.get("LUTDescriptor") is not None and item.get("LUTData") is not None


def _span(stored: NDArray[Any], dataset: Dataset) -> tuple[float, float]:
    """The values shown as black and white where no window says so, after the modality LUT."""
    if int(value_of(dataset, "BitsStored") or 16) <= 8 and not int(value_of(dataset, "PixelRepresentation") or 0):
        ends = np.array([0, 255], dtype=stored.dtype)
    else:
        used = stored[:: max(1, stored.shape[0] // 512), :: max(1, stored.shape[1] // 512)]
        padding = value_of(dataset, "PixelPaddingValue")
        if padding is not None and np.any(used != padding):
            used = used[used != padding]
        ends = np.percentile(used, _PERCENTILES).astype(stored.dtype)
        if ends[0] == ends[1]:
            ends = np.array([used.min(), used.max()], dtype=stored.dtype)
    span = _rescale(ends, dataset)
    return float(span.min()), float(span.max())


def _inverted(dataset: Dataset) -> bool:
    """MONOCHROME1 shows its lowest value white; in DX, Presentation LUT Shape repeats that (PS3.3 C.8.11.3.1.2)."""
    photometric = str(value_of(dataset, "PhotometricInterpretation") or "").strip()
    if photometric == "MONOCHROME1":
        return True
    return str(value_of(dataset, "PresentationLUTShape") or "").strip() == "INVERSE"


def _luminance(stored: NDArray[Any]) -> NDArray[np.float32]:
    widest = float(np.iinfo(stored.dtype).max) if stored.dtype.kind in "ui" else 1.0
    grey: NDArray[np.float32] = cv2.cvtColor((stored[:, :, :3] / widest).astype(np.float32), cv2.COLOR_RGB2GRAY)
    if float(grey.min()) == float(grey.max()):
        raise Refusal(Reason.EMPTY_IMAGE, "every value is the same")
    return np.clip(grey, 0.0, 1.0)
