"""The coded concepts that reports are written with (PS3.16; each one is in DICOM's own tables or checked elsewhere)."""

from __future__ import annotations

from typing import NamedTuple

from pydicom import Dataset

from edge.records import Level


class Code(NamedTuple):
    """A coded concept (PS3.3 8.8): its value, scheme and meaning, in highdicom's order of arguments."""

    value: str
    scheme_designator: str
    meaning: str

    def item(self) -> Dataset:
        """As an item of a code sequence."""
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = self
        return item


MEASUREMENT_REPORT = Code("126000", "DCM", "Imaging Measurement Report")
ENGLISH = Code("en-US", "RFC5646", "English (United States)")
IMAGE_LIBRARY = Code("111028", "DCM", "Image Library")
IMAGE_LIBRARY_GROUP = Code("126200", "DCM", "Image Library Group")
IMAGING_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
QUALITATIVE_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
VISUAL_EXPLANATION = Code("130401", "DCM", "Visual explanation")
CERTAINTY = Code("111012", "DCM", "Certainty of Finding")
PERCENT = Code("%", "UCUM", "Percent")
PIXELS = Code("{pixels}", "UCUM", "Pixels")
ROWS = Code("110910", "DCM", "Pixel Data Rows")
COLUMNS = Code("110911", "DCM", "Pixel Data Columns")
MODALITY = Code("121139", "DCM", "Modality")
INTERPRETATION = Code("110005", "DCM", "Interpretation")
COMMENT = Code("121106", "DCM", "Comment")
ARTIFICIAL_INTELLIGENCE = Code("123110", "DCM", "Artificial Intelligence")
PROCESSING_EQUIPMENT = Code("109102", "DCM", "Processing Equipment")
DEVICE = Code("121007", "DCM", "Device")

FINDINGS_SUMMARY = Code("111017", "DCM", "CAD Processing and Findings Summary")
SUCCEEDED_WITHOUT = Code("111241", "DCM", "All algorithms succeeded; without findings")
SUCCEEDED_WITH = Code("111242", "DCM", "All algorithms succeeded; with findings")
NONE_SUCCEEDED = Code("111245", "DCM", "No algorithms succeeded; without findings")

ABNORMAL = Code("263654008", "SCT", "Abnormal")
UNDETERMINED = Code("371934000", "SCT", "Normality Undetermined")
PRESENCE = Code("121052", "DCM", "Presence of property")
PRESENT = Code("52101004", "SCT", "Present")
ABSENT = Code("2667000", "SCT", "Absent")
INDETERMINATE = Code("82334004", "SCT", "Indeterminate")

LUNG = Code("39607008", "SCT", "Lung")
MORPHOLOGICALLY_ABNORMAL = Code("49755003", "SCT", "Morphologically abnormal structure")
ANATOMICAL_STRUCTURE = Code("123037004", "SCT", "Anatomical Structure")
SIDES = {
    "right": Code("24028007", "SCT", "Right"),
    "left": Code("7771000", "SCT", "Left"),
    "both": Code("51440002", "SCT", "Right and left"),
}
ZONES = {
    "upper": Code("281392002", "SCT", "Upper zone of lung"),
    "middle": Code("281393007", "SCT", "Middle zone of lung"),
    "lower": Code("281394001", "SCT", "Lower zone of lung"),
}
OF_THE_LUNG = frozenset(
    {
        ("SCT", "233604007"),
        ("SCT", "95436008"),
        ("SCT", "154283005"),
        ("SCT", "46621007"),
        ("SCT", "19242006"),
        ("DCM", "112033"),
        ("DCM", "112001"),
        ("DCM", "112121"),
        ("DCM", "112120"),
        ("DCM", "112004"),
    }
)
"""Findings whose site is the lung whether or not the network says where in it."""

IMAGE_QUALITY = Code("111101", "DCM", "Image Quality")
QUALITY_ASSESSMENT = Code("111050", "DCM", "Quality Assessment")
QUALITY_FINDING = Code("111052", "DCM", "Quality Finding")
QUALITY_LEVELS = {
    Level.WARN: Code("111236", "DCM", "Usable - Does not meet the quality control standard"),
    Level.UNUSABLE: Code("111235", "DCM", "Unusable - Quality renders image unusable"),
}
"""PS3.16 CID 6044. What is only said for information is no assessment."""

QUALITY_FINDINGS = {
    "111207": "Image artifact(s)",
    "111208": "Grid artifact(s)",
    "111209": "Positioning",
    "111210": "Motion blur",
    "111211": "Under exposed",
    "111212": "Over exposed",
    "111213": "No image",
    "111214": "Detector artifact(s)",
    "111215": "Artifact(s) other than grid or detector artifact",
    "111219": "Inappropriate image processing",
    "111220": "Other failure",
    "111221": "Unknown failure",
    "113026": "Double exposure",
}
"""PS3.16 CID 6135, values to meanings."""

CHEST_RADIOGRAPH = Code("399208008", "SCT", "Plain X-ray of chest")
PROCEDURES = {
    "CT": Code("25045-6", "LN", "CT unspecified body region"),
    "MR": Code("25056-3", "LN", "MRI unspecified body region"),
    "CR": Code("43468-8", "LN", "XR unspecified body region"),
    "DX": Code("43468-8", "LN", "XR unspecified body region"),
}
"""PS3.16 CID 100, by modality: what is reported is the imaging procedure, not the algorithm (IHE AIR)."""

IMAGING_PROCEDURE = Code("363679005", "SCT", "Imaging procedure")
MODALITIES = {
    "CR": "Computed Radiography",
    "CT": "Computed Tomography",
    "DX": "Digital Radiography",
    "MR": "Magnetic Resonance",
}
"""PS3.16 CID 29, values to meanings."""
