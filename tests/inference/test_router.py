"""Which model may see an image: the rules as a table, and what holds for any tags."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.bundle import Accepts
from edge.inference.router import route
from edge.records import Header, Reason

CHILDREN = Accepts(modalities=("CR", "DX"), body_parts=("CHEST",), views=("PA", "AP"), age_years=(1.0, 6.0))
ADULTS = Accepts(modalities=("CR", "DX"), body_parts=("CHEST",), views=("PA", "AP"), age_years=(15.0, 120.0))
HANDS = Accepts(modalities=("DX",), body_parts=("HAND",), views=("PA",), age_years=(0.0, 19.0))
CHILD = Header(modality="DX", body_part="CHEST", view="AP", presentation_intent="FOR PRESENTATION", age_years=3.0)
BARE = {"body_part": None, "view": None, "presentation_intent": None}


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({}, 0),
        ({"modality": "CR", **BARE}, 0),
        ({"modality": " dx "}, 0),
        ({"body_part": "chest", "view": "pa"}, 0),
        ({"age_years": 1.0}, 0),
        ({"age_years": 5.99}, 0),
        ({"age_years": 6.0}, Reason.OVER_AGE),
        ({"age_years": 45.0}, Reason.OVER_AGE),
        ({"age_years": 0.5}, Reason.UNDER_AGE),
        ({"age_years": 0.0}, Reason.UNDER_AGE),
        ({"age_years": None}, Reason.AGE_UNKNOWN),
        ({"age_years": float("nan")}, Reason.OVER_AGE),
        ({"modality": "CT"}, Reason.UNSUPPORTED_MODALITY),
        ({"modality": None}, Reason.UNSUPPORTED_MODALITY),
        ({"modality": " "}, Reason.UNSUPPORTED_MODALITY),
        ({"presentation_intent": "FOR PROCESSING"}, Reason.FOR_PROCESSING),
        ({"quality_control": True}, Reason.QUALITY_CONTROL_IMAGE),
        ({"made_by_software": True}, Reason.UNSUPPORTED_MODALITY),
        ({"frames": 2}, Reason.MULTIPLE_FRAMES),
        ({"body_part": "HAND"}, Reason.NOT_A_FRONTAL_CHEST),
        ({"body_part": None, "region": "CHEST"}, 0),
        ({"body_part": None, "region": "HAND"}, Reason.NOT_A_FRONTAL_CHEST),
        ({"body_part": "CHEST", "region": "HAND"}, Reason.NOT_A_FRONTAL_CHEST),
        ({"body_part": "HAND", "region": "CHEST"}, Reason.NOT_A_FRONTAL_CHEST),
        ({"view": "LL"}, Reason.LATERAL_VIEW),
        ({"view": "LATERAL"}, Reason.LATERAL_VIEW),
        ({"view": None, "projection": "LL"}, Reason.LATERAL_VIEW),
        ({"view": "PA", "projection": "LATERAL"}, Reason.LATERAL_VIEW),
        ({"view": "PA", "projection": "PA"}, 0),
        ({"view": None, "projection": "OBLIQUE"}, Reason.NOT_A_FRONTAL_CHEST),
        ({"view": "LLO"}, Reason.NOT_A_FRONTAL_CHEST),
        ({"view": None, "patient_orientation": "A\\F"}, Reason.LATERAL_VIEW),
        ({"view": None, "patient_orientation": "P\\F"}, Reason.LATERAL_VIEW),
        ({"view": None, "patient_orientation": "L\\PF"}, Reason.LATERAL_VIEW),
        ({"view": None, "patient_orientation": "L\\F"}, 0),
        ({"view": None, "patient_orientation": "LA\\F"}, 0),
        ({"view": "AP", "patient_orientation": "A\\F"}, 0),
        ({"laterality": "U"}, 0),
        ({"laterality": "L"}, 0),
        ({"laterality": "L", **BARE}, Reason.NOT_A_FRONTAL_CHEST),
        ({"laterality": "R", **BARE}, Reason.NOT_A_FRONTAL_CHEST),
        ({"laterality": "B", **BARE}, 0),
        ({"modality": "CT", "age_years": None}, Reason.UNSUPPORTED_MODALITY),
        ({"quality_control": True, "modality": "CT"}, Reason.QUALITY_CONTROL_IMAGE),
    ],
)
def test_route(change: dict[str, Any], answer: int | Reason) -> None:
    assert route(replace(CHILD, **change), [CHILDREN]) == answer


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"age_years": 3.0}, 0),
        ({"age_years": 40.0}, 1),
        ({"age_years": 10.0}, Reason.OVER_AGE),
        ({"age_years": None}, Reason.AGE_UNKNOWN),
        ({"body_part": "HAND", "view": "PA"}, 2),
        ({"body_part": "HAND", "view": "PA", "age_years": 40.0}, Reason.OVER_AGE),
        ({"body_part": "FOOT", "view": "PA"}, Reason.NOT_A_FRONTAL_CHEST),
    ],
)
def test_route_among_models(change: dict[str, Any], answer: int | Reason) -> None:
    """Each bundle has its own rules; the reason is that of the one which the image fits best."""
    assert route(replace(CHILD, **change), [CHILDREN, ADULTS, HANDS]) == answer


def test_no_model_accepts_nothing() -> None:
    assert route(CHILD, []) is Reason.UNSUPPORTED_MODALITY


_WORDS = (
    st.none() | st.sampled_from(["", " ", "CR", "DX", "CT", "CHEST", "HAND", "AP", "PA", "LL", "L", "R"]) | st.text()
)
_HEADERS = st.builds(
    Header,
    modality=_WORDS,
    body_part=_WORDS,
    region=_WORDS,
    view=_WORDS,
    projection=_WORDS,
    laterality=_WORDS,
    patient_orientation=_WORDS,
    presentation_intent=st.sampled_from([None, "", "FOR PRESENTATION", "FOR PROCESSING"]),
    quality_control=st.booleans(),
    frames=st.integers(0, 3),
    age_years=st.none() | st.floats(),
)
_MODELS = st.lists(st.sampled_from([CHILDREN, ADULTS, HANDS]), max_size=4)


@given(header=_HEADERS, models=_MODELS)
def test_what_is_accepted_contradicts_none_of_the_models_rules(header: Header, models: list[Accepts]) -> None:
    answer = route(header, models)
    if isinstance(answer, Reason):
        return
    accepts = models[answer]
    assert (header.modality or "").strip().upper() in accepts.modalities
    assert {word.strip().upper() for word in (header.body_part, header.region) if word} - {""} <= set(
        accepts.body_parts
    )
    assert {word.strip().upper() for word in (header.view, header.projection) if word} - {""} <= set(accepts.views)
    assert header.age_years is not None
    assert accepts.age_years[0] <= header.age_years < accepts.age_years[1]
    assert not header.quality_control
    assert header.presentation_intent != "FOR PROCESSING"


@given(header=_HEADERS, models=_MODELS, more=st.sampled_from([CHILDREN, ADULTS, HANDS]))
def test_a_further_model_takes_nothing_away(header: Header, models: list[Accepts], more: Accepts) -> None:
    before, after = route(header, models), route(header, [*models, more])
    assert after == before or isinstance(before, Reason)


@given(header=_HEADERS, models=_MODELS, word=st.sampled_from(["HAND", "SKULL", "LL", "oblique"]))
def test_nothing_that_tags_add_opens_the_way(header: Header, models: list[Accepts], word: str) -> None:
    """A code that says something else never turns a refusal into an answer."""
    silent = replace(header, region=None, projection=None)
    if isinstance(route(silent, models), Reason) and not silent.laterality:
        said = replace(silent, projection=word) if word in ("LL", "oblique") else replace(silent, region=word)
        assert isinstance(route(said, models), Reason) or HANDS in models
