"""What all our objects have in common: names, patient and study, series, equipment (PS3.3 C.7.3.1, C.7.5.1, C.12.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from pydicom import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from edge.model_facts import ModelFacts
from edge.records import STATUS_WORDS, Result
from edge.reporting import codes
from edge.reporting.names import device_uid, uid_of
from edge.reporting.source import Source, take_over, text_of

MANUFACTURER = "Scanside"
CAUTION = "AI result - not for diagnosis"
"""In every series description; a person must read the image (DESIGN rule 4)."""

_SERIES_NUMBERS = {"SR": 9901, "SC": 9902, "PR": 9903, "SEG": 9904}


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the objects of one result say.

    Attributes:
        result_id: Names the result's version: every UID follows from it, so that none is ever given twice.
        result: The answer.
        at: When it was committed, in the box's time zone.
        box: The box's name, as device serial number.
        software: The version of the software.
        facts: What the model's bundle says.
    """

    result_id: str
    result: Result
    at: datetime
    box: str
    software: str
    facts: ModelFacts = field(default_factory=ModelFacts)

    def uid(self, *names: str) -> UID:
        """The UID of one thing of this result."""
        return uid_of(self.result_id, *names)

    @property
    def words(self) -> str:
        """The answer in words."""
        return STATUS_WORDS[self.result.status]


def begin(source: Source, report: Report, sop_class: str, modality: str) -> Dataset:
    """An object of its own series with all that is the same in each; `modality` is that of its kind."""
    dataset = Dataset()
    kind = modality if modality in _SERIES_NUMBERS else "SC"
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, report.uid(sop_class)
    finish(dataset, source, report)
    dataset.Modality = modality
    dataset.SeriesInstanceUID = report.uid("series", sop_class)
    dataset.SeriesNumber, dataset.InstanceNumber = _SERIES_NUMBERS[kind], 1
    dataset.SeriesDescription = CAUTION
    if modality != "SR":  # Type 2C: a radiograph of the chest has none
        side = text_of(source.header, "Laterality")
        dataset.Laterality = side if side in ("L", "R") else None
    dataset.Manufacturer, dataset.ManufacturerModelName = MANUFACTURER, MANUFACTURER
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = report.box, report.software
    return dataset


def finish(dataset: Dataset, source: Source, report: Report) -> None:
    """Patient and study of the image, our date and time, and the model as contributing equipment."""
    take_over(dataset, source)
    dataset.SeriesDate = dataset.ContentDate = dataset.InstanceCreationDate = report.at.strftime("%Y%m%d")
    dataset.SeriesTime = dataset.ContentTime = dataset.InstanceCreationTime = report.at.strftime("%H%M%S")
    model = report.result.model
    if model:
        equipment = Dataset()
        equipment.PurposeOfReferenceCodeSequence = [codes.PROCESSING_EQUIPMENT.item()]
        equipment.Manufacturer, equipment.ManufacturerModelName = MANUFACTURER, model.id
        equipment.SoftwareVersions, equipment.DeviceUID = model.version, device_uid(model)
        equipment.ContributionDescription = f"Algorithm, {model.engine} {model.precision}"
        dataset.ContributingEquipmentSequence = [equipment]


def orientation_of(source: Source) -> list[str] | None:
    """Patient Orientation (0020,0020) of the image; None where it does not say."""
    try:
        value = source.header.get("PatientOrientation")
    except Exception:  # a value that does not fit its VR says nothing
        value = None
    parts = [str(part) for part in value] if isinstance(value, MultiValue) else []
    return parts if len(parts) == 2 and all(parts) else None


def reference(dataset: Dataset) -> Dataset:
    """A SOP Instance Reference (PS3.3 10.8)."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = dataset.SOPClassUID, dataset.SOPInstanceUID
    return item


def series_reference(dataset: Dataset) -> Dataset:
    """The reference with the series that it belongs to."""
    item = Dataset()
    item.ReferencedSOPSequence = [reference(dataset)]
    item.SeriesInstanceUID = dataset.SeriesInstanceUID
    return item
