"""The fit behind the quality checks' templates, and the images that it and the measurement draw on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge.errors import ScansideError
from edge.imaging.quality.templates import sixteen_ways, templates
from export.quality_images import ADULTS, CHILDREN, SIDES, cut, radiographs, shifted
from export.quality_orientation import HIDDEN, fit_orientation
from export.quality_templates import conditional_logit, fit


def test_the_fit_finds_what_tells_the_true_version() -> None:
    """The true version has more of the first feature and less of the second; the third is noise."""
    drawn = np.random.default_rng(0)
    versions = drawn.normal(size=(500, 4, 3))
    versions[:, 0] += (1.5, -0.75, 0.0)
    weights, iterations = conditional_logit(versions, np.full(500, 1 / 500))
    chosen = (versions @ weights).argmax(axis=1)
    assert weights[0] > 2 * abs(weights[2]) < 2 * -weights[1]
    assert (chosen == 0).mean() > 0.6
    assert 1 < iterations < 30


def test_the_network_learns_which_way_is_right() -> None:
    """Bright above on the left and noise; asked about images that it did not see."""
    drawn = np.random.default_rng(0)
    grids = drawn.normal(size=(400, 16, 16)).astype(np.float32)
    grids[:, :5, :6] += 2
    hidden, constant, out = fit_orientation(grids[:300], np.ones(300))
    scores = [np.maximum(sixteen_ways(squares) @ hidden + constant, 0) @ out for squares in grids[300:]]
    assert np.mean([score.argmax() == 0 for score in scores]) > 0.9


def test_the_shipped_templates_are_finite_and_of_their_sizes() -> None:
    shapes = [template.shape for template in templates()]
    assert shapes == [(256, HIDDEN), (HIDDEN,), (HIDDEN,), (256,), (256,), (257,), (257,), (257,)]
    assert all(np.isfinite(template).all() and template.any() for template in templates())


def test_without_images_there_is_no_fit(tmp_path: Path) -> None:
    with pytest.raises(ScansideError, match="cannot be read"):
        fit(tmp_path, tmp_path / "templates.npz")
    assert not (tmp_path / "templates.npz").exists()


@pytest.mark.parametrize("name", [CHILDREN, ADULTS])
def test_a_patient_is_in_one_half(shared: Path, name: str) -> None:
    """By the names of the files: the patient's number stands before the image's."""
    halves: dict[str, set[bool]] = {}
    for image in radiographs(shared / "data", name, 120):
        patient = "_".join(image.name.split("_")[:2]) if name == CHILDREN else image.name.split("_")[0]
        halves.setdefault(patient, set()).add(image.tuning)
    assert all(len(half) == 1 for half in halves.values())
    assert {next(iter(half)) for half in halves.values()} == {True, False}


@pytest.mark.parametrize("side", SIDES)
def test_spoiling_takes_from_the_side_that_it_names(side: str) -> None:
    pixels = np.zeros((100, 80), dtype=np.float32)
    across = side in ("left", "right")
    edge = slice(0, 5) if side in ("top", "left") else slice(-5, None)
    pixels[(slice(None), edge) if across else (edge, slice(None))] = 1
    lungs = np.zeros((50, 40), dtype=bool)
    lungs[10:40, 5:35] = True
    assert not cut(pixels, lungs, side, 0.25).any()
    assert cut(1 - pixels, lungs, side, 0.25).all()
    assert not shifted(pixels, side, 0.2).any()
