"""Which images of which data set were asked for."""

from pathlib import Path
from typing import Literal

import msgspec

Part = Literal["train", "validation", "calibration", "test", "all"]


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which images were asked for.

    Attributes:
        labels: CSV in the data set's folder; None: the recipe's, or ``labels.csv``, or the folders as labels.
        part: None: of the data set that the recipe names the test split, of any other all images.
        positive: Labels that mean the bundle's finding; empty: the recipe beside the bundle says it.
        boxes: CSV ``image,x,y,width,height`` of reference boxes.
        boxes_side: Width and height of the images that the boxes were drawn on.
    """

    dataset: Path
    labels: str | None = None
    part: Part | None = None
    positive: tuple[str, ...] = ()
    boxes: Path | None = None
    boxes_side: int = 1024
