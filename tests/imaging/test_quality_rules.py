"""The quality checks' rules, one by one: tags and limits, drawn images, what is remembered."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pydicom.sr._concepts_dict import concepts

from benchmarks.quality import image_of
from edge.config import Quality
from edge.imaging.quality import NOTHING_YET, Recent, check_quality, codes
from edge.records import Header, Level
from edge.synthetic.appearance import Kind, radiograph

TAGGED = Header(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1", view="PA", body_part="CHEST", sop_instance_uid="1.2", device="room 1"
)
CHEST = radiograph(Kind.CLEAR, 3, 500, 560)
WIDE = Quality()
SITE = Quality(target_exposure_index=400.0)


def check(
    pixels: NDArray[np.float32] = CHEST,
    header: Header = TAGGED,
    *,
    lungs: NDArray[np.float32] | None = None,
    limits: Quality = WIDE,
    recent: Recent = NOTHING_YET,
) -> dict[str, Level]:
    found, _ = check_quality(image_of(pixels, header), lungs, limits=limits, recent=recent)
    return {each.check: each.level for each in found}


def test_a_chest_with_its_tags_is_not_warned_about() -> None:
    assert check() == {}


@pytest.mark.parametrize(
    ("tags", "limits", "warned"),
    [
        ({"deviation_index": 0.0}, Quality(), None),
        ({"deviation_index": -5.1}, Quality(), "under_exposed"),
        ({"deviation_index": 5.1}, Quality(), "over_exposed"),
        ({"deviation_index": 3.0}, Quality(highest_deviation_index=2.0), "over_exposed"),
        ({"deviation_index": 0.0, "exposure_index": 1.0, "target_exposure_index": 400.0}, Quality(), None),
        ({"exposure_index": 100.0, "target_exposure_index": 400.0}, Quality(), "under_exposed"),
        ({"exposure_index": 1300.0, "target_exposure_index": 400.0}, Quality(), "over_exposed"),
        ({"exposure_index": 300.0, "target_exposure_index": 400.0}, Quality(), None),
        ({"exposure_index": 1300.0}, Quality(), None),
        ({"exposure_index": 1300.0}, SITE, "over_exposed"),
        ({"exposure_index": 1300.0, "target_exposure_index": 1300.0}, SITE, None),
        ({"exposure_index": 0.0}, SITE, None),
        ({}, SITE, None),
    ],
)
def test_exposure_by_its_index(tags: dict[str, Any], limits: Quality, warned: str | None) -> None:
    assert check(header=replace(TAGGED, **tags), limits=limits) == ({warned: Level.WARN} if warned else {})


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({"view": None}, {"view_missing": Level.INFO}),
        ({"body_part": None}, {"body_part_missing": Level.INFO}),
        ({"laterality": None}, {}),
        ({"laterality": "U"}, {}),
        ({"laterality": "L"}, {"laterality_of_chest": Level.INFO}),
        ({"patient_orientation": "L\\F"}, {}),
        ({"patient_orientation": "A\\F"}, {"view_contradicted": Level.WARN}),
        ({"patient_orientation": "R\\F"}, {"mirrored": Level.WARN}),
        ({"patient_orientation": "L\\H"}, {"upside_down": Level.WARN}),
        ({"patient_orientation": "F\\R"}, {"sideways": Level.WARN}),
        ({"patient_orientation": "NONSENSE"}, {}),
        ({"view": None, "sop_class_uid": None}, {}),
    ],
)
def test_tags(tags: dict[str, Any], found: dict[str, Level]) -> None:
    assert check(header=replace(TAGGED, **tags)) == found


def _pattern() -> NDArray[np.float32]:
    """Steps of grey like SMPTE RP 133's, with a grid of lines."""
    steps = np.repeat(np.repeat(np.linspace(0.1, 0.9, 48).reshape(6, 8), 90, axis=0), 90, axis=1)
    steps[::90], steps[:, ::90] = 1, 1
    return steps.astype(np.float32)


def test_a_test_pattern_and_an_empty_image_are_no_patients() -> None:
    nothing = 0.4 + np.random.default_rng(0).normal(0, 0.005, (500, 500)).astype(np.float32)
    assert check(_pattern()) == {"test_pattern": Level.WARN}
    assert check(nothing.astype(np.float32)) == {"nearly_empty": Level.UNUSABLE}


def _outline(right: tuple[int, int], left: tuple[int, int]) -> NDArray[np.float32]:
    """Two lungs with these half axes, across and down."""
    lungs = np.zeros((224, 224), dtype=np.float32)
    for column, axes in ((75, right), (150, left)):
        cv2.ellipse(lungs, (column, 115), axes, 0, 0, 360, (1.0,), -1)
    return lungs


@pytest.mark.parametrize(
    ("right", "left", "hints"),
    [
        ((30, 75), (28, 75), set()),
        ((34, 75), (18, 75), {"turned"}),
        ((34, 28), (32, 28), {"inspiration"}),
        ((34, 75), (3, 5), set()),
    ],
)
def test_the_outline_only_hints(right: tuple[int, int], left: tuple[int, int], hints: set[str]) -> None:
    found = check(lungs=_outline(right, left))
    assert {name for name, level in found.items() if level is Level.INFO} == hints


def test_metal_over_the_chest_and_not_beside_it() -> None:
    lungs = _outline((30, 75), (30, 75))
    rows, columns = CHEST.shape
    over, beside = CHEST.copy(), CHEST.copy()
    cv2.circle(over, (columns // 2, rows // 2), 12, (1.0,), -1)
    cv2.circle(beside, (20, 20), 12, (1.0,), -1)
    assert "foreign_object" in check(over, lungs=lungs)
    assert "foreign_object" not in check(beside, lungs=lungs)


@pytest.mark.parametrize(
    ("device", "images", "blurred"),
    [("room 1", 20, True), ("room 1", 19, False), ("room 2", 20, False)],
)
def test_blur_shows_beside_the_device_s_own_images(device: str, images: int, blurred: bool) -> None:
    """Drawn chests are soft: within the wide limit, but not what a device makes whose images are sharper."""
    sharper = Recent(sharpness={device: (0.5,) * images})
    assert check(recent=sharper) == ({"blurred": Level.WARN} if blurred else {})


def test_a_device_whose_images_are_soft_is_not_warned_about_each() -> None:
    recent = NOTHING_YET
    for seed in range(25):
        image = image_of(radiograph(Kind.CLEAR, seed, 300, 340), replace(TAGGED, sop_instance_uid=f"1.{seed}"))
        found, recent = check_quality(image, None, limits=WIDE, recent=recent)
        assert "blurred" not in {each.check for each in found}


def test_the_same_pixels_under_another_uid_are_a_duplicate() -> None:
    _, recent = check_quality(image_of(CHEST, TAGGED), None, limits=WIDE, recent=NOTHING_YET)
    assert check(recent=recent) == {}
    assert check(header=replace(TAGGED, sop_instance_uid="1.3"), recent=recent) == {"duplicate": Level.WARN}
    assert check(header=replace(TAGGED, sop_instance_uid=None), recent=recent) == {}
    assert check(CHEST[::-1, ::-1], replace(TAGGED, sop_instance_uid="1.3"), recent=recent).keys() == {"upside_down"}


def test_what_is_remembered_is_bounded() -> None:
    recent = NOTHING_YET
    for number in range(1100):
        header = Header(sop_instance_uid=f"1.{number}", device=f"room {number % 70}")
        recent = recent.with_image(number.to_bytes(2), 0.5, header)
    assert (len(recent.seen), len(recent.sharpness)) == (1000, 64)
    assert recent.repeats((1099).to_bytes(2), Header(sop_instance_uid="2"))
    assert not recent.repeats((0).to_bytes(2), Header(sop_instance_uid="2"))


@given(arrays(np.float32, st.tuples(st.integers(1, 90), st.integers(1, 90)), elements=st.floats(0, 1, width=32)))
def test_any_greys_are_answered(pixels: NDArray[np.float32]) -> None:
    check(pixels)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5000), (64, 9000), (2500, 2048)])
def test_any_size_is_answered(shape: tuple[int, int]) -> None:
    lungs = _outline((30, 75), (30, 75))
    check(np.random.default_rng(0).random(shape, dtype=np.float32), lungs=lungs)


def test_every_code_is_of_the_context_group() -> None:
    known: dict[str, Any] = concepts["DCM"]
    of_group = {code for kinds in known.values() for code, (_, groups) in kinds.items() if 6135 in groups}
    assert {value for name, value in vars(codes).items() if name.isupper()} <= of_group
