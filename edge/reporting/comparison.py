"""An image compared with its order in the clinic's worklist: pure, and about what both of them say alone.

Of the procedure, codes are compared where both have some of one scheme (PS3.3 C.4.12, 10.6), else the part of the body
in the order's words: whoever chose the wrong line at the modality has that line's names and numbers in the image.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date

from pydicom import Dataset

from edge.imaging.header import parse_age
from edge.records import OrderDifference
from edge.reporting.source import text_of

_RADIOGRAPHS = frozenset({"CR", "DX"})
"""A plate and a detector are ordered alike."""

_REGIONS = (
    {"CHEST", "THORAX", "TORAX", "TÓRAX", "LUNG", "LUNGS", "RIB", "RIBS", "CXR"},
    {"ABDOMEN", "ABDOMINAL", "KUB"},
    {"PELVIS", "HIP", "HIPS"},
    {"SKULL", "HEAD", "JAW", "SINUS", "SINUSES"},
    {"SHOULDER", "CLAVICLE", "HUMERUS", "ELBOW", "ARM", "FOREARM", "WRIST", "HAND", "FINGER", "THUMB"},
    {"LEG", "FEMUR", "KNEE", "PATELLA", "TIBIA", "ANKLE", "FOOT", "FEET", "TOE", "HEEL"},
)
"""Words for parts of the body, in the terms of PS3.16 annex L and as orders have them; any other word says nothing."""

_YOUNGER, _OLDER = -0.5, 1.5
"""Years by which an order's birth date and a stated age, in whole years, may lie apart."""


def compare(order: Dataset, image: Dataset) -> tuple[OrderDifference, ...]:
    """In what an order and an image differ; what one of them does not say is no difference."""
    return tuple(_differences(order, image))


def _differences(order: Dataset, image: Dataset) -> Iterator[OrderDifference]:
    for difference, keyword in (
        (OrderDifference.PATIENT_ID, "PatientID"),
        (OrderDifference.BIRTH_DATE, "PatientBirthDate"),
        (OrderDifference.SEX, "PatientSex"),
        (OrderDifference.STUDY, "StudyInstanceUID"),
    ):
        if _are_two(text_of(order, keyword), text_of(image, keyword)):
            yield difference
    if _is_of_another_age(order, image):
        yield OrderDifference.AGE
    if _are_two(_name(order), _name(image)):
        yield OrderDifference.NAME
    ordered = {text_of(step, "Modality") for step in _steps(order)} - {""}
    if ordered & _RADIOGRAPHS:
        ordered |= _RADIOGRAPHS
    if ordered and text_of(image, "Modality") not in {"", *ordered}:
        yield OrderDifference.MODALITY
    if _is_another_procedure(order, image):
        yield OrderDifference.PROCEDURE


def _are_two(one: str, other: str) -> bool:
    return bool(one and other and one != other)


def _name(dataset: Dataset) -> str:
    """The first form of the name; nothing where nobody says in which characters it is written."""
    name = "".join(str(dataset.get("PatientName") or "").partition("=")[0].casefold().replace("^", " ").split())
    return name if name.isascii() or dataset.get("SpecificCharacterSet") else ""


def _is_of_another_age(order: Dataset, image: Dataset) -> bool:
    """Whether the age that the image states is not that of who was ordered; two birth dates say it better."""
    age = parse_age(text_of(image, "PatientAge"))
    born, taken = _day(text_of(order, "PatientBirthDate")), _day(text_of(image, "StudyDate"))
    if age is None or born is None or taken is None or _day(text_of(image, "PatientBirthDate")):
        return False
    return not _YOUNGER < (taken - born).days / 365.25 - age < _OLDER


def _is_another_procedure(order: Dataset, image: Dataset) -> bool:
    ordered, done = set(_codes(order)), set(_codes(image))
    schemes = {scheme for scheme, _ in ordered} & {scheme for scheme, _ in done}
    if schemes:
        return not ordered & done
    words = set(re.findall(r"\w+", " ".join(_descriptions(order)).upper()))
    body_part = text_of(image, "BodyPartExamined").upper()
    named = [region for region in _REGIONS if region & words]
    return bool(named) and body_part in set().union(*_REGIONS) and not any(body_part in region for region in named)


def _codes(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Scheme and value of each code of the requested procedure."""
    requests = [dataset, *_items(dataset, "RequestAttributesSequence")]
    for request in requests:
        for code in _items(request, "RequestedProcedureCodeSequence"):
            yield text_of(code, "CodingSchemeDesignator"), text_of(code, "CodeValue")


def _descriptions(order: Dataset) -> Iterator[str]:
    yield text_of(order, "RequestedProcedureDescription")
    for code in _items(order, "RequestedProcedureCodeSequence"):
        yield text_of(code, "CodeMeaning")
    for step in _steps(order):
        yield text_of(step, "ScheduledProcedureStepDescription")


def _steps(order: Dataset) -> list[Dataset]:
    return _items(order, "ScheduledProcedureStepSequence")


def _items(dataset: Dataset, keyword: str) -> list[Dataset]:
    try:
        return [item for item in dataset.get(keyword) or () if isinstance(item, Dataset)]
    except Exception:  # pydicom raises nearly any type for a value that does not fit its VR
        return []


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
