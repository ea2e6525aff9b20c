"""What the tags say, whatever state they are in."""

from __future__ import annotations

import tracemalloc
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from edge.imaging.header import parse_age, read_dataset, read_header
from edge.imaging.refusal import Refusal
from edge.records import Reason
from tests.imaging.hostile import DEFLATED, bomb, with_tags


@pytest.mark.parametrize(
    ("text", "years"),
    [
        ("003Y", 3.0),
        ("3Y", 3.0),
        ("018M", 1.5),
        ("052W", 52 * 7 / 365.25),
        ("001D", 1 / 365.25),
        (" 018m ", 1.5),
        ("", None),
        ("3", None),
        ("Y", None),
        ("0003Y", None),
        ("-3Y", None),
        ("three", None),
    ],
)
def test_age_strings(text: str, years: float | None) -> None:
    assert parse_age(text) == (None if years is None else pytest.approx(years))


@given(st.text(max_size=8))
def test_no_text_breaks_the_age(text: str) -> None:
    age = parse_age(text)
    assert age is None or 0 <= age <= 999


@pytest.mark.parametrize(
    ("elements", "years"),
    [
        ({"PatientAge": "004Y", "PatientBirthDate": "19500101", "StudyDate": "20260101"}, 4.0),
        ({"PatientBirthDate": "20230601", "StudyDate": "20260601"}, 3.0),
        ({"PatientAge": "", "PatientBirthDate": "20230601", "AcquisitionDate": "20241201"}, 1.5),
        ({"PatientBirthDate": "20230601"}, None),
        ({"PatientBirthDate": "20260601", "StudyDate": "20230601"}, None),
        ({}, None),
    ],
)
def test_age_from_dates(elements: dict[str, str], years: float | None) -> None:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    assert read_header(dataset).age_years == (None if years is None else pytest.approx(years, abs=0.01))


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (["L", "F"], "L\\F"),
        (["r ", "f"], "R\\F"),
        ("L", "L"),
        ("", None),
        (None, None),
        (["", ""], "\\"),
    ],
)
def test_patient_orientation_keeps_both_values(value: list[str] | str | None, read: str | None) -> None:
    dataset = Dataset()
    dataset.add_new(0x00200020, "CS", value)
    assert read_header(dataset).patient_orientation == read
    assert read_header(Dataset()).patient_orientation is None


@pytest.mark.parametrize(
    ("keyword", "code", "meaning", "region", "projection"),
    [
        ("AnatomicRegionSequence", "816094009", "Chest", "CHEST", None),
        ("AnatomicRegionSequence", "T-D3000", "", "CHEST", None),
        ("AnatomicRegionSequence", "85562004", "Hand", "HAND", None),
        ("AnatomicRegionSequence", "T-D8700", "", "T-D8700", None),
        ("AnatomicRegionSequence", None, None, None, None),
        ("ViewCodeSequence", "399348003", "antero-posterior", None, "AP"),
        ("ViewCodeSequence", "R-10214", "postero-anterior", None, "PA"),
        ("ViewCodeSequence", "399173006", "left lateral", None, "LL"),
        ("ViewCodeSequence", "R-102CD", "lateral", None, "LATERAL"),
        ("ViewCodeSequence", "399033003", "frontal", None, None),
        ("ViewCodeSequence", "399182000", "oblique", None, "OBLIQUE"),
    ],
)
def test_codes_for_region_and_view(
    keyword: str, code: str | None, meaning: str | None, region: str | None, projection: str | None
) -> None:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = code, meaning
    dataset = Dataset()
    setattr(dataset, keyword, Sequence([item]))
    header = read_header(dataset)
    assert (header.region, header.projection) == (region, projection)
    setattr(dataset, keyword, Sequence([]))
    assert (read_header(dataset).region, read_header(dataset).projection) == (None, None)


def test_a_deflated_file_that_grows_without_bounds_is_refused_in_little_memory() -> None:
    data = bomb(300)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            read_dataset(data)
        assert refused.value.reason is Reason.HOSTILE_DIMENSIONS
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()
    assert read_header(read_dataset(with_tags(DEFLATED))).modality == "DX"


@pytest.mark.parametrize("megabytes", [1, 41])
def test_a_deflated_file_reads_as_pydicom_reads_it(megabytes: int) -> None:
    """Also one that is too large to be kept while it is inflated."""
    for data in (with_tags(DEFLATED, PatientName="Müller", SpecificCharacterSet="ISO_IR 100"), bomb(megabytes)):
        ours, theirs = read_dataset(data), dcmread(BytesIO(data))
        assert ours == theirs
        assert ours.file_meta == theirs.file_meta
        assert str(ours.get("PatientName", "")) == str(theirs.get("PatientName", ""))


def test_a_deflated_file_that_breaks_off_is_refused() -> None:
    with pytest.raises(Refusal) as refused:
        read_dataset(with_tags(DEFLATED)[:-100])
    assert refused.value.reason is Reason.UNDECODABLE


@pytest.mark.parametrize(
    ("sop_class", "stated", "intent"),
    [
        ("1.2.840.10008.5.1.4.1.1.1.1.1", None, "FOR PROCESSING"),
        ("1.2.840.10008.5.1.4.1.1.1.1", None, None),
        ("1.2.840.10008.5.1.4.1.1.1.1.1", "FOR PRESENTATION", "FOR PRESENTATION"),
    ],
)
def test_the_intent_is_the_tags_else_the_sop_classes(sop_class: str, stated: str | None, intent: str | None) -> None:
    dataset = Dataset()
    dataset.SOPClassUID = sop_class
    if stated:
        dataset.PresentationIntentType = stated
    assert read_header(dataset).presentation_intent == intent


def test_values_of_the_wrong_kind_read_as_absent() -> None:
    dataset = Dataset()
    dataset.add_new(0x00280008, "IS", None)
    dataset.add_new(0x00080060, "CS", ["DX", "CR"])
    dataset.add_new(0x00180015, "CS", "")
    header = read_header(dataset)
    assert (header.frames, header.modality, header.body_part) == (1, "DX", None)


@pytest.mark.parametrize(
    ("elements", "read"),
    [
        ({"ExposureIndex": "312.5", "TargetExposureIndex": "400", "DeviationIndex": "-1.1"}, (312.5, 400.0, -1.1)),
        ({"ExposureIndex": "312.5", "DeviationIndex": ""}, (312.5, None, None)),
        ({"DeviationIndex": "1E999"}, (None, None, None)),
        ({}, (None, None, None)),
    ],
)
def test_exposure(elements: dict[str, str], read: tuple[float | None, ...]) -> None:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    header = read_header(dataset)
    assert (header.exposure_index, header.target_exposure_index, header.deviation_index) == read


@pytest.mark.parametrize(
    ("elements", "device"),
    [
        ({"ManufacturerModelName": "X 1", "StationName": "ROOM1", "DeviceSerialNumber": "7"}, "X 1 ROOM1 7"),
        ({"StationName": "ROOM1"}, "ROOM1"),
        ({}, None),
    ],
)
def test_the_device(elements: dict[str, str], device: str | None) -> None:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    assert read_header(dataset).device == device


def test_a_sequence_in_the_place_of_text_is_absent() -> None:
    """Found by fuzzing: an item may hold elements that cannot even be shown."""
    dataset, item = Dataset(), Dataset()
    item[0x10105341] = RawDataElement(Tag(0x10105341), "US", 3, b"abc", 0, False, True)
    dataset.add_new(0x00100030, "SQ", [item])
    assert read_header(dataset).age_years is None
