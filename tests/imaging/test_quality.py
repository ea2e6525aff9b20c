"""The quality checks on real radiographs and on the same ones spoiled, on the half that no limit was set on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.quality import SPOILED, image_of
from edge.config import Quality
from edge.imaging.quality import NOTHING_YET, check_quality
from edge.records import Header, Level, QualityFinding
from export.quality_images import ADULTS, CHILDREN, Radiograph, radiographs, touches

GOOD, COUNT = 200, 60
# What needs neither the outline that the box's model draws nor the images before.
CHECKS = {"inverted_greys", "upside_down", "sideways", "noisy_image", "blurred", "dark_image", "nearly_empty"}
GROSS = [(check, how) for check, how, _ in SPOILED if check in CHECKS and not how.startswith("smeared")]


@pytest.fixture(scope="module", params=[CHILDREN, ADULTS])
def held_back(shared: Path, request: pytest.FixtureRequest) -> list[Radiograph]:
    images = radiographs(shared / "data", request.param, 3 * GOOD)
    return [image for image in images if not image.tuning and not image.stored][:GOOD]


def found(pixels: NDArray[np.float32], lungs: NDArray[np.bool_] | None = None) -> list[QualityFinding]:
    outline = None if lungs is None else lungs.astype(np.float32)
    image = image_of(pixels, Header())
    return list(check_quality(image, outline, limits=Quality(), recent=NOTHING_YET)[0])


def names(pixels: NDArray[np.float32], lungs: NDArray[np.bool_] | None = None) -> set[str]:
    return {each.check for each in found(pixels, lungs)}


def test_good_images_are_rarely_warned_about(held_back: list[Radiograph]) -> None:
    """At most 3 % for each check among the README's two thousand; here three more images for the luck of the draw."""
    warned = [
        each.check
        for image in held_back
        if image.lungs is None or not touches(image.lungs)
        for each in found(image.pixels, image.lungs)
        if each.level is not Level.INFO
    ]
    assert all(warned.count(check) <= 0.03 * GOOD + 3 for check in warned), warned


@pytest.mark.parametrize(("check", "how"), GROSS)
def test_what_is_grossly_spoiled_is_found(held_back: list[Radiograph], check: str, how: str) -> None:
    spoil = next(spoil for _, name, spoil in SPOILED if name == how)
    spoiled = [spoil(image, number) for number, image in enumerate(held_back[:COUNT])]
    assert sum(check in names(pixels) for pixels in spoiled if pixels is not None) >= 0.93 * COUNT


def test_lungs_behind_the_edge_are_found(shared: Path) -> None:
    """With the part of the human-reviewed outline that is left."""
    images = [image for image in radiographs(shared / "data", CHILDREN, 3 * COUNT) if not image.tuning][:COUNT]
    hits = 0
    for number, image in enumerate(images):
        assert image.lungs is not None
        rows, columns = image.lungs.shape
        part = ((slice(rows * 2 // 5, None), slice(None)), (slice(None), slice(columns * 2 // 5, None)))[number % 2]
        across = [length * kept for length, kept in zip(image.pixels.shape, (0.4, 0.4), strict=True)]
        crop = ((slice(int(across[0]), None), slice(None)), (slice(None), slice(int(across[1]), None)))[number % 2]
        hits += "lung_cut_off" in names(image.pixels[crop], image.lungs[part])
    assert hits >= 0.9 * COUNT
