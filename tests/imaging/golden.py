"""What each real file of ../shared/data/dicom is read as: `python -m tests.imaging.golden` writes golden.csv.

Where it changes, `git diff` shows which files are read otherwise than before. The values were compared once, on
2026-11-25, with pydicom's own and pylibjpeg's decoders: equal, but for chrominance, which is not kept, for 116 (values
above Bits Stored, which lossy coding left, are clipped) and for what those refuse.
"""

from __future__ import annotations

import csv
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from tests.conftest import ROOT

TABLE = Path(__file__).with_name("golden.csv")
FOLDER = ROOT.parent / "shared/data/dicom"


class Golden(NamedTuple):
    """One file.

    Attributes:
        path: In the folder.
        answer: `decoded`, or the refusal's reason.
        shape: Rows and columns, and 3 where colour was kept.
        low: Smallest stored value, with its type.
        high: Largest likewise.
        checksum: CRC-32 of the stored values, little endian; of lossy ones it may differ by CPU.
        grey: Mean grey value, 0..1.
    """

    path: str
    answer: str
    shape: str = ""
    low: str = ""
    high: str = ""
    checksum: str = ""
    grey: str = ""


def index() -> list[dict[str, str]]:
    """The folder's own list."""
    with (FOLDER / "index.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(path: str) -> Golden:
    """The file as it is read now."""
    try:
        source = Source((FOLDER / path).read_bytes())
        source.check()
        stored = source.decode()
        values = stored.values
        shown = source.image(stored).pixels
    except Refusal as refusal:
        return Golden(path, refusal.reason)
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<"), copy=False))
    return Golden(
        path,
        "decoded",
        "x".join(str(side) for side in values.shape),
        f"{values.dtype} {values.min()}",
        str(values.max()),
        f"{zlib.crc32(little.tobytes()):08x}",
        f"{shown.mean():.4f}",
    )


def table() -> list[Golden]:
    """What was written down."""
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [Golden(**row) for row in csv.DictReader(file)]


def main() -> None:
    """Write the table."""
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Golden._fields)
        writer.writerows(read(row["path"]) for row in index())


if __name__ == "__main__":
    main()
