"""What the outline of the lungs adds: pure rules over drawn outlines."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.inference import lungs
from edge.inference.explanation import box_of
from edge.records import Header

SIDE = 224
PA = Header(view="PA")
RIGHT, LEFT = (70, 110, 28, 80), (154, 110, 28, 80)
"""Centre and half axes of the patient's lungs: column, row, across, down."""

Mask = NDArray[np.float32]


def outline(*ellipses: tuple[int, int, int, int]) -> Mask:
    """A mask with these ellipses."""
    mask = np.zeros((SIDE, SIDE), dtype=np.float32)
    for column, row, across, down in ellipses:
        cv2.ellipse(mask, (column, row), (across, down), 0.0, 0.0, 360.0, (1.0,), -1)
    return mask


def spots(*cells: tuple[int, int, float]) -> Mask:
    """A map of 7 by 7 with evidence by row and column."""
    cam = np.full((7, 7), -1.0, dtype=np.float32)
    for row, column, evidence in cells:
        cam[row, column] = evidence
    return cam


@pytest.mark.parametrize(
    ("cells", "side", "zone"),
    [
        ([(1, 2, 4.0)], "right", "upper"),
        ([(3, 2, 4.0)], "right", "middle"),
        ([(5, 4, 4.0)], "left", "lower"),
        ([(1, 2, 4.0), (5, 4, 3.9)], "both", "upper"),
        ([(1, 2, 3.0), (5, 4, 4.0)], "both", "lower"),
        ([(1, 2, 0.5), (5, 4, 4.0)], "left", "lower"),
        ([], None, None),
        ([(0, 0, 9.0)], None, None),
        ([(0, 0, 9.0), (5, 4, 1.0)], "left", "lower"),
    ],
)
def test_side_and_zone_are_where_the_evidence_is_strongest(
    cells: list[tuple[int, int, float]], side: str | None, zone: str | None
) -> None:
    mask = outline(RIGHT, LEFT)
    assert lungs.place(lungs.inside(spots(*cells), mask), mask, PA) == (side, zone)


@pytest.mark.parametrize(
    "ellipses",
    [
        [RIGHT],
        [(112, 110, 90, 80)],
        [RIGHT, (70, 205, 20, 12)],
        [RIGHT, (154, 110, 10, 12)],
        [(112, 50, 60, 30), (112, 150, 60, 30)],
    ],
    ids=["one lung", "one blob", "stacked beside one", "a crumb", "stacked"],
)
def test_without_two_lungs_side_by_side_nothing_is_placed(ellipses: list[tuple[int, int, int, int]]) -> None:
    mask = outline(*ellipses)
    within = lungs.inside(spots((3, 2, 4.0), (1, 3, 4.0)), mask)
    assert within.any()
    assert lungs.place(within, mask, PA) == (None, None)


@pytest.mark.parametrize(("ellipses", "known"), [([RIGHT, LEFT], True), ([(40, 40, 8, 8)], False), ([], False)])
def test_next_to_no_lung_is_no_outline(ellipses: list[tuple[int, int, int, int]], known: bool) -> None:
    assert (lungs.usable(outline(*ellipses)[np.newaxis]) is not None) == known


def test_evidence_outside_is_none() -> None:
    within = lungs.inside(spots((3, 2, 4.0), (0, 0, 9.0)), outline(RIGHT, LEFT))
    box = box_of(within, SIDE, SIDE)
    assert box is not None
    assert 40 <= box[0] < box[2] <= 100
    assert 80 <= box[1] < box[3] <= 145
    assert box_of(lungs.inside(spots((0, 0, 9.0)), outline(RIGHT, LEFT)), SIDE, SIDE) is None


@given(st.integers(0, 2**32 - 1), st.sampled_from(["PA", "AP", None]))
def test_any_map_is_placed_inside_the_lungs_or_not_at_all(seed: int, view: str | None) -> None:
    cam = np.random.default_rng(seed).normal(-0.5, 1.0, (7, 7)).astype(np.float32)
    mask = outline(RIGHT, LEFT)
    within = lungs.inside(cam, mask)
    assert (within >= 0).all()
    covered = cv2.resize(mask, within.shape[::-1], interpolation=cv2.INTER_AREA)
    assert not within[covered == 0].any()
    side, zone = lungs.place(within, mask, Header(view=view))
    assert (side is None) == (zone is None or view is None)
