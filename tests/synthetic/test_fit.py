"""The fit of the appearance model: small, but real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edge.errors import ScansideError
from edge.synthetic.appearance import PARAMETERS
from export.synthetic import fit, lung_box, principal


def test_a_fit_writes_what_is_shipped_in_small(shared: Path, tmp_path: Path) -> None:
    report = fit(shared / "data/cxr_kermany", tmp_path / "small.npz", images=40, textures=8, shapes=5)
    with np.load(tmp_path / "small.npz") as small, np.load(PARAMETERS) as shipped:
        assert sorted(small.files) == sorted(shipped.files)
        for name in small.files:
            if name != "about":
                assert small[name].dtype == shipped[name].dtype
                is_mean = name.endswith("_mean")
                assert small[name].shape[0 if is_mean else 1 :] == shipped[name].shape[0 if is_mean else 1 :], name
        assert json.loads(str(small["about"]))["attribution"] == json.loads(str(shipped["about"]))["attribution"]
    assert report.bytes == (tmp_path / "small.npz").stat().st_size
    for kind in ("clear", "opacity"):
        assert report.images[kind] == 36  # nine of ten are kept
        assert 0 < report.texture_left[kind] < report.texture_spread[kind] < 60
        assert 0 < report.largest_share[kind] <= 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "labels.csv: cannot be read"),
        ("label,path\nNORMAL,a.png\n", "labels.csv: cannot be read .KeyError.'mask'"),
        ("label,path,mask\n", "0 images labelled NORMAL with a lung mask"),
        ("label,path,mask\nNORMAL,a.png,m.png\n", "m.png: cannot be read as an image"),
    ],
)
def test_an_unusable_data_set_is_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "labels.csv").write_text(content)
    with pytest.raises(ScansideError, match=message):
        fit(tmp_path, tmp_path / "out.npz")
    assert not (tmp_path / "out.npz").exists()


def test_principal_components_are_those_of_the_samples() -> None:
    random = np.random.default_rng(0)
    directions = np.linalg.qr(random.normal(size=(50, 2)))[0].T
    coefficients = random.normal(size=(400, 2)) * (9.0, 3.0)
    samples = [7 + (c @ directions).reshape(5, 10) for c in coefficients]
    found = principal(samples, 2)
    np.testing.assert_allclose(found.mean, 7, atol=1)
    lengths = np.linalg.norm(found.axes.reshape(2, -1), axis=1)
    np.testing.assert_allclose(lengths, (9, 3), rtol=0.1)
    assert found.left < 1e-3 * found.spread
    assert found.largest_share < 0.1


def test_a_lone_odd_sample_shows_in_the_largest_share() -> None:
    samples = [np.zeros((4, 4)) for _ in range(50)]
    samples[17][2, 2] = 100
    assert principal(samples, 1).largest_share > 0.9


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.zeros((224, 224), np.uint8), None),
        (np.full((224, 224), 127, np.uint8), None),  # instruments only
        (np.pad(np.full((20, 100), 255, np.uint8), ((50, 154), (60, 64))), None),  # too flat
        (np.pad(np.full((100, 120), 255, np.uint8), ((50, 74), (60, 44))), (60.0, 179.0, 50.0, 149.0)),
    ],
)
def test_the_lung_box_is_that_of_the_mask(mask: np.ndarray, expected: tuple[float, ...] | None) -> None:
    assert lung_box(mask) == expected
