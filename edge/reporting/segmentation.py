"""The outline of the lungs as the segmentation saw them: a binary SEG over the image (PS3.3 A.51), by highdicom."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
from highdicom import AlgorithmIdentificationSequence, seg
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.coding import Code as SrCode
from pydicom.uid import ExplicitVRLittleEndian, SegmentationStorage

from edge.imaging.evidence import Explanation, mask_of
from edge.reporting import codes
from edge.reporting.modules import CAUTION, MANUFACTURER, Report, begin, finish, orientation_of
from edge.reporting.source import REQUIRED_EMPTY, Source

_MOST_PIXELS = 1 << 26
_GEOMETRY = (
    "StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID", "Modality", "Rows", "Columns",
    "FrameOfReferenceUID", "PixelSpacing", "ImagerPixelSpacing", "ImageOrientationPatient", "ImagePositionPatient",
    "SliceThickness", "SpacingBetweenSlices", "PositionReferenceIndicator", "ImageType", "NumberOfFrames",
)  # fmt: skip


def segmentation(source: Source, report: Report, explanation: Explanation | None) -> Dataset | None:
    """The lungs over the image; None where they are not known.

    Raises:
        Exception: highdicom refuses the image, for whatever its tags lack.
    """
    lungs_outline = explanation.lungs if explanation else None
    if not lungs_outline or source.size is None or source.size[0] * source.size[1] > _MOST_PIXELS:
        return None
    rows, columns = source.size
    mask = mask_of(lungs_outline, columns, rows)
    if not mask.any():
        return None
    named = begin(source, report, SegmentationStorage, "SEG")
    model = report.result.model
    lungs = seg.SegmentDescription(
        segment_number=1,
        segment_label="Lungs",
        segmented_property_category=SrCode(*codes.ANATOMICAL_STRUCTURE),
        segmented_property_type=SrCode(*codes.LUNG),
        algorithm_type=seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name=f"{MANUFACTURER} lungs",
            family=SrCode(*codes.ARTIFICIAL_INTELLIGENCE),
            version=model.version if model else report.software,
        ),
        tracking_uid=report.uid("lungs"),
        tracking_id="Lungs",
    )
    made = seg.Segmentation(
        source_images=[_stand_in(source)],
        pixel_array=mask[np.newaxis],
        segmentation_type=seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[lungs],
        series_instance_uid=named.SeriesInstanceUID,
        series_number=named.SeriesNumber,
        sop_instance_uid=named.SOPInstanceUID,
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MANUFACTURER,
        software_versions=report.software,
        device_serial_number=report.box,
        content_label="LUNGS",
        content_description="Outline of the lungs as the software sees it",
    )
    dataset = Dataset()
    dataset.update(made)
    dataset["PixelData"].VR = "OB"  # one bit a pixel
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = report.uid("dimensions")  # highdicom's is another one each time
    finish(dataset, source, report)
    dataset.SeriesDescription = CAUTION
    dataset.PatientOrientation = orientation_of(source)
    return dataset


def _stand_in(source: Source) -> Dataset:
    """The image without its pixels and with no word of whose it is: that is copied verbatim afterwards."""
    image = Dataset()
    for keyword in _GEOMETRY:
        if keyword in source.header:
            image[keyword] = deepcopy(source.header[keyword])
    for keyword in REQUIRED_EMPTY:
        setattr(image, keyword, "")
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image
