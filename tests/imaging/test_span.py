"""Which values an image without a window spans: padding, collimation and shutters are left out, whatever they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from edge.imaging.decode import Stored
from edge.imaging.span import exposed, padding_range, span

SIDE = 400
BODY = np.linspace(1000, 2000, SIDE * SIDE).reshape(SIDE, SIDE).astype(np.uint16)


def _dataset(**elements: Any) -> Dataset:
    dataset = Dataset()
    base = {"BitsStored": 12, "BitsAllocated": 16, "PixelRepresentation": 0, "SamplesPerPixel": 1}
    for keyword, value in {**base, **elements}.items():
        setattr(dataset, keyword, value)
    return dataset


def _framed(value: int, top: int = 40, left: int = 60) -> np.ndarray[Any, Any]:
    """The body with a band above and one on the left."""
    stored = BODY.copy()
    stored[:top], stored[:, :left] = value, value
    return stored


def _span(stored: np.ndarray[Any, Any], dataset: Dataset) -> list[int]:
    return [int(end) for end in span(Stored(stored, *stored.shape), dataset)]


RECTANGLE = {
    "LeftVerticalEdge": 60,
    "RightVerticalEdge": 401,
    "UpperHorizontalEdge": 40,
    "LowerHorizontalEdge": 401,
}


@pytest.mark.parametrize("value", [0, 4095])
@pytest.mark.parametrize(
    "elements",
    [
        {},  # flat lines at one end of the range need no tag
        {"CollimatorShape": "RECTANGULAR"} | {f"Collimator{name}": edge for name, edge in RECTANGLE.items()},
        {"ShutterShape": ["RECTANGULAR"]} | {f"Shutter{name}": edge for name, edge in RECTANGLE.items()},
        {
            "CollimatorShape": "POLYGONAL",
            "VerticesOfThePolygonalCollimator": [45, 65, 45, 400, 400, 400, 400, 65],
        },
        {
            "CollimatorShape": "CIRCULAR",
            "CenterOfCircularCollimator": [230, 240],
            "RadiusOfCircularCollimator": 150,
        },
    ],
    ids=["flat lines", "collimator", "shutter", "polygon", "circle"],
)
def test_what_is_covered_does_not_stretch_the_scale(value: int, elements: dict[str, Any]) -> None:
    low, high = _span(_framed(value), _dataset(**elements))
    assert 1000 <= low <= 1250
    assert 1750 <= high <= 2000


@pytest.mark.parametrize(
    "elements",
    [
        {"CollimatorShape": "RECTANGULAR"},
        {"CollimatorShape": "RECTANGULAR"} | dict.fromkeys((f"Collimator{name}" for name in RECTANGLE), 7),
        {"CollimatorShape": "POLYGONAL", "VerticesOfThePolygonalCollimator": [1, 2, 3]},
        {"CollimatorShape": "CIRCULAR", "CenterOfCircularCollimator": [1, 1], "RadiusOfCircularCollimator": 2},
        {"CollimatorShape": "HEXAGONAL"},
    ],
)
def test_collimation_that_says_nothing_usable_is_not_believed(elements: dict[str, Any]) -> None:
    assert exposed(_dataset(**elements), (SIDE, SIDE), (SIDE, SIDE)) is None


def test_edges_count_in_pixels_of_the_stored_image() -> None:
    elements = {"CollimatorShape": "RECTANGULAR"} | {f"Collimator{name}": edge for name, edge in RECTANGLE.items()}
    seen = exposed(_dataset(**elements), (100, 100), (SIDE, SIDE))
    assert seen is not None
    assert (np.flatnonzero(seen.any(axis=1))[0], np.flatnonzero(seen.any(axis=0))[0]) == (10, 15)


@pytest.mark.parametrize(
    ("elements", "found"),
    [
        ({}, None),
        ({"PixelPaddingValue": 4095}, (4095, 4095)),
        ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 100}, (0, 100)),
        ({"PixelPaddingValue": 4095, "PixelPaddingRangeLimit": 4000}, (4000, 4095)),
        ({"PixelPaddingValue": 63536, "PixelRepresentation": 1}, (-2000, -2000)),
        ({"PixelPaddingRangeLimit": 100}, None),
    ],
)
def test_padding_is_one_value_or_a_range(elements: dict[str, Any], found: tuple[float, float] | None) -> None:
    dataset = _dataset()
    for keyword, value in elements.items():
        dataset.add_new(keyword, "US", value)
    assert padding_range(dataset) == found


def test_padding_is_left_out_wherever_it_lies() -> None:
    stored = BODY.copy()
    stored[::7, ::3] = 4095
    low, high = _span(stored, _dataset(PixelPaddingValue=4000, PixelPaddingRangeLimit=4095))
    assert (1000 <= low <= 1010, 1990 <= high <= 2000) == (True, True)


def test_a_reduced_picture_spans_what_the_whole_one_does() -> None:
    grainy = (BODY + np.random.default_rng(1).normal(0, 60, BODY.shape)).astype(np.uint16)
    halved = grainy.reshape(200, 2, 200, 2).mean(axis=(1, 3)).round().astype(np.uint16)
    fourfold = np.repeat(np.repeat(halved, 2, axis=0), 2, axis=1)
    whole = _span(fourfold, _dataset())
    reduced = [int(end) for end in span(Stored(halved, SIDE, SIDE), _dataset())]
    assert np.abs(np.array(whole) - reduced).max() <= 60
