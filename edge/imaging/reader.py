"""One way into this room: a file's bytes to a header, and then to an image."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from edge.imaging.decode import MAX_PIXELS, check_pixels, decode_first_frame
from edge.imaging.grayscale import to_grey
from edge.imaging.header import read_dataset, read_header
from edge.imaging.refusal import Refusal
from edge.records import Header, Image, Reason

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_TAIL = 4096


class Source:
    """A file whose header is read and whose pixels can be: DICOM, or a PNG or JPEG picture of a radiograph."""

    def __init__(self, data: bytes, *, modality: str | None = None, age_years: float | None = None) -> None:
        """Read the header.

        Args:
            data: The file.
            modality: What to take as Modality where no header says it.
            age_years: The patient's age where no header says it.

        Raises:
            Refusal: `not_dicom`, or `undecodable` for a DICOM file that cannot be parsed.
        """
        self._data = data
        self._dataset: Dataset | None = None if data.startswith((_JPEG, _PNG)) else read_dataset(data)
        stated = Header() if self._dataset is None else read_header(self._dataset)
        self.header = replace(
            stated,
            modality=stated.modality or modality,
            age_years=age_years if stated.age_years is None else stated.age_years,
        )

    def check(self) -> None:
        """Refuse what holds no image, or one that cannot be decoded, before decoding. Raises `Refusal`."""
        if self._dataset is not None:
            check_pixels(self._dataset)

    def decode(self) -> NDArray[np.generic]:
        """The stored values. Raises `Refusal`."""
        return decode_first_frame(self._dataset) if self._dataset is not None else _decode_picture(self._data)

    def image(self, stored: NDArray[np.generic]) -> Image:
        """The grey values of what `decode` gave. Raises `Refusal`."""
        dataset = Dataset() if self._dataset is None else self._dataset
        if self._dataset is None:
            dataset.BitsStored = stored.dtype.itemsize * 8
        return Image(pixels=to_grey(stored, dataset), header=self.header)


def _decode_picture(data: bytes) -> NDArray[np.generic]:
    end = b"IEND" if data.startswith(_PNG) else b"\xff\xd9"
    if end not in data[-_TAIL:]:
        raise Refusal(Reason.UNDECODABLE, "the picture breaks off before its end marker")
    try:
        picture = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
    except cv2.error as error:
        raise Refusal(Reason.UNDECODABLE, "the picture cannot be decoded") from error
    if picture is None:
        raise Refusal(Reason.UNDECODABLE, "the picture cannot be decoded")
    if picture.size > MAX_PIXELS:
        raise Refusal(Reason.HOSTILE_DIMENSIONS, f"{picture.size} pixels; the rule is at most {MAX_PIXELS}")
    stored: NDArray[np.generic] = picture
    return stored
