"""What leaves the box about many images together."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.messages.aggregate import STEP, Aggregate, Category, categories, split
from edge.records import Reason, Result, Status
from tests.messages.schemas import check
from tests.messages.test_summary import FLAGGED, MODEL

SCORES = ("cxr-pneumonia", "1.0.0", "SCT:233604007")
BARE = msgspec.structs.replace(FLAGGED, quality=(), findings=())


def _answer(probability: float) -> Result:
    (finding,) = FLAGGED.findings
    return msgspec.structs.replace(FLAGGED, findings=(msgspec.structs.replace(finding, probability=probability),))


def _refused(reason: Reason | None) -> Result:
    return msgspec.structs.replace(FLAGGED, status=Status.NOT_ANALYSED, reason=reason, findings=(), model=None)


@pytest.mark.parametrize(
    ("result", "counted"),
    [
        (FLAGGED, [("answers", "flagged"), ("quality", "DCM:111209"), ("scores", "0.9", *SCORES)]),
        (BARE, [("answers", "flagged"), ("quality", "nothing-found")]),
        (_refused(Reason.UNDER_AGE), [("answers", "under_age")]),
        (_refused(None), [("answers", "not_analysed")]),
    ],
)
def test_in_which_categories_an_answer_counts(result: Result, counted: list[tuple[str, ...]]) -> None:
    """MSG-AGGREGATE-01"""
    assert [tuple(part for part in one if part is not None) for one in categories(result)] == counted


@pytest.mark.parametrize(
    ("probability", "tenth"), [(0.0, "0.0"), (0.0999, "0.0"), (0.1, "0.1"), (0.7, "0.7"), (1.0, "0.9"), (-1.0, "0.0")]
)
def test_a_probability_is_told_by_its_tenth(probability: float, tenth: str) -> None:
    assert categories(_answer(probability))[-1].name == tenth


def test_no_word_of_a_bundle_or_an_image_comes_through() -> None:
    """MSG-AGGREGATE-01 MSG-PRIVATE-01"""
    (finding,), quality = FLAGGED.findings, FLAGGED.quality[0]
    result = msgspec.structs.replace(
        FLAGGED,
        findings=(msgspec.structs.replace(finding, code="DOE^JANE", scheme="SCT"),),
        quality=(msgspec.structs.replace(quality, code="DOE^JANE"),),
        model=msgspec.structs.replace(MODEL, id="DOE^JANE", version="DOE^JANE"),
    )
    body = _message(Counter(dict.fromkeys(categories(result), STEP)))
    assert "DOE" not in body.decode()
    assert body.decode().count("unlisted") == 4


@given(
    st.dictionaries(
        st.builds(
            Category,
            statistic=st.sampled_from(["answers", "quality", "scores"]),
            name=st.sampled_from(["flagged", "clear", "0.1", "0.9", "DCM:111209"]),
            model=st.sampled_from([None, "cxr-pneumonia"]),
            version=st.sampled_from([None, "1.0.0"]),
            code=st.sampled_from([None, "SCT:233604007", "unlisted:unlisted"]),
        ),
        st.integers(0, 40),
    )
)
def test_what_is_said_and_what_stays_are_all_there_is(counts: dict[Category, int]) -> None:
    """MSG-AGGREGATE-02"""
    histograms, left = split(counts)
    said = Counter(
        {
            Category(table.statistic, one.name, table.model, table.version, table.code): one.images
            for table in histograms
            for one in table.bins
        }
    )
    assert said + left == +Counter(counts)
    assert all(count % STEP == 0 for count in said.values())
    assert all(0 < count < STEP for count in left.values())
    _message(Counter(counts))


def _message(counts: Counter[Category]) -> bytes:
    message = Aggregate(message_id="0" * 32, day="2026-11-26", clock="right", histograms=split(counts)[0])
    body = msgspec.json.encode(message)
    check("aggregate", body)
    return body
