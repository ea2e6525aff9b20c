"""Reads a DICOM data set's tags into a `Header`, whatever state they are in.

Nothing here trusts a tag: a value of the wrong type or length reads as absent.
"""

from __future__ import annotations

import math
import re
import zlib
from datetime import date
from io import BytesIO
from typing import Any

from pydicom import Dataset, FileDataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset as parse_elements
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from edge.imaging.refusal import Refusal
from edge.records import Header, Reason

DAYS_PER_YEAR = 365.25
MAX_INFLATED = 1 << 28
"""Most bytes that a deflated data set may become: twice the largest image that is decoded, at 16 bits."""

_MOST_KEPT = 40 << 20
"""What is inflated only once: more than the largest detectors give. A bomb takes no more memory than this."""

_INFLATED_AT_ONCE = 1 << 22
_AGE = re.compile(r"(\d{1,3})([DWMY])")
_FOR_PROCESSING = {f"1.2.840.10008.5.1.4.1.1.1.{kind}.1" for kind in (1, 2, 3)}
"""SOP Classes of digital X-ray, mammography and intra-oral images for processing (PS3.4 B.5)."""

_REGIONS: dict[str, str | None] = dict.fromkeys(("816094009", "51185008", "T-D3000"), "CHEST")
"""Code values of PS3.16 CID 4009 in SNOMED CT, its predecessor there, and SNOMED RT, as in PS3.16 Annex L."""

_PROJECTIONS: dict[str, str | None] = {
    **dict.fromkeys(("399348003", "R-10206"), "AP"),
    **dict.fromkeys(("272479007", "R-10214", "R-40888"), "PA"),
    **dict.fromkeys(("399173006", "R-10236"), "LL"),
    **dict.fromkeys(("399198007", "R-10232"), "RL"),
    **dict.fromkeys(("399067008", "R-102CD", "30730003", "G-A145"), "LATERAL"),
    **dict.fromkeys(("399033003", "R-10202"), None),
}
"""Code values of PS3.16 CID 4010, SNOMED CT and RT. `Frontal` is either of two terms: it says nothing more."""

_YEARS_PER_UNIT = {"D": 1 / DAYS_PER_YEAR, "W": 7 / DAYS_PER_YEAR, "M": 1 / 12, "Y": 1.0}


def read_dataset(data: bytes) -> Dataset:
    """Parse a DICOM file, with or without preamble and file meta information (PS3.10 7.1).

    Raises:
        Refusal: `not_dicom`; `undecodable` for a file that starts as DICOM and breaks off; `hostile_dimensions` for a
            deflated one that grows beyond `MAX_INFLATED`.
    """
    has_preamble = data[128:132] == b"DICM"
    try:
        dataset = _inflated(data, 132 if has_preamble else 0)
        if dataset is None:
            dataset = dcmread(BytesIO(data), force=not has_preamble)
        # A first access to each element the pipeline needs would raise later; sequences nested without end raise here.
        found = any(keyword in dataset for keyword in ("SOPClassUID", "SOPInstanceUID", "Rows", "Modality"))
    except Refusal:
        raise
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
        sop_instance_uid=text_of(dataset, "SOPInstanceUID"),
        sop_class_uid=text_of(dataset, "SOPClassUID"),
        study_instance_uid=text_of(dataset, "StudyInstanceUID"),
        modality=text_of(dataset, "Modality"),
        body_part=text_of(dataset, "BodyPartExamined"),
        region=_coded(dataset, "AnatomicRegionSequence", _REGIONS),
        view=text_of(dataset, "ViewPosition"),
        projection=_coded(dataset, "ViewCodeSequence", _PROJECTIONS),
        laterality=text_of(dataset, "ImageLaterality") or text_of(dataset, "Laterality"),
        patient_orientation=_orientation(dataset),
        presentation_intent=text_of(dataset, "PresentationIntentType") or _intent(text_of(dataset, "SOPClassUID")),
        quality_control="YES" in (text_of(dataset, "QualityControlImage"), text_of(dataset, "QualityControlSubject")),
        made_by_software=text_of(dataset, "ConversionType") in ("WSD", "SYN"),
        exposure_index=_number(dataset, "ExposureIndex"),
        target_exposure_index=_number(dataset, "TargetExposureIndex"),
        deviation_index=_number(dataset, "DeviationIndex"),
        device=_device(dataset),
        frames=_integer(dataset, "NumberOfFrames") or 1,
        patient_id=text_of(dataset, "PatientID"),
        sex=text_of(dataset, "PatientSex"),
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


def text_of(dataset: Dataset, keyword: str) -> str | None:
    """The element's first value as text of at most 64 characters; None when it is absent, empty or no text."""
    value = value_of(dataset, keyword)
    if value is None or isinstance(value, Dataset):  # a sequence in the place of text: its items may be anything
        return None
    return str(value).strip()[:64] or None


def _inflated(data: bytes, start: int) -> Dataset | None:
    """A deflated data set (PS3.5 A.5), refused when it grows beyond all images.

    None for one that is not deflated, and for one that is large but not refused: pydicom may read it.

    Args:
        data: The file.
        start: Where its file meta information begins, or would.
    """
    stream = BytesIO(data)
    stream.seek(start)
    meta = parse_elements(stream, is_implicit_VR=False, is_little_endian=True, stop_when=_behind_file_meta)
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    inflater, deflated, elements, grown = zlib.decompressobj(-zlib.MAX_WBITS), stream.read(), BytesIO(), 0
    while not inflater.eof:
        if not deflated:
            raise EOFError("the deflated data set breaks off")
        piece = inflater.decompress(deflated, _INFLATED_AT_ONCE)
        deflated = inflater.unconsumed_tail
        grown += len(piece)
        if grown > MAX_INFLATED:
            raise Refusal(Reason.HOSTILE_DIMENSIONS, f"inflates to more than {MAX_INFLATED} bytes, the rule")
        if grown <= _MOST_KEPT:
            elements.write(piece)
    if grown > _MOST_KEPT:
        return None
    elements.seek(0)
    found = parse_elements(elements, is_implicit_VR=False, is_little_endian=True)
    dataset = FileDataset("", found, file_meta=FileMetaDataset(meta))
    dataset.set_original_encoding(False, True, found.original_character_set)
    return dataset


def _behind_file_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return tag.group != 2


def _coded(dataset: Dataset, keyword: str, terms: dict[str, str | None]) -> str | None:
    """The term for a code sequence's first item; a code that has none reads as its meaning, in capitals."""
    item = value_of(dataset, keyword)
    if not isinstance(item, Dataset):
        return None
    code = text_of(item, "CodeValue")
    if code in terms:
        return terms[code]
    return (text_of(item, "CodeMeaning") or code or "").upper() or None


def _intent(sop_class: str | None) -> str | None:
    return "FOR PROCESSING" if sop_class in _FOR_PROCESSING else None


def _orientation(dataset: Dataset) -> str | None:
    try:
        value = dataset.get("PatientOrientation")
        parts = [] if value is None else [value] if isinstance(value, str) else [str(part) for part in value]
    except Exception:  # a value that does not fit its VR: absent, as this module's contract says
        return None
    return "\\".join(part.strip().upper() for part in parts)[:64] or None


def _number(dataset: Dataset, keyword: str) -> float | None:
    try:
        value = float(value_of(dataset, keyword))
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _device(dataset: Dataset) -> str | None:
    parts = (text_of(dataset, keyword) for keyword in ("ManufacturerModelName", "StationName", "DeviceSerialNumber"))
    return " ".join(part for part in parts if part) or None


def _integer(dataset: Dataset, keyword: str) -> int | None:
    value = value_of(dataset, keyword)
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None


def _age_years(dataset: Dataset) -> float | None:
    stated = text_of(dataset, "PatientAge")
    age = parse_age(stated) if stated else None
    if age is not None:
        return age
    born = _date(text_of(dataset, "PatientBirthDate"))
    dates = (text_of(dataset, keyword) for keyword in ("AcquisitionDate", "ContentDate", "StudyDate"))
    seen = _date(next(filter(None, dates), None))
    if born is None or seen is None or seen < born:
        return None
    return (seen - born).days / DAYS_PER_YEAR


def _date(text: str | None) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        return None
