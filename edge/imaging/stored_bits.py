"""How the Image Pixel module (PS3.3 C.7.6.3) lays values out, and which of their bits count (PS3.5 8.1.1)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from edge.imaging.header import text_of, value_of

_WIDEST = 64
"""Bits of the widest sample that there is (PS3.5 8.1.1); what claims more is read as if it claimed as many."""


class Layout(NamedTuple):
    """The Image Pixel module; a number that is absent or unreadable is 0, but for samples and frames: 1.

    Attributes:
        rows: (0028,0010).
        columns: (0028,0011).
        samples: (0028,0002).
        allocated: Bits Allocated (0028,0100).
        stored: Bits Stored (0028,0101), else those allocated.
        high: High Bit (0028,0102), else the highest of those stored.
        signed: Pixel Representation (0028,0103) is two's complement.
        frames: (0028,0008).
        photometric: Photometric Interpretation (0028,0004); may be empty.
    """

    rows: int
    columns: int
    samples: int
    allocated: int
    stored: int
    high: int
    signed: bool
    frames: int
    photometric: str

    @property
    def plain(self) -> bool:
        """One sample of a whole number of bytes, at most two: nearly every radiograph."""
        return self.samples == 1 and self.allocated in (8, 16)

    @classmethod
    def of(cls, dataset: Dataset) -> Layout:
        """Read from the tags, whatever state they are in."""
        allocated = min(_count(dataset, "BitsAllocated", 0), _WIDEST)
        stored = min(_count(dataset, "BitsStored", allocated) or allocated, _WIDEST)
        return cls(
            rows=_count(dataset, "Rows", 0),
            columns=_count(dataset, "Columns", 0),
            samples=_count(dataset, "SamplesPerPixel", 1),
            allocated=allocated,
            stored=stored,
            high=min(_count(dataset, "HighBit", stored - 1), _WIDEST - 1),
            signed=_count(dataset, "PixelRepresentation", 0) == 1,
            frames=_count(dataset, "NumberOfFrames", 1),
            photometric=(text_of(dataset, "PhotometricInterpretation") or "").upper(),
        )


def resolve(values: NDArray[Any], layout: Layout, *, overshoots: bool = False) -> NDArray[Any]:
    """Containers of 8 or 16 bits to the values in them; the argument itself where nothing is to be done, as usual.

    What lies outside of Bits Stored is masked (overlays) or, where lossy coding left it, brought back into the range.
    """
    container, bits = values.dtype.itemsize * 8, layout.stored
    if values.dtype.kind not in "ui" or not 0 < bits <= container:
        return values
    lowest = -(1 << (bits - 1)) if layout.signed else 0
    kind = np.dtype(f"{'i' if layout.signed else 'u'}{container // 8}").newbyteorder(values.dtype.byteorder)
    values = values.view(kind) if values.dtype.kind != kind.kind else values
    above = container - 1 - layout.high if bits - 1 < layout.high < container else container - bits
    aligned = above == container - bits
    if aligned and (bits == container or (values.min() >= lowest and values.max() <= lowest + (1 << bits) - 1)):
        return values
    if aligned and overshoots:
        return np.asarray(np.clip(values, lowest, lowest + (1 << bits) - 1))
    shifted: NDArray[Any] = np.right_shift(np.left_shift(values, above), container - bits)
    return shifted


def _count(dataset: Dataset, keyword: str, default: int) -> int:
    value = value_of(dataset, keyword)
    try:
        return max(0, default if value is None else int(value))
    except (TypeError, ValueError):
        return 0
