"""What the tags say, whatever state they are in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from edge.imaging.header import parse_age, read_header


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


def test_values_of_the_wrong_kind_read_as_absent() -> None:
    dataset = Dataset()
    dataset.add_new(0x00280008, "IS", None)
    dataset.add_new(0x00080060, "CS", ["DX", "CR"])
    dataset.add_new(0x00180015, "CS", "")
    header = read_header(dataset)
    assert (header.frames, header.modality, header.body_part) == (1, "DX", None)
