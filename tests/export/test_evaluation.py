from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.bundle import FindingSpec, Threshold, probability
from export import evaluation
from export.evaluation import Calibration, EngineScores

POSITIVE = np.array([False, False, True, True])


@pytest.mark.parametrize(
    ("scores", "area"),
    [
        ([0.1, 0.4, 0.35, 0.8], 0.75),
        ([1, 1, 1, 1], 0.5),
        ([0, 1, 2, 3], 1.0),
        ([3, 2, 1, 0], 0.0),
        ([0, 1, 1, 2], 0.875),
    ],
)
def test_auroc_by_hand(scores: list[float], area: float) -> None:
    assert evaluation.auroc(np.array(scores, dtype=float), POSITIVE) == pytest.approx(area)


def test_delong_by_hand() -> None:
    # Placements: positives 0.35 and 0.8 beat 1/2 and 2/2 negatives (variance 1/8), negatives 0.1 and 0.4 lose to 2/2
    # and 1/2 positives (1/8): the variance of the area is (1/8)/2 + (1/8)/2 = 1/8; on the logit scale it is divided
    # by (0.75 * 0.25)^2.
    interval = evaluation.auroc_interval(np.array([0.1, 0.4, 0.35, 0.8]), POSITIVE)
    spread = 1.959964 * math.sqrt(1 / 8) / (0.75 * 0.25)
    low, high = (1 / (1 + math.exp(-(math.log(3) + side * spread))) for side in (-1, 1))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.75, low, high))


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0)]
)
def test_wilson_against_published_values(hits: int, total: int, low: float, high: float) -> None:
    interval = evaluation.proportion_interval(hits, total)
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=1e-4)


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([0.05, 0.05, 0.95, 0.95])
    # Bin 0: mean 0.05, observed 0.5; bin 9: mean 0.95, observed 1.0; each holds half of the images.
    found = evaluation.expected_calibration_error(probabilities, np.array([False, True, True, True]))
    assert found == pytest.approx(0.5 * 0.45 + 0.5 * 0.05)


def test_calibration_recovers_temperature_and_bias() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0.0, 4.0, 40_000)
    positive = random.random(40_000) < 1.0 / (1.0 + np.exp(-(logits / 2.0 + 0.7)))
    found = evaluation.calibrate(logits, positive)
    assert found.temperature == pytest.approx(2.0, rel=0.05)
    assert found.bias == pytest.approx(0.7, abs=0.05)


def test_calibration_survives_separated_classes() -> None:
    found = evaluation.calibrate(np.array([-5.0, -4.0, 4.0, 5.0]), POSITIVE)
    assert 0.1 < found.temperature < 20.0


@given(st.floats(-80, 80), st.floats(0.05, 20), st.floats(-5, 5))
def test_the_device_computes_the_same_probability(logit: float, temperature: float, bias: float) -> None:
    spec = FindingSpec(code="1", scheme="SCT", meaning="Pneumonia", temperature=temperature, bias=bias)
    ours = Calibration(temperature=temperature, bias=bias).probability(np.array([logit]))[0]
    assert ours == pytest.approx(probability(logit, spec), abs=1e-12)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=80).filter(lambda x: any(p for _, p in x)),
    st.floats(0.5, 1.0),
    st.floats(0.0, 0.1),
)
def test_the_threshold_keeps_its_sensitivity_and_its_band(
    drawn: list[tuple[float, bool]], sensitivity: float, share: float
) -> None:
    values, positive = np.array([v for v, _ in drawn]), np.array([p for _, p in drawn])
    found = evaluation.choose_threshold("1", values, positive, sensitivity, share)
    assert 0.0 <= found.indeterminate_from <= found.flagged_from <= 1.0
    assert (values[positive] >= found.flagged_from).mean() >= sensitivity - 1e-9
    above = values[positive][values[positive] > found.flagged_from]
    if len(above):  # the next higher cut-off would lose the sensitivity
        assert (values[positive] > np.sort(above)[0]).mean() < sensitivity


def test_the_threshold_by_hand() -> None:
    values = np.array([0.1, 0.2, 0.3, 0.6, 0.8, 0.9])
    positive = np.array([False, False, True, False, True, True])
    found = evaluation.choose_threshold("1", values, positive, 0.6, 1 / 6)
    assert found.flagged_from == pytest.approx(0.7)
    assert found.indeterminate_from == pytest.approx(0.45)


def test_the_figures_of_an_engine_by_hand() -> None:
    spec = FindingSpec(code="1", scheme="SCT", meaning="Pneumonia", temperature=1.0)
    threshold = Threshold(code="1", indeterminate_from=0.4, flagged_from=0.5)
    test = np.array([[-3.0], [0.5], [-0.1], [2.0]], dtype=np.float32)
    scores = EngineScores(engine="openvino", precision="int8", validation=test, test=test)
    reference = np.array([[-3.0], [-0.5], [-0.1], [2.0]], dtype=np.float32)
    found = evaluation.measure(
        scores,
        reference=reference,
        positive=POSITIVE,
        column=0,
        spec=spec,
        threshold=threshold,
        point="balanced",
        dataset="made",
        patients=3,
    )
    assert (found.sensitivity.value, found.specificity.value) == (0.5, 0.5)
    assert found.flips_against_fp32 == 1
    assert found.indeterminate == 0.25
    assert (found.images, found.positives, found.patients) == (4, 2, 3)


def test_the_roc_curve_joins_ties() -> None:
    false, true = evaluation.roc_curve(np.array([0.0, 1.0, 1.0, 2.0]), POSITIVE)
    assert list(zip(false, true, strict=True)) == [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
