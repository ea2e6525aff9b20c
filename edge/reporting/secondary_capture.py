"""The result as a picture for people: what the page shows, in RGB, with the answer in words beneath (PS3.3 A.8.1).

It is made of the preview and overlay that the analyst has drawn: no byte of the image itself is decoded here. The
preview is a JPEG, and the object says so. Nothing that identifies a patient is written into it.
"""

from __future__ import annotations

import textwrap

import cv2
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from edge.reporting.codes import Code
from edge.reporting.modules import CAUTION, Report, begin, orientation_of, reference
from edge.reporting.source import Source, text_of
from edge.reporting.structured_report import sentences

_SOURCE_IMAGE = Code("121322", "DCM", "Source image for image processing operation")
_NARROWEST = 480
_FONT, _SCALE, _LINE_HEIGHT, _MARGIN = cv2.FONT_HERSHEY_SIMPLEX, 0.45, 20, 10
_LETTER_WIDTH = 8.4


def secondary_capture(source: Source, report: Report, preview: bytes | None, overlay: bytes | None) -> Dataset:
    """The picture of one result; of an image that could not be shown, the words alone.

    Args:
        source: The image.
        report: What is to be said about it.
        preview: Grey JPEG as the page shows it, None where there is none.
        overlay: Transparent PNG in the same proportions that shows where the network looked, None likewise.

    Raises:
        ValueError: A picture cannot be decoded.
    """
    pixels = _picture(report, preview, overlay)
    dataset = begin(source, report, SecondaryCaptureImageStorage, "OT")
    dataset.ConversionType = "WSD"
    dataset.ImageType = ["DERIVED", "SECONDARY"]
    dataset.DerivationDescription = "Preview of the image, outline of what the network looked at, answer"
    dataset.PatientOrientation = orientation_of(source) if preview else None
    burned_in = text_of(source.header, "BurnedInAnnotation")
    if not preview or burned_in in ("YES", "NO"):
        dataset.BurnedInAnnotation = burned_in if preview else "NO"
    of_image = reference(source.header)
    of_image.PurposeOfReferenceCodeSequence = [_SOURCE_IMAGE.item()]
    dataset.SourceImageSequence = [of_image]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.LossyImageCompression = "01" if preview else "00"
    if preview:
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        dataset.LossyImageCompressionRatio = f"{_pixels_of(preview) / len(preview):.2f}"
    data = pixels.tobytes()
    dataset.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    return dataset


def _picture(report: Report, preview: bytes | None, overlay: bytes | None) -> NDArray[np.uint8]:
    """(rows, columns, 3), RGB."""
    image = np.zeros((0, _NARROWEST, 3), np.uint8) if preview is None else _overlaid(preview, overlay)
    width = max(_NARROWEST, image.shape[1])
    image = np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)))
    letters = int((width - 2 * _MARGIN) / _LETTER_WIDTH)
    said = (CAUTION, *_model(report), *sentences(report))
    lines = [line for each in said for line in textwrap.wrap(each, letters)]
    caption = np.zeros((len(lines) * _LINE_HEIGHT + 2 * _MARGIN, width, 3), np.uint8)
    for number, line in enumerate(lines, 1):
        at = (_MARGIN, _MARGIN + number * _LINE_HEIGHT - 6)
        cv2.putText(caption, line, at, _FONT, _SCALE, (255, 255, 255), 1, cv2.LINE_AA)
    return np.concatenate((image, caption))


def _model(report: Report) -> list[str]:
    model = report.result.model
    return [f"{model.id} {model.version}{', experimental' if model.experimental else ''}"] if model else []


def _overlaid(preview: bytes, overlay: bytes | None) -> NDArray[np.uint8]:
    image = cv2.cvtColor(_decoded(preview, cv2.IMREAD_GRAYSCALE), cv2.COLOR_GRAY2RGB)
    if overlay is None:
        return np.asarray(image, np.uint8)
    drawn = _decoded(overlay, cv2.IMREAD_UNCHANGED)
    if drawn.ndim != 3 or drawn.shape[2] != 4:
        raise ValueError("the overlay has no transparency")
    drawn = cv2.resize(drawn, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_AREA).astype(np.float32)
    alpha = drawn[:, :, 3:] / 255.0
    return np.asarray(np.round(image * (1 - alpha) + drawn[:, :, 2::-1] * alpha), np.uint8)


def _decoded(picture: bytes, flags: int) -> NDArray[np.uint8]:
    try:
        decoded: NDArray[np.uint8] | None = cv2.imdecode(np.frombuffer(picture, np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise ValueError("a derived picture cannot be decoded")
    return decoded


def _pixels_of(preview: bytes) -> int:
    return int(_decoded(preview, cv2.IMREAD_GRAYSCALE).size)
