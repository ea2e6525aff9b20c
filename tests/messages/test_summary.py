"""What leaves the box about one image."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from edge.imaging.quality import codes
from edge.messages.summary import QUALITY_CODES, UNLISTED, band, is_concept, summarise
from edge.records import (
    Finding,
    Level,
    ModelUsed,
    Priority,
    QualityFinding,
    Reason,
    Result,
    Status,
    Summary,
    Timings,
)
from tests.messages.schemas import check

MODEL = ModelUsed(
    id="cxr-pneumonia",
    version="1.0.0",
    digest="sha256:" + "0f" * 32,
    engine="openvino",
    precision="int8",
)
FLAGGED = Result(
    source="dicom",
    sop_instance_uid="1.2.826.0.1.3680043.8.498.1",
    status=Status.FLAGGED,
    reason=None,
    priority=Priority.URGENT,
    findings=(
        Finding(
            code="233604007",
            scheme="SCT",
            meaning="Pneumonia",
            score=0.97,
            probability=0.94,
            threshold=0.62,
            flagged=True,
            box=(1, 2, 3, 4),
        ),
    ),
    quality=(
        QualityFinding(check="lung_cut_off", level=Level.WARN, code="111209", scheme="DCM", message="left lung"),
        QualityFinding(check="again", level=Level.INFO, code="111209", scheme="DCM", message="right lung"),
    ),
    model=MODEL,
    timings_ms=Timings(total=24.0),
)

# 2026-11-20T23:42:11Z
COMMITTED = 1_795_218_131.25


def _summary(result: Result) -> Summary:
    return summarise(result, message_id="5f" * 16, committed_at=COMMITTED, synchronised=True, waited=0.2504)


def test_a_flagged_image() -> None:
    """MSG-SUMMARY-01"""
    assert msgspec.json.decode(msgspec.json.encode(_summary(FLAGGED))) == {
        "schema": "scanside.summary/2",
        "message_id": "5f" * 16,
        "hour": "2026-11-20T23",
        "clock": "right",
        "status": "flagged",
        "reason": None,
        "priority": "urgent",
        "findings": [{"code": "233604007", "scheme": "SCT", "flagged": True, "band": "high"}],
        "quality": ["DCM:111209"],
        "model": {
            "id": "cxr-pneumonia",
            "version": "1.0.0",
            "digest": "sha256:" + "0f" * 32,
            "engine": "openvino",
            "precision": "int8",
            "experimental": False,
        },
        "latency_ms": 250,
    }


def test_an_image_that_was_not_analysed() -> None:
    result = Result(
        source="file",
        sop_instance_uid=None,
        status=Status.NOT_ANALYSED,
        reason=Reason.UNDER_AGE,
        priority=Priority.ROUTINE,
        timings_ms=Timings(),
    )
    summary = _summary(result)
    assert (summary.status, summary.reason, summary.findings, summary.model) == ("not_analysed", "under_age", (), None)
    check("summary", msgspec.json.encode(summary))


def test_no_latency_is_negative() -> None:
    assert summarise(FLAGGED, message_id="a", committed_at=COMMITTED, synchronised=True, waited=-60.0).latency_ms == 0


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [
        (0.0, 0.62, "low"),
        (0.309, 0.62, "low"),
        (0.31, 0.62, "moderate"),
        (0.62, 0.62, "moderate"),
        (0.809, 0.62, "moderate"),
        (0.81, 0.62, "high"),
        (1.0, 0.62, "high"),
        (1.0, 1.0, "high"),
        (0.0, 0.0, "moderate"),
    ],
)
def test_bands_are_relative_to_the_threshold(probability: float, threshold: float, expected: str) -> None:
    assert band(probability, threshold) == expected


# What tags of a DICOM object, file names and peers look like: names, UIDs, record numbers, dates, free text.
_PERSONAL = (
    st.from_regex(r"[A-Z]{4,10}\^[A-Z]{4,10}(\^[A-Z])?", fullmatch=True)
    | st.from_regex(r"[12](\.[1-9][0-9]{1,9}){5,8}", fullmatch=True)
    | st.from_regex(r"[A-Z]{2,3}[-_ ][0-9]{6,9}", fullmatch=True)
    | st.from_regex(r"/[a-z]{4,8}/[A-Z][a-z]{4,8}_[0-9]{4}\.dcm", fullmatch=True)
    | st.from_regex(r"(19|20)[0-9]{2}-[01][0-9]-[0-3][0-9]", fullmatch=True)
    | st.text(alphabet="ÄÖÜßéñ漢字 ", min_size=6, max_size=20).filter(lambda text: len(text.strip()) > 5)
)
# A patient's number, which a code must not be taken for.
_NUMBER = st.from_regex(r"[1-9][0-9]{6,9}", fullmatch=True).filter(lambda number: not is_concept(number))

_STATUSES = st.sampled_from([(status, None) for status in Status if status != "not_analysed"]) | st.sampled_from(
    [(Status.NOT_ANALYSED, reason) for reason in Reason]
)


# A counterexample says it all as it is found, and regular expressions shrink slowly.
@settings(phases=(Phase.explicit, Phase.reuse, Phase.generate), deadline=None)
@given(
    st.lists(_PERSONAL, min_size=13, max_size=13, unique=True),
    st.lists(_NUMBER, min_size=4, max_size=4, unique=True),
    _STATUSES,
)
def test_nothing_that_identifies_gets_through(
    planted: list[str], numbers: list[str], answer: tuple[Status, Reason | None]
) -> None:
    """MSG-PRIVATE-01"""
    result = Result(
        source=planted[0],
        sop_instance_uid=planted[1],
        status=answer[0],
        reason=answer[1],
        priority=Priority.ROUTINE,
        findings=(
            Finding(
                code=planted[2],
                scheme=planted[3],
                meaning=planted[4] + numbers[0],
                score=0.123456,
                probability=0.654321,
                threshold=0.5,
                flagged=True,
                box=(1717, 1818, 1919, 2020),
            ),
        ),
        quality=(
            QualityFinding(
                check=planted[5] + numbers[1], level=Level.WARN, code=planted[6], scheme="DCM", message=planted[7]
            ),
        ),
        model=ModelUsed(
            id=planted[8], version=planted[9], digest=planted[10], engine=planted[11], precision=planted[12]
        ),
        timings_ms=Timings(decode=3.14159),
    )
    body = msgspec.json.encode(_summary(result))
    text = body.decode()
    secrets = [*planted, *numbers, "0.123456", "0.654321", "1717", "3.14159", "23:42", "42:11"]
    assert [secret for secret in secrets if secret in text] == []
    assert text.count(UNLISTED) == 8
    check("summary", body)


def test_the_codes_of_quality_are_those_of_the_checks() -> None:
    """A check with a new code must be let out on purpose."""
    assert {value for name, value in vars(codes).items() if name.isupper()} == QUALITY_CODES


@pytest.mark.parametrize(
    ("code", "known"),
    [
        ("233604007", True),  # pneumonia
        ("39607008", True),  # lung
        ("46635009", True),  # diabetes mellitus type 1
        ("138875005", True),  # the root
        ("999480561000087100", True),  # the long form, of an extension (partition 10)
        ("233604008", False),  # check digit
        ("223604007", False),  # two digits changed places
        ("73211010", False),  # a description (partition 01)
        ("4711", False),
        ("0233604007", False),
        ("233604007 ", False),
        ("", False),
    ],
)
def test_concepts_of_snomed_ct_are_known_by_their_check_digit(code: str, known: bool) -> None:
    assert is_concept(code) is known


@given(st.integers(0, 9), st.integers(0, 8))
def test_no_number_that_differs_in_one_digit_is_a_code(digit: int, place: int) -> None:
    changed = "233604007"[:place] + str(digit) + "233604007"[place + 1 :]
    assert is_concept(changed) is (changed == "233604007")


@given(_NUMBER, st.sampled_from(["SCT", "DCM", "99LOCAL"]))
def test_a_number_of_a_patient_in_the_place_of_a_code_is_unlisted(number: str, scheme: str) -> None:
    finding = msgspec.structs.replace(FLAGGED.findings[0], code=number, scheme=scheme)
    quality = QualityFinding(check="any", level=Level.WARN, code=number, scheme=scheme, message="any")
    body = msgspec.json.encode(_summary(msgspec.structs.replace(FLAGGED, findings=(finding,), quality=(quality,))))
    assert number not in body.decode()
