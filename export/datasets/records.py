"""What a data set is, once it is loaded."""

from typing import Literal, get_args

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ScansideError

Split = Literal["train", "validation", "calibration", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class DatasetError(ScansideError):
    """A data set that cannot be used; the message is one line."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One labelled image; None is what nobody wrote down."""

    path: str
    """Relative to the data set's folder."""
    label: str
    """The label's cell as it stands, or the name of the folder that the image lies in."""
    patient: str
    """The values of the recipe's patient columns, parted by "/"; else what stands for the Patient ID of a DICOM file's
    tags, or what the file's name says."""
    mask: str | None = None
    """Relative to the data set's folder."""
    view: str | None = None
    """As View Position (0018,5101): ``PA``, ``AP``."""
    sex: str | None = None
    """As Patient's Sex (0010,0040): ``F``, ``M``, ``O``."""
    age_years: float | None = None
    source: str | None = None
    """Where the image came from: the column ``source``."""
    referenced: bool = False
    """Whether it carries the reference label, which is better than the others' labels."""


class Dataset(msgspec.Struct, frozen=True, kw_only=True):
    """Prepared images with their labels and splits, in the order of the CSV or of the paths."""

    rows: tuple[Row, ...]
    pixels: NDArray[np.uint8]
    """[N, side, side], prepared as on the device, then rounded to 8 bits (exact for 8-bit images of that size)."""
    targets: NDArray[np.float32]
    """[N, K] of 0 and 1, a column for each finding; K is 0 for a segmentation."""
    masks: NDArray[np.uint8] | None
    """[N, side, side] of 0 and 1, all 0 where there is none; None unless a structure is looked for."""
    splits: tuple[Split | None, ...]
    """None: the image is left out."""
    fingerprint: str
    """SHA-256 over everything else in this record."""

    def indices(self, split: Split) -> NDArray[np.int64]:
        """The images of ``split``."""
        return np.flatnonzero(np.array([s == split for s in self.splits]))
