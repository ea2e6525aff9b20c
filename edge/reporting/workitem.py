"""The result as a UPS workitem "Interpretation": a person is to read this image, and how soon (PS3.4 table CC.2.5-3).

Pure: an image and a result in, DICOM JSON (PS3.18 annex F) out. A workitem is made of what is flagged, and of what is
indeterminate: there the model has seen something that it could not decide. Of nothing else: that an image waits to be
read is the clinic's own list's to say, and a low priority would read as a promise that nothing is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pydicom import Dataset
from pydicom.uid import UID

from edge.config_reporting import Destination
from edge.records import Status
from edge.reporting import codes
from edge.reporting.modules import CAUTION, Report, reference
from edge.reporting.source import Source, take_over, text_of
from edge.reporting.structured_report import sentences
from edge.reporting.validation import broken_values

UPS_PUSH = UID("1.2.840.10008.5.1.4.34.6.1")
"""Unified Procedure Step - Push SOP Class, whatever is done with a workitem (PS3.4 CC.3.1)."""

PRIORITIES = {Status.FLAGGED: "HIGH", Status.INDETERMINATE: "MEDIUM"}
"""Scheduled Procedure Step Priority (0074,1200) of the answers of which a workitem is made."""

WORKLIST_LABEL = "AI priority reading"
"""Worklist Label (0074,1202), by which a site picks these workitems."""

_LONGEST_COMMENT = 10_240
_PATIENT = (
    "PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence", "PatientBirthDate", "PatientSex", "AdmissionID", "IssuerOfAdmissionIDSequence",
)  # fmt: skip
_REQUEST = ("StudyInstanceUID", "AccessionNumber", "IssuerOfAccessionNumberSequence")
_TYPE_1 = (
    "ScheduledProcedureStepPriority", "ProcedureStepLabel", "ScheduledProcedureStepStartDateTime",
    "InputReadinessState", "ProcedureStepState", "ScheduledWorkitemCodeSequence", "InputInformationSequence",
    "StudyInstanceUID", "WorklistLabel", "SOPInstanceUID",
)  # fmt: skip
"""Those of the table, and those that the standard lets be empty and we do not."""

_TYPE_2 = (
    "TransactionUID", "ScheduledProcessingParametersSequence", "ScheduledStationNameCodeSequence",
    "ScheduledStationClassCodeSequence", "ScheduledStationGeographicLocationCodeSequence",
    "ScheduledHumanPerformersSequence", "CommentsOnTheScheduledProcedureStep", "PatientName", "PatientID",
    "IssuerOfPatientID", "IssuerOfPatientIDQualifiersSequence", "OtherPatientIDsSequence", "PatientBirthDate",
    "PatientSex", "AdmissionID", "IssuerOfAdmissionIDSequence", "AdmittingDiagnosesDescription",
    "AdmittingDiagnosesCodeSequence", "ReferencedRequestSequence", "ProcedureStepProgressInformationSequence",
    "UnifiedProcedureStepPerformedProcedureSequence",
)  # fmt: skip
# What was requested beyond its accession number is the order's to say: an image is no order.
_TYPE_2_OF_REQUEST = (
    "AccessionNumber", "IssuerOfAccessionNumberSequence", "RequestedProcedureID", "RequestedProcedureDescription",
    "RequestedProcedureCodeSequence",
)  # fmt: skip


def workitem(source: Source, report: Report) -> bytes | None:
    """The workitem of one result, under one SOP Instance UID; None where nobody is to be called by it.

    What it asks to be read is the image alone: in which SOP Class a PACS has taken the report, and so under which UID,
    is known there alone. It is in the same study.
    """
    priority = PRIORITIES.get(report.result.status)
    if priority is None:
        return None
    item = _of_whom(source)
    item.SpecificCharacterSet = "ISO_IR 192"  # PS3.18 F.2: JSON is UTF-8
    item.SOPInstanceUID = report.uid(UPS_PUSH)
    item.ScheduledProcedureStepPriority = priority
    item.ProcedureStepLabel = f"{CAUTION}: {report.words}"
    item.WorklistLabel = WORKLIST_LABEL
    item.ScheduledProcedureStepStartDateTime = f"{report.at:%Y%m%d%H%M%S%z}"
    item.ScheduledWorkitemCodeSequence = [codes.INTERPRETATION.item()]
    item.CommentsOnTheScheduledProcedureStep = "\r\n".join(sentences(report))[:_LONGEST_COMMENT].rstrip()
    item.InputReadinessState = "READY"
    item.InputInformationSequence = [_input(source)]
    item.ProcedureStepState = "SCHEDULED"
    for keyword in _TYPE_2:
        if keyword not in item:
            setattr(item, keyword, None)
    return _written(item)


def retrievable(data: bytes, destination: Destination) -> bytes:
    """The workitem for one destination: the AE title of the PACS that has its image (Retrieve AE Title)."""
    item = _read(data)
    at = Dataset()
    at.RetrieveAETitle = destination.called_ae_title
    for each in item.InputInformationSequence:
        each.DICOMRetrievalSequence = [at]
    return _written(item)


def apart(data: bytes) -> tuple[str, bytes]:
    """The SOP Instance UID of a workitem, and what is sent: the UID stands in the URL alone (PS3.18 11.4.1.4)."""
    item = _read(data)
    uid = str(item.SOPInstanceUID)
    del item.SOPInstanceUID
    return uid, _written(item)


def broken_rules_of_workitem(data: bytes) -> list[str]:
    """Why a workitem may not leave; nothing when it may. Names rules, never values."""
    try:
        item = _read(data)
        broken = [*_attributes(item), *_items(item), *broken_values(item)]
    except Exception as error:  # pydicom raises nearly any type: what cannot be read back must not leave
        return [f"it cannot be read back ({type(error).__name__})"]
    if "\ufffd" in data.decode():
        broken.append("a value of the image is not in its character set")
    return broken


def _of_whom(source: Source) -> Dataset:
    """Whose image it is, and what was requested of it."""
    identity, item, request = Dataset(), Dataset(), Dataset()
    take_over(identity, source)
    for keywords, to in ((_PATIENT, item), (_REQUEST, request)):
        for keyword in keywords:
            if keyword in identity:
                to[keyword] = identity[keyword]
    for keyword in _TYPE_2_OF_REQUEST:
        if keyword not in request:
            setattr(request, keyword, None)
    item.StudyInstanceUID = request.StudyInstanceUID
    item.ReferencedRequestSequence = [request]
    return item


def _input(source: Source) -> Dataset:
    """The image (PS3.3 table 10-3b)."""
    images = Dataset()
    images.TypeOfInstances = "DICOM"
    images.StudyInstanceUID = text_of(source.header, "StudyInstanceUID")
    images.SeriesInstanceUID = text_of(source.header, "SeriesInstanceUID")
    images.ReferencedSOPSequence = [reference(source.header)]
    return images


def _attributes(item: Dataset) -> Iterator[str]:
    for keyword in _TYPE_1:
        if keyword not in item or item[keyword].is_empty:
            yield f"{keyword}: Type 1, missing or empty"
    for keyword in _TYPE_2:
        if keyword not in item:
            yield f"{keyword}: Type 2, missing"
    if item.get("ProcedureStepState") != "SCHEDULED" or item.get("TransactionUID"):
        yield "it is not SCHEDULED, or locked (PS3.4 CC.2.5.2)"
    if item.get("ScheduledProcedureStepPriority") not in PRIORITIES.values():
        yield "ScheduledProcedureStepPriority: not one that this box gives"


def _items(item: Dataset) -> Iterator[str]:
    for request in item.get("ReferencedRequestSequence") or ():
        if not request.get("StudyInstanceUID") or any(keyword not in request for keyword in _TYPE_2_OF_REQUEST):
            yield "ReferencedRequestSequence: an attribute is missing"
    for images in item.get("InputInformationSequence") or ():
        if not all(images.get(each) for each in ("TypeOfInstances", "SeriesInstanceUID", "ReferencedSOPSequence")):
            yield "InputInformationSequence: an attribute is missing"
        elif images.get("StudyInstanceUID") != item.get("StudyInstanceUID"):
            yield "InputInformationSequence: it is of another study"


def _read(data: bytes) -> Dataset:
    (item,) = json.loads(data)
    return Dataset.from_json(item)


def _written(item: Dataset) -> bytes:
    """In the order of tags, which JSON must keep (PS3.18 F.2.2)."""
    return json.dumps([item.to_json_dict()], ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()
