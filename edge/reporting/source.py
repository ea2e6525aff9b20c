"""The image that a report is about: what is copied from it verbatim, what is repaired, and what makes it impossible.

A PACS files an object by patient and study, and refuses or merges by any difference: so those modules are copied byte
for byte, character set, issuer and empty values included (PS3.3 C.7.1.1, C.7.2.1).
"""

from __future__ import annotations

import re
from copy import deepcopy
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.tag import BaseTag, Tag

from edge.imaging.header import read_dataset, value_of
from edge.imaging.refusal import Refusal
from edge.reporting.values import fits

COPIED = (
    "SpecificCharacterSet",
    # Patient (PS3.3 C.7.1.1)
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "TypeOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "PatientBirthDate",
    "PatientBirthTime",
    "PatientSex",
    "OtherPatientIDsSequence",
    "OtherPatientNames",
    "EthnicGroup",
    "PatientComments",
    "PatientSpeciesDescription",
    "PatientBreedDescription",
    "PatientBreedCodeSequence",
    "BreedRegistrationSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    # General Study (C.7.2.1) and Patient Study (C.7.2.2)
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "IssuerOfAccessionNumberSequence",
    "ReferringPhysicianName",
    "ReferringPhysicianIdentificationSequence",
    "StudyDescription",
    "ProcedureCodeSequence",
    "StudyInstanceUID",
    "StudyID",
    "ReferencedStudySequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "AdmissionID",
    "IssuerOfAdmissionIDSequence",
    "TimezoneOffsetFromUTC",
)
REQUIRED_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
"""Type 2: empty where the image lacks them."""

_VERBATIM = frozenset(
    {"SpecificCharacterSet", "PatientName", "PatientID", "IssuerOfPatientID", "StudyID", "AccessionNumber"}
)
"""Whose the image is and which study: never changed. Where a value of these breaks the standard, no object can be made
that keeps it and belongs to the image."""

_UID = re.compile(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))+")
_REFERENCED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID")
_LONGEST_UID = 64


class Unreportable(Exception):  # noqa: N818 - an answer about the image, not a defect
    """No object can be made of this image's result: the message says why, without any of its values."""


@dataclass(frozen=True, eq=False)
class Source:
    """What a report needs of its image.

    Attributes:
        header: Its data set; of its pixels nothing is read.
        identity: Patient and study, ready to be taken over.
        repaired: What had to be added or left out, by keyword.
    """

    header: Dataset
    identity: tuple[DataElement | RawDataElement, ...]
    repaired: tuple[str, ...]

    @property
    def modality(self) -> str:
        """(0008,0060); `OT` where the image has none that is one."""
        value = text_of(self.header, "Modality")
        return value if re.fullmatch(r"[A-Z0-9_ ]{1,16}", value) else "OT"

    @property
    def first_frame(self) -> list[int] | None:
        """The number of the frame that was analysed, where there are several."""
        frames: object = value_of(self.header, "NumberOfFrames")
        return [1] if isinstance(frames, int) and frames > 1 else None

    @property
    def size(self) -> tuple[int, int] | None:
        """Rows and columns of the stored image; None where it does not say."""
        try:
            rows, columns = int(self.header.Rows), int(self.header.Columns)
        except Exception:  # absent or of any wrong type
            return None
        return (rows, columns) if 0 < rows <= 65535 and 0 < columns <= 65535 else None


def read_source(data: bytes) -> Source:
    """The image of a result.

    Raises:
        Unreportable: It is no DICOM object, or names no study, series or instance to which a report could belong.
    """
    try:
        header = read_dataset(data)
    except Refusal as refusal:
        raise Unreportable(f"it cannot be read ({refusal.reason})") from refusal
    for keyword in _REFERENCED:
        value = text_of(header, keyword)
        if len(value) > _LONGEST_UID or not _UID.fullmatch(value):
            raise Unreportable(f"it has no valid {keyword}")
    identity, repaired = _identity(header)
    return Source(header, identity, repaired)


def text_of(dataset: Dataset, keyword: str) -> str:
    """A value as text; empty where there is none or it cannot be read."""
    try:
        value = dataset.get(keyword)
    except Exception:  # pydicom raises nearly any type for a value that does not fit its VR
        return ""
    return value.strip() if isinstance(value, str) else ""


def take_over(dataset: Dataset, source: Source) -> None:
    """Put the image's patient and study into an object, byte for byte where explicit VR is written."""
    for element in source.identity:
        dataset[element.tag] = element
    # Says to pydicom that values which were not decoded are written as they are.
    dataset.set_original_encoding(False, True, source.header.original_character_set)


def _identity(header: Dataset) -> tuple[tuple[DataElement | RawDataElement, ...], tuple[str, ...]]:
    found: dict[BaseTag, DataElement | RawDataElement] = {}
    repaired = []
    for keyword in COPIED:
        tag = Tag(tag_for_keyword(keyword) or 0)
        if tag not in header:
            continue
        try:
            copied, well = _copied(header, tag), fits(header[tag])
        except Exception:  # pydicom raises nearly any type for a value that does not fit its VR
            well = False
        if well:
            found[tag] = copied
        elif keyword in _VERBATIM:
            raise Unreportable(f"its {keyword} breaks the rules of the VR {dictionary_VR(tag)}")
        else:
            repaired.append(keyword)
    for keyword in REQUIRED_EMPTY:
        tag = Tag(tag_for_keyword(keyword) or 0)
        if tag not in found:
            found[tag] = DataElement(tag, dictionary_VR(tag), None)
            repaired.append(keyword)
    return tuple(found.values()), tuple(repaired)


def _copied(header: Dataset, tag: BaseTag) -> DataElement | RawDataElement:
    element: object = header.get_item(tag)
    vr = dictionary_VR(tag)
    if isinstance(element, RawDataElement) and vr != "SQ" and element.value is not None:
        value = element.value
        return element._replace(VR=vr, length=len(value), is_implicit_VR=False, is_little_endian=True, value_tell=0)
    return deepcopy(header[tag])
