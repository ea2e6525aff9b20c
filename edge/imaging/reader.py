"""One way into this room: a file's bytes to a header, and then to an image."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset

from edge.imaging.codecs import SCALED_DCT
from edge.imaging.codestream import Unreadable, read_jpeg
from edge.imaging.decode import MAX_PIXELS, Stored, check_pixels, decode_first_frame
from edge.imaging.grayscale import may_average, to_grey
from edge.imaging.header import read_dataset, read_header
from edge.imaging.refusal import Refusal
from edge.imaging.resample import Size, halve, halvings
from edge.imaging.stored_bits import Layout
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
        else:
            _check_picture(self._data)

    def size(self) -> Size:
        """The stored image's rows and columns, as the file claims them. Raises `Refusal`."""
        if self._dataset is None:
            return _picture_size(self._data)
        layout = Layout.of(self._dataset)
        return Size(layout.rows, layout.columns)

    def decode(self, cover: Size | None = None) -> Stored:
        """The stored values, whole or, where `cover` rows and columns suffice, halved as long as they are covered.

        What would look different for being averaged before its grey scale is applied stays whole. Raises `Refusal`.
        """
        if self._dataset is None:
            return _decode_picture(self._data, cover)
        return decode_first_frame(self._dataset, cover if cover and may_average(self._dataset) else None)

    def image(self, stored: Stored) -> Image:
        """The grey values of what `decode` gave. Raises `Refusal`."""
        dataset = Dataset() if self._dataset is None else self._dataset
        if self._dataset is None:
            dataset.BitsStored = stored.values.dtype.itemsize * 8
        return Image(pixels=to_grey(stored, dataset), rows=stored.rows, columns=stored.columns, header=self.header)


def _picture_size(data: bytes) -> Size:
    try:
        if data.startswith(_PNG):  # IHDR comes first (PNG 11.2.2)
            return Size(int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big"))
        coded = read_jpeg(data[: data.rfind(b"\xff\xd9") + 2])
    except Unreadable as problem:
        raise Refusal(Reason.UNDECODABLE, f"the picture cannot be decoded: {problem}") from problem
    return Size(coded.rows, coded.columns)


def _check_picture(data: bytes) -> Size:
    if (b"IEND" if data.startswith(_PNG) else b"\xff\xd9") not in data[-_TAIL:]:
        raise Refusal(Reason.UNDECODABLE, "the picture breaks off before its end marker")
    size = _picture_size(data)
    if size.rows * size.columns > MAX_PIXELS:
        raise Refusal(
            Reason.HOSTILE_DIMENSIONS, f"{size.rows} x {size.columns} pixels; the rule is at most {MAX_PIXELS}"
        )
    return size


def _decode_picture(data: bytes, cover: Size | None) -> Stored:
    size = _check_picture(data)
    times = halvings(size, cover) if cover else 0
    scaled = min(times, len(SCALED_DCT)) if data.startswith(_JPEG) else 0
    flags = SCALED_DCT[scaled - 1] if scaled else cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE
    try:
        picture: NDArray[np.generic] | None = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error as error:
        raise Refusal(Reason.UNDECODABLE, "the picture cannot be decoded") from error
    if picture is None:
        raise Refusal(Reason.UNDECODABLE, "the picture cannot be decoded")
    height, width = picture.shape
    turned = (height > width) != (size.rows > size.columns)  # Exif's orientation is obeyed
    rows, columns = (size.columns, size.rows) if turned else size
    return Stored(halve(picture, times - scaled), rows, columns)
