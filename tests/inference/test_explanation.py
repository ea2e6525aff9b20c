"""The picture that is laid over the preview: a contour at its level, in the lungs, seen by everybody."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edge.imaging.evidence import LEVEL
from edge.inference import lungs
from edge.inference.explanation import CASING, LINE, encode_explanation, overlay_png
from tests.conftest import ROOT
from tests.inference.test_lungs import LEFT, RIGHT, outline, spots

WIDTH, HEIGHT = 630, 768
LUNGS = outline(RIGHT, LEFT)

# Machado, Oliveira and Fernandes 2009, severity 1: how linear red, green and blue look to those who lack a cone.
VISION = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def drawn(
    maps: dict[str, NDArray[np.float32]], mask: NDArray[np.float32] | None = None, width: int = WIDTH
) -> NDArray[np.uint8]:
    """The overlay as a browser decodes it: blue, green, red, alpha."""
    png = overlay_png(encode_explanation(maps, mask), width, HEIGHT)
    picture = cv2.imdecode(np.frombuffer(png, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture is not None
    assert picture.shape == (HEIGHT, width, 4)
    return np.asarray(picture, dtype=np.uint8)


def stretched(mask: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) >= 0.5)


def test_the_line_lies_at_the_stated_level() -> None:
    cam = spots((3, 3, 2.0))
    picture = drawn({"1": cam})
    evidence = cv2.resize(cam, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    inside, seen = evidence >= LEVEL * evidence.max(), picture[:, :, 3] > 0
    assert inside.any()
    assert np.count_nonzero(inside & ~seen) == 0
    only_smoothing = cv2.dilate(inside.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    assert not (seen & ~only_smoothing).any()
    on_line = (picture[:, :, 3] == 255) & (picture[:, :, :3] == LINE[::-1]).all(axis=2)
    near_the_edge = cv2.distanceTransform(inside.astype(np.uint8), cv2.DIST_L2, 5) < WIDTH / 60
    assert on_line.any()
    assert not (on_line & ~near_the_edge).any()


def test_the_page_states_the_level_in_words() -> None:
    page = (ROOT / "edge" / "web" / "templates" / "_facts.html").read_text(encoding="utf-8")
    assert LEVEL == 0.5
    assert "at least half of the strongest" in page


def test_the_image_can_be_read_through_the_fill() -> None:
    picture = drawn({"1": spots((3, 3, 2.0))})
    assert 0 < picture[HEIGHT // 2, WIDTH // 2, 3] <= 0.2 * 255
    corner = picture[:20, :20]
    assert not corner.any()


@pytest.mark.parametrize("cell", [(2, 2), (5, 2), (3, 3), (1, 4), (6, 5)])
def test_nothing_is_drawn_outside_of_the_lungs(cell: tuple[int, int]) -> None:
    """Evidence whose half lies in the mediastinum or below the diaphragm; smoothing may reach a pixel farther."""
    evidence = lungs.inside(spots((*cell, 3.0)), LUNGS)
    picture = drawn({"1": evidence}, LUNGS)
    grown = cv2.dilate(stretched(LUNGS).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(bool)
    assert picture[:, :, 3].any()
    assert not (picture[:, :, 3] > 0)[~grown].any()


def test_the_strongest_of_several_findings_sets_the_level() -> None:
    """A finding without evidence to speak of gets no line of its own."""
    both = drawn({"1": spots((3, 2, 4.0)), "2": spots((3, 5, 0.5))})
    assert np.array_equal(both, drawn({"1": spots((3, 2, 4.0))}))


@pytest.mark.parametrize("cam", [np.full((7, 7), -1.0, np.float32), np.zeros((28, 28), np.float32)])
def test_without_evidence_nothing_is_drawn(cam: NDArray[np.float32]) -> None:
    assert not drawn({"1": cam}, LUNGS).any()


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float32, (7, 7), elements=st.floats(-100, 100, width=32)),
    st.booleans(),
    st.sampled_from([1, 7, 300, WIDTH]),
)
def test_any_map_can_be_drawn(cam: NDArray[np.float32], outlined: bool, width: int) -> None:
    drawn({"1": cam}, LUNGS if outlined else None, width)


@pytest.mark.parametrize("stored", ["", "{}", "[]", '{"233604007": [[1.0]]}', '{"maps": {}}', '{"maps": {"1": "x"}}'])
def test_what_cannot_be_drawn_is_a_value_error(stored: str) -> None:
    """Also what version 0.1 stored: the maps alone."""
    with pytest.raises(ValueError, match=r"cannot be read|no class activation map"):
        overlay_png(stored, 10, 10)


@pytest.mark.parametrize("vision", VISION)
def test_the_line_is_told_from_every_grey_by_every_eye(vision: str) -> None:
    """By hue and lightness: at least 20 in CIELAB from the nearest grey, ten times what is just noticeable."""
    greys = np.repeat(np.linspace(0, 1, 256)[:, np.newaxis], 3, axis=1)
    line = np.array([LINE]) / 255
    distances = np.linalg.norm(_lab(_seen(line, vision)) - _lab(_seen(greys, vision)), axis=1)
    assert distances.min() > 20


def test_line_and_casing_stand_out_from_each_other_without_any_colour() -> None:
    """WCAG 2.2's 3 to 1 for graphics, by luminance alone."""
    bright, dark = (_luminance(np.array(colour) / 255) for colour in (LINE, CASING))
    assert (bright + 0.05) / (dark + 0.05) >= 3


def _linear(srgb: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def _seen(srgb: NDArray[np.float64], vision: str) -> NDArray[np.float64]:
    """Linear light as it looks with this colour vision."""
    return np.asarray(np.clip(_linear(srgb) @ VISION[vision].T, 0, 1))


def _lab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIELAB (D65) of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    ratio = linear @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    cubic = np.where(ratio > 216 / 24389, np.cbrt(ratio), (ratio * 24389 / 27 + 16) / 116)
    x, y, z = cubic[:, 0], cubic[:, 1], cubic[:, 2]
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), axis=1)


def _luminance(srgb: NDArray[np.float64]) -> float:
    return float(_linear(srgb) @ np.array([0.2126, 0.7152, 0.0722]))
