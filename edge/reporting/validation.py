"""Every object is checked before it leaves, by rules of our own: a PACS says only that it refuses, not why.

Type 1 and 2 attributes of its class (PS3.3), values (PS3.5 6.2), references, and the structure that TID 1500 has and
viewers rely on (PS3.16). Pure; what it says names attributes and rules, never values.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from pydicom import Dataset, dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from edge.reporting import codes
from edge.reporting.source import REQUIRED_EMPTY
from edge.reporting.values import fits

_ALWAYS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber",
    "InstanceNumber", "Manufacturer",
)  # fmt: skip
_SR = ("CompletionFlag", "VerificationFlag", "ContentDate", "ContentTime", "ValueType", "ConceptNameCodeSequence",
       "ContentTemplateSequence", "ContentSequence", "CurrentRequestedProcedureEvidenceSequence")  # fmt: skip
_PIXELS = ("SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit",
           "PixelData")  # fmt: skip
_TYPE_1: dict[str, tuple[str, ...]] = {
    Comprehensive3DSRStorage: _SR,
    ComprehensiveSRStorage: _SR,
    SecondaryCaptureImageStorage: (*_PIXELS, "ConversionType", "PlanarConfiguration", "ImageType"),
    GrayscaleSoftcopyPresentationStateStorage: (
        "ContentLabel", "PresentationCreationDate", "PresentationCreationTime", "ReferencedSeriesSequence",
        "DisplayedAreaSelectionSequence", "GraphicAnnotationSequence", "GraphicLayerSequence", "PresentationLUTShape",
    ),
    SegmentationStorage: (
        *_PIXELS, "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions", "SegmentationType",
        "SegmentSequence", "ContentLabel", "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence",
        "DimensionIndexSequence", "NumberOfFrames",
    ),
}  # fmt: skip
_BITS: dict[str, int] = {SecondaryCaptureImageStorage: 24, SegmentationStorage: 1}


def broken_rules(data: bytes) -> list[str]:
    """What an encoded object (PS3.10) breaks, an entry for each rule; nothing when it may leave."""
    try:
        dataset = dcmread(BytesIO(data))
        sop_class = str(dataset.get("SOPClassUID"))
        if sop_class not in _TYPE_1:
            return ["SOPClassUID: not one that this box makes"]
        broken = [*_attributes(dataset, sop_class), *broken_values(dataset), *_pixels(dataset, sop_class)]
        if sop_class in (Comprehensive3DSRStorage, ComprehensiveSRStorage) and not broken:
            broken = [*_template(dataset), *_references(dataset)]
    except Exception as error:  # pydicom raises nearly any type: what cannot be read back must not leave
        return [f"it cannot be read back ({type(error).__name__})"]
    return broken


def broken_values(dataset: Dataset) -> Iterator[str]:
    """The values, at any depth, that break the rules of their VR."""
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield from broken_values(item)
        elif not fits(element):
            yield f"{keyword_for_tag(element.tag) or 'an attribute'}: breaks the rules of its VR {element.VR}"


def _attributes(dataset: Dataset, sop_class: str) -> Iterator[str]:
    for keyword in (*_ALWAYS, *_TYPE_1[sop_class]):
        if keyword not in dataset or dataset[keyword].is_empty:
            yield f"{keyword}: Type 1, missing or empty"
    for keyword in REQUIRED_EMPTY:
        if keyword not in dataset:
            yield f"{keyword}: Type 2, missing"


def _pixels(dataset: Dataset, sop_class: str) -> Iterator[str]:
    if sop_class not in _BITS or "PixelData" not in dataset:
        return
    bits = dataset.Rows * dataset.Columns * int(dataset.get("NumberOfFrames") or 1) * _BITS[sop_class]
    size = -(-bits // 8)
    if len(dataset.PixelData) != size + size % 2:
        yield "PixelData: not as long as rows, columns and bits say"


def _template(dataset: Dataset) -> Iterator[str]:
    """What OHIF and other viewers look for without asking whether it is there."""
    if _name(dataset) != codes.MEASUREMENT_REPORT.value:
        yield "the root is no Imaging Measurement Report (126000)"
    if dataset.ContentTemplateSequence[0].get("TemplateIdentifier") != "1500":
        yield "the root's template is not 1500"
    if (dataset.VerificationFlag, dataset.get("PreliminaryFlag")) != ("UNVERIFIED", "PRELIMINARY"):
        yield "it says that a person has verified it"
    items = {_name(item): item for item in dataset.ContentSequence}
    for code in ("121049", "121058", codes.IMAGE_LIBRARY.value, codes.QUALITATIVE_EVALUATIONS.value):
        if code not in items:
            yield f"content item {code} is missing"
    measurements = items.get(codes.IMAGING_MEASUREMENTS.value, Dataset())
    groups = list(measurements.get("ContentSequence") or ())
    if not groups:
        yield "no Imaging Measurements (126010) with a group"
    for group in groups:
        present = {_name(item): item for item in group.ContentSequence}
        if not ("112039" in present and present.get("112040", Dataset()).get("UID") and "121071" in present):
            yield "a measurement group without tracking identifiers or finding"


def _references(dataset: Dataset) -> Iterator[str]:
    evidence = {
        str(instance.ReferencedSOPInstanceUID)
        for study in dataset.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for instance in series.ReferencedSOPSequence
    }
    if any(uid not in evidence for uid in _referenced(dataset)):
        yield "an instance that the content refers to is not among the evidence"
    studies = {study.StudyInstanceUID for study in dataset.CurrentRequestedProcedureEvidenceSequence}
    if studies != {dataset.StudyInstanceUID}:
        yield "its evidence is of another study"


def _referenced(item: Dataset) -> Iterator[str]:
    for child in item.get("ContentSequence") or ():
        for instance in child.get("ReferencedSOPSequence") or ():
            yield str(instance.ReferencedSOPInstanceUID)
        yield from _referenced(child)


def _name(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue")) if names else ""
