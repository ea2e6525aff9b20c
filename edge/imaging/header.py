"""Reads a DICOM data set's tags into a `Header`, whatever state they are in.

Nothing here trusts a tag: a value of the wrong type or length reads as absent.
"""

from __future__ import annotations

import re
from datetime import date
from io import BytesIO
from typing import Any

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

from edge.imaging.refusal import Refusal
from edge.records import Header, Reason

DAYS_PER_YEAR = 365.25
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_YEARS_PER_UNIT = {"D": 1 / DAYS_PER_YEAR, "W": 7 / DAYS_PER_YEAR, "M": 1 / 12, "Y": 1.0}


def read_dataset(data: bytes) -> Dataset:
    """Parse a DICOM file, with or without preamble and file meta information (PS3.10 7.1).

    Raises:
        Refusal: `not_dicom` or, for a file that starts as DICOM and breaks off, `undecodable`.
    """
    has_preamble = data[128:132] == b"DICM"
    try:
        dataset = dcmread(BytesIO(data), force=not has_preamble)
        # A first access to each element the pipeline needs would raise later; sequences nested without end raise here.
        found = any(keyword in dataset for keyword in ("SOPClassUID", "SOPInstanceUID", "Rows", "Modality"))
    except InvalidDicomError as error:
        raise Refusal(Reason.NOT_DICOM, "no DICOM preamble and no readable data set") from error
    except Exception as error:  # pydicom raises nearly any type on broken files; each is this file's answer
        reason = Reason.UNDECODABLE if has_preamble else Reason.NOT_DICOM
        raise Refusal(reason, f"the data set cannot be parsed: {type(error).__name__}") from error
    if not found and not has_preamble:
        raise Refusal(Reason.NOT_DICOM, "no DICOM preamble and no known element")
    return dataset


def read_header(dataset: Dataset) -> Header:
    """What the tags say (PS3.3 General Series, DX Series, Patient Study); absent or unreadable is None."""
    return Header(
        sop_instance_uid=_text(dataset, "SOPInstanceUID"),
        sop_class_uid=_text(dataset, "SOPClassUID"),
        study_instance_uid=_text(dataset, "StudyInstanceUID"),
        modality=_text(dataset, "Modality"),
        body_part=_text(dataset, "BodyPartExamined"),
        view=_text(dataset, "ViewPosition"),
        laterality=_text(dataset, "ImageLaterality") or _text(dataset, "Laterality"),
        patient_orientation=_orientation(dataset),
        presentation_intent=_text(dataset, "PresentationIntentType"),
        quality_control="YES" in (_text(dataset, "QualityControlImage"), _text(dataset, "QualityControlSubject")),
        frames=_integer(dataset, "NumberOfFrames") or 1,
        patient_id=_text(dataset, "PatientID"),
        sex=_text(dataset, "PatientSex"),
        age_years=_age_years(dataset),
    )


def parse_age(text: str) -> float | None:
    """Years in an Age String (PS3.5 6.2, VR AS: `003Y`, `018M`; `3Y` is read too); None if unreadable."""
    match = _AGE.fullmatch(text.strip().upper())
    return int(match[1]) * _YEARS_PER_UNIT[match[2]] if match else None


def value_of(dataset: Dataset, keyword: str) -> Any:
    """The element's first value, or None when it is absent, empty or unreadable."""
    try:
        value = dataset.get(keyword)
    except Exception:  # a value that does not fit its VR: absent, as this module's contract says
        return None
    if isinstance(value, MultiValue | Sequence | list | tuple):
        value = value[0] if len(value) else None
    return None if value is None or value == "" else value


def _text(dataset: Dataset, keyword: str) -> str | None:
    value = value_of(dataset, keyword)
    return None if value is None else str(value).strip()[:64] or None


def _orientation(dataset: Dataset) -> str | None:
    try:
        value = dataset.get("PatientOrientation")
        parts = [] if value is None else [value] if isinstance(value, str) else [str(part) for part in value]
    except Exception:  # a value that does not fit its VR: absent, as this module's contract says
        return None
    return "\\".join(part.strip().upper() for part in parts)[:64] or None


def _integer(dataset: Dataset, keyword: str) -> int | None:
    value = value_of(dataset, keyword)
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _age_years(dataset: Dataset) -> float | None:
    stated = _text(dataset, "PatientAge")
    age = parse_age(stated) if stated else None
    if age is not None:
        return age
    born = _date(_text(dataset, "PatientBirthDate"))
    seen = _date(_text(dataset, "AcquisitionDate") or _text(dataset, "ContentDate") or _text(dataset, "StudyDate"))
    if born is None or seen is None or seen < born:
        return None
    return (seen - born).days / DAYS_PER_YEAR


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
