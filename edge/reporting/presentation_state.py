"""Where the network looked, as outlines over the image itself: a Grayscale Softcopy Presentation State (PS3.3 A.33.1).

It shows the image as its own tags say, so that taking it up changes nothing but the outlines.
"""

from __future__ import annotations

from copy import deepcopy

import cv2
import numpy as np
from pydicom import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from edge.imaging.evidence import Explanation, region_of
from edge.records import Finding
from edge.reporting.modules import Report, begin, reference, series_reference
from edge.reporting.source import Source, text_of

_FINE = 512
"""Pixels of the longer side in which an outline is found: an activation map has far fewer."""

_MODALITY = ("ModalityLUTSequence", "RescaleIntercept", "RescaleSlope", "RescaleType")
_VOI = ("VOILUTSequence", "WindowCenter", "WindowWidth", "WindowCenterWidthExplanation", "VOILUTFunction")


def presentation_state(source: Source, report: Report, explanation: Explanation | None = None) -> Dataset | None:
    """One layer for each finding that has a place; None where no finding has one, or the image is not grey.

    Args:
        source: The image.
        report: What is to be said about it.
        explanation: Where the network looked; a finding of which it has no map gets the rectangle that it has.
    """
    placed = [finding for finding in report.result.findings if finding.box]
    photometric = text_of(source.header, "PhotometricInterpretation")
    if not placed or source.size is None or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return None
    dataset = begin(source, report, GrayscaleSoftcopyPresentationStateStorage, "PR")
    dataset.ContentLabel, dataset.ContentDescription = "AI_RESULT", "Where the network looked; not for diagnosis"
    dataset.ContentCreatorName = ""
    dataset.PresentationCreationDate, dataset.PresentationCreationTime = dataset.ContentDate, dataset.ContentTime
    del dataset.ContentDate, dataset.ContentTime
    image = reference(source.header)
    of_series = series_reference(source.header)
    of_series.ReferencedImageSequence = of_series.pop("ReferencedSOPSequence").value
    dataset.ReferencedSeriesSequence = [of_series]
    _show_as_it_is(dataset, source, photometric)
    dataset.DisplayedAreaSelectionSequence = [_whole(source.size, image)]
    dataset.GraphicLayerSequence = [_layer(number, finding) for number, finding in enumerate(placed, 1)]
    dataset.GraphicAnnotationSequence = [
        _annotation(number, finding, image, _outlines(finding, explanation, source.size))
        for number, finding in enumerate(placed, 1)
    ]
    return dataset


def _show_as_it_is(dataset: Dataset, source: Source, photometric: str) -> None:
    """The image's own grey scale: without it a presentation state would show the raw range."""
    for keyword in _MODALITY:
        _copy(source.header, dataset, keyword)
    whole = all(keyword in dataset for keyword in ("RescaleIntercept", "RescaleSlope"))
    if "ModalityLUTSequence" in dataset or not whole:
        for keyword in _MODALITY[1:]:
            dataset.pop(keyword, None)
    elif "RescaleType" not in dataset:
        dataset.RescaleType = "US"
    voi = Dataset()
    for keyword in _VOI:
        _copy(source.header, voi, keyword)
    if "VOILUTSequence" in voi or ("WindowCenter" in voi and "WindowWidth" in voi):
        dataset.SoftcopyVOILUTSequence = [voi]
    dataset.PresentationLUTShape = "INVERSE" if photometric == "MONOCHROME1" else "IDENTITY"


def _copy(header: Dataset, into: Dataset, keyword: str) -> None:
    try:
        if keyword in header and not header[keyword].is_empty:
            into[keyword] = deepcopy(header[keyword])
    except Exception:  # a value that cannot be read is not taken over
        into.pop(keyword, None)


def _whole(size: tuple[int, int], image: Dataset) -> Dataset:
    area = Dataset()
    area.ReferencedImageSequence = [image]
    area.DisplayedAreaTopLeftHandCorner = [1, 1]
    area.DisplayedAreaBottomRightHandCorner = [size[1], size[0]]
    area.PresentationSizeMode = "SCALE TO FIT"
    area.PresentationPixelAspectRatio = ["1", "1"]
    return area


def _layer(number: int, finding: Finding) -> Dataset:
    layer = Dataset()
    layer.GraphicLayer, layer.GraphicLayerOrder = f"AI_{number}", number
    layer.GraphicLayerDescription = finding.meaning[:64]
    layer.GraphicLayerRecommendedDisplayCIELabValue = [48000, 40000, 52000]
    return layer


def _outlines(
    finding: Finding, explanation: Explanation | None, size: tuple[int, int]
) -> list[list[tuple[float, float]]]:
    """The edges of where the evidence is strongest, as the page draws them, in pixels of the image (PS3.3 C.10.5)."""
    rows, columns = size
    cam = explanation.maps.get(finding.code) if explanation else None
    if explanation is None or cam is None:
        left, top, right, bottom = finding.box or (0, 0, 0, 0)
        return [[(left, top), (right, top), (right, bottom), (left, bottom)]]
    share = min(1.0, _FINE / max(rows, columns))
    width, height = max(1, round(columns * share)), max(1, round(rows * share))
    region = region_of(Explanation(maps={finding.code: cam}, lungs=explanation.lungs), width, height)
    edges, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    scale = np.array([columns / width, rows / height])
    corners = [(cv2.approxPolyDP(edge, 1.0, closed=True)[:, 0] + 0.5) * scale for edge in edges]
    return [[(float(x), float(y)) for x, y in each] for each in corners if len(each) > 2]


def _closed(corners: list[tuple[float, float]]) -> Dataset:
    shape = Dataset()
    shape.GraphicAnnotationUnits, shape.GraphicDimensions = "PIXEL", 2
    shape.NumberOfGraphicPoints, shape.GraphicType, shape.GraphicFilled = len(corners) + 1, "POLYLINE", "N"
    shape.GraphicData = [float(each) for corner in (*corners, corners[0]) for each in corner]
    return shape


def _annotation(number: int, finding: Finding, image: Dataset, outlines: list[list[tuple[float, float]]]) -> Dataset:
    left, top, *_ = finding.box or (0, 0)
    text = Dataset()
    text.UnformattedTextValue = f"AI: {finding.meaning} {finding.probability:.0%}"
    text.AnchorPointAnnotationUnits, text.AnchorPoint = "PIXEL", [float(left), float(top)]
    text.AnchorPointVisibility = "N"
    annotation = Dataset()
    annotation.ReferencedImageSequence, annotation.GraphicLayer = [image], f"AI_{number}"
    annotation.TextObjectSequence = [text]
    if outlines:
        annotation.GraphicObjectSequence = [_closed(corners) for corners in outlines]
    return annotation
