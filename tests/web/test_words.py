"""What the page says."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.records import REASON_WORDS, Priority, Reason, Result, Status, Subject
from edge.web import words
from tests.web import samples


@pytest.mark.parametrize(
    ("probability", "expected"),
    [
        (1.0, "very likely"),
        (0.9, "very likely"),
        (0.8999, "likely"),
        (0.66, "likely"),
        (0.5, "possible"),
        (0.33, "possible"),
        (0.32, "low probability"),
        (0.0, "low probability"),
    ],
)
def test_probabilities_have_bands(probability: float, expected: str) -> None:
    assert words.band(probability) == expected


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (samples.flagged(0.95), "Flagged: pneumonia, very likely"),
        (samples.flagged(0.7), "Flagged: pneumonia, likely"),
        (samples.clear(), "No listed finding above the threshold"),
        (samples.indeterminate(), "Indeterminate"),
        (samples.not_analysed(), "Not analysed: side view; the software reads front views only"),
    ],
)
def test_the_headline_is_one_of_the_four_answers(result: Result, expected: str) -> None:
    assert words.headline(result) == expected


@pytest.mark.parametrize(
    ("side", "zone", "expected"),
    [
        ("right", "lower", "right lung, lower zone"),
        ("both", "middle", "both lungs, middle zone"),
        (None, "upper", "upper zone"),
        ("left", None, "left lung"),
        (None, None, ""),
    ],
)
def test_where_the_software_looked(
    side: Literal["right", "left", "both"] | None, zone: Literal["upper", "middle", "lower"] | None, expected: str
) -> None:
    assert words.whereabouts(msgspec.structs.replace(samples.finding(0.9), side=side, zone=zone)) == expected


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_said_in_words(reason: Reason) -> None:
    assert words.headline(samples.not_analysed(reason)) == f"Not analysed: {REASON_WORDS[reason]}"


@pytest.mark.parametrize("status", Status)
def test_nobody_is_called_healthy(status: Status) -> None:
    said = f"{words.headline(samples.result(status))} {words.advice(samples.result(status))}".lower()
    for forbidden in ("normal", "healthy", "diagnos", "no disease", "fine", "✓", "✔"):
        assert forbidden not in said


def test_only_an_urgent_flag_calls_the_clinician() -> None:
    assert words.advice(samples.flagged()).startswith("Call the clinician now.")
    routine = samples.result(Status.FLAGGED, findings=(samples.finding(0.7),), priority=Priority.ROUTINE)
    assert words.advice(routine).startswith("Ask the clinician to look.")
    assert words.advice(samples.flagged(), acknowledged=True) == "The software suggests: pneumonia. It can be wrong."


@pytest.mark.parametrize(
    ("patient_id", "expected"),
    [
        ("PAT-000417", "…417"),
        ("123456", "…456"),
        ("12345", "…45"),
        ("417", "…7"),
        ("4", "no patient id"),
        ("", "no patient id"),
        (None, "no patient id"),
        ("<script>alert(1)</script>", "…pt>"),
    ],
)
def test_a_patient_is_the_end_of_an_id(patient_id: str | None, expected: str) -> None:
    assert words.id_end(patient_id) == expected


@given(st.text(max_size=200))
def test_an_id_never_shows_more_than_half_of_itself(patient_id: str) -> None:
    shown = words.id_end(patient_id)
    assert shown == "no patient id" or len(shown) - 1 <= min(3, len(patient_id) // 2)


@given(st.text(max_size=500))
def test_text_from_outside_becomes_one_short_printable_line(text: str) -> None:
    plain = words.plain(text)
    assert len(plain) <= 40
    assert plain.isprintable()
    assert "\u202e" not in plain


@pytest.mark.parametrize(
    ("years", "expected"),
    [
        (0.0, "child 0 months"),
        (0.4, "child 4 months"),
        (1.99, "child 23 months"),
        (2.0, "child 2 y"),
        (17.9, "child 17 y"),
        (18.0, "18 y"),
        (None, ""),
        (-1.0, ""),
        (999.0, ""),
    ],
)
def test_ages_as_a_clinic_says_them(years: float | None, expected: str) -> None:
    assert words.age(years) == expected


@pytest.mark.parametrize(
    ("subject", "patient", "image"),
    [
        (samples.CHILD, ("…417", "child 3 y", "female"), ("DX", "chest, front view (PA)")),
        (Subject(), ("no patient id",), ()),
        (Subject(patient_id="ABCDEF", sex="X", view="LL", modality="CR"), ("…DEF",), ("CR", "side view (LL)")),
        (Subject(body_part="CHEST", view="OBL"), ("no patient id",), ("chest (OBL)",)),
    ],
)
def test_subjects(subject: Subject, patient: tuple[str, ...], image: tuple[str, ...]) -> None:
    assert words.patient(subject) == patient
    assert words.image(subject) == image


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-5, "0 s"),
        (0.9, "0 s"),
        (89, "89 s"),
        (90, "1 min"),
        (5399, "89 min"),
        (5400, "1 h"),
        (172_799, "47 h"),
        (172_800, "2 days"),
    ],
)
def test_spans(seconds: float, expected: str) -> None:
    assert words.ago(seconds) == expected


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "under 1%"), (0.01, "1%"), (0.5, "50%"), (0.941, "94%"), (0.99, "99%"), (0.9999, "over 99%")],
)
def test_percentages_are_never_certain(share: float, said: str) -> None:
    assert words.percent(share) == said
