"""Modality and VOI look-up tables (PS3.3 C.11.1.1, C.11.2.1.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from edge.imaging.header import value_of

_FULL = 1 << 16


@dataclass(frozen=True, eq=False)
class LookupTable:
    """One table.

    Attributes:
        first: The input that the first entry stands for.
        entries: Outputs, float64, 0 to `highest`.
        highest: The largest output that its bits allow.
    """

    first: int
    entries: NDArray[np.float64]
    highest: float

    @classmethod
    def of(cls, dataset: Dataset, keyword: str) -> LookupTable | None:
        """The sequence's first table; None without one: some writers leave an empty item, which says nothing.

        Raises:
            ValueError: The descriptor does not fit the data.
        """
        item = value_of(dataset, keyword)
        if item is None or item.get("LUTDescriptor") is None or item.get("LUTData") is None:
            return None
        count, first, bits = (int(part) for part in item.LUTDescriptor)
        count = count % _FULL or _FULL  # 0 means 65536, for want of a seventeenth bit
        if first >= _FULL // 2 and value_of(dataset, "PixelRepresentation") == 1:
            first -= _FULL  # written as US where it is SS
        entries = _numbers(item.LUTData, count, big=dataset.original_encoding[1] is False)
        if not 1 <= bits <= 16 or len(entries) < count:
            raise ValueError(f"a table of {len(entries)} entries of {bits} bits: its descriptor says {count}")
        return cls(first, entries[:count].astype(np.float64), float((1 << bits) - 1))

    @property
    def monotonic(self) -> bool:
        """Whether it never turns back."""
        steps = np.diff(self.entries)
        return bool((steps >= 0).all() or (steps <= 0).all())

    def look_up(self, values: NDArray[Any]) -> NDArray[np.float64]:
        """The entries for some values; those outside get the first or last (C.11.1.1)."""
        places = np.clip(values.astype(np.int64) - self.first, 0, len(self.entries) - 1)
        found: NDArray[np.float64] = self.entries[places]
        return found


def _numbers(data: Any, count: int, *, big: bool) -> NDArray[Any]:
    """LUT Data is read as numbers (US, SS) or as bytes (OW, or UN where it was too long for US)."""
    if not isinstance(data, bytes | bytearray):
        return np.atleast_1d(np.asarray(data, dtype=np.int64)) & (_FULL - 1)
    if len(data) < 2 * count:
        return np.frombuffer(data, dtype=np.uint8)  # entries of eight bits, packed
    return np.frombuffer(data[: len(data) // 2 * 2], dtype=">u2" if big else "<u2")
