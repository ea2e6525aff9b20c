"""The gate for unfamiliar images: its statistics against their definition, its limits, what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge.inference.bundle import Familiarity
from edge.inference.familiarity import Statistics, distance, strangeness
from edge.records import Reason
from export.document import markdown, page
from export.familiarity import (
    FamiliarityError,
    choose,
    distances,
    familiarity_section,
    fit,
    measure,
    save,
    shrunk_covariance,
)

LIMITS = Familiarity(unfamiliar_from=2.0, not_frontal_chest_from=5.0)


def _rows(count: int, features: int, seed: int = 0) -> NDArray[np.float64]:
    random = np.random.default_rng(seed)
    return random.normal(size=(count, features)) @ random.normal(size=(features, features)) + 3.0


@pytest.mark.parametrize(("count", "features"), [(5, 8), (40, 3), (400, 12), (2, 2)])
def test_the_covariance_is_that_of_ledoit_and_wolf(count: int, features: int) -> None:
    """Term by term as in the paper: m, d^2, b^2 = min(mean over rows, d^2), (b^2 m I + a^2 S) / d^2."""
    rows = _rows(count, features)
    x = rows - rows.mean(axis=0)
    s = sum(np.outer(row, row) for row in x) / count
    m = np.trace(s) / features
    d2 = np.linalg.norm(s - m * np.eye(features), "fro") ** 2 / features
    b2 = sum(np.linalg.norm(np.outer(row, row) - s, "fro") ** 2 / features for row in x) / count**2
    b2 = min(b2, d2)
    np.testing.assert_allclose(
        shrunk_covariance(rows), b2 / d2 * m * np.eye(features) + (d2 - b2) / d2 * s, rtol=1e-9, atol=1e-12
    )


def test_the_distance_is_mahalanobis_and_around_one_for_the_training() -> None:
    rows = _rows(40_000, 20)
    statistics = fit(rows)
    found = distances(rows.astype(np.float32), statistics)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.02)
    spread = rows.std(axis=0)
    inverse = np.linalg.inv(shrunk_covariance(rows / spread) * np.outer(spread, spread))
    for row, each in zip(rows[:5], found[:5], strict=True):
        off = row - rows.mean(axis=0)
        assert each == pytest.approx(off @ inverse @ off / 20, rel=1e-3)


def test_far_along_a_direction_that_hardly_varies_is_unfamiliar() -> None:
    """What plain distance from the mean would not see."""
    rows = np.random.default_rng(1).normal(size=(50_000, 2)) * (10.0, 0.1)
    statistics = fit(rows)
    assert distance(np.array([10.0, 0.0], dtype=np.float32), statistics) < 1
    assert distance(np.array([0.0, 2.0], dtype=np.float32), statistics) > 20


def test_the_unit_of_a_feature_does_not_matter_and_one_that_never_varies_breaks_nothing() -> None:
    rows = _rows(100, 5)
    scaled, constant = rows * (1.0, 1e-3, 1e3, 1.0, 10.0), np.hstack([rows, np.full((100, 1), 7.0)])
    found = distances(rows.astype(np.float32), fit(rows))
    np.testing.assert_allclose(distances(scaled.astype(np.float32), fit(scaled)), found, rtol=1e-3)
    assert np.isfinite(distances(constant.astype(np.float32), fit(constant))).all()


def test_what_is_saved_is_what_was_measured_with(tmp_path: Path) -> None:
    rows = _rows(50, 6)
    statistics = fit(rows)
    save(tmp_path / "familiarity.npz", statistics)
    with np.load(tmp_path / "familiarity.npz") as file:
        assert (file["mean"].dtype, file["whitening"].dtype) == (np.float32, np.float32)
        again = Statistics(file["mean"].astype(np.float64), file["whitening"].astype(np.float64))
    embedding = rows[0].astype(np.float32)
    assert distance(embedding, again) == distance(embedding, statistics)


@pytest.mark.parametrize("rows", [np.ones((1, 3)), np.ones((9, 3)), np.full((9, 3), np.nan)])
def test_embeddings_that_tell_nothing_are_refused(rows: NDArray[np.float64]) -> None:
    with pytest.raises(FamiliarityError, match="two or more, finite"):
        fit(rows)


@given(
    st.lists(st.floats(min_value=0.01, max_value=100, allow_nan=False), min_size=1, max_size=300),
    st.floats(min_value=0, max_value=0.5),
    st.none() | st.lists(st.floats(min_value=0.01, max_value=100), min_size=1, max_size=50),
)
def test_the_limits_refuse_no_more_than_they_may(
    validation: list[float], share: float, others: list[float] | None
) -> None:
    found = np.array(validation)
    limits = choose(np.unique(found), share, None if others is None else np.array(others))
    assert 0 < limits.unfamiliar_from <= limits.not_frontal_chest_from
    refused = sum(strangeness(each, limits) is not None for each in np.unique(found))
    assert refused <= np.ceil(share * len(np.unique(found)))


def test_other_frontal_chests_are_unfamiliar_rather_than_no_chest() -> None:
    validation, others = np.linspace(0.5, 2.0, 1000), np.linspace(1.0, 9.0, 1000)
    limits = choose(validation, 0.01, others)
    assert limits.unfamiliar_from == pytest.approx(1.985, abs=0.002)
    assert limits.not_frontal_chest_from == pytest.approx(8.92, abs=0.01)
    assert choose(validation, 0.01, validation / 2).not_frontal_chest_from == limits.unfamiliar_from
    assert choose(validation, 0.01, None).not_frontal_chest_from == pytest.approx(2 * limits.unfamiliar_from)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (0.0, None),
        (1.99, None),
        (2.0, Reason.UNFAMILIAR_IMAGE),
        (4.99, Reason.UNFAMILIAR_IMAGE),
        (5.0, Reason.NOT_A_FRONTAL_CHEST),
        (float("inf"), Reason.NOT_A_FRONTAL_CHEST),
        (float("nan"), Reason.UNFAMILIAR_IMAGE),
    ],
)
def test_strangeness(found: float, reason: Reason | None) -> None:
    assert strangeness(found, LIMITS) is reason


def test_refusals_are_counted_and_told() -> None:
    found = {"hands": np.array([1.0, 3.0, 6.0, 9.0]), "held-out chests": np.array([0.9, 1.1])}
    rows = [
        measure(values, LIMITS, engine="openvino", dataset=name, wanted=name == "hands")
        for name, values in found.items()
    ]
    assert [row.refused.value for row in rows] == [0.75, 0.0]
    assert all(row.refused.low <= row.refused.value <= row.refused.high for row in rows)
    section = familiarity_section(LIMITS, rows, found)
    said = markdown("Card", [section])
    assert "| hands | openvino | 4 | yes | 75.0% |" in said
    assert "`unfamiliar_image`" in said
    assert "<svg" in page("Card", [section])
    assert section == familiarity_section(LIMITS, rows, found)
