from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.bundle import FindingSpec, Threshold, probability
from export import evaluation
from export.evaluation import Calibration, EngineScores
from export.evaluation.figures import Confusion, roc_curve
from export.evaluation.operating_points import OperatingPointError
from export.recipe import OperatingPointRecipe

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


DRAWN = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=80).filter(
    lambda drawn: len({positive for _, positive in drawn}) == 2
)


def _sensitive(share: float) -> OperatingPointRecipe:
    return OperatingPointRecipe(name="made", min_sensitivity=share)


def _specific(share: float) -> OperatingPointRecipe:
    return OperatingPointRecipe(name="made", min_specificity=share)


@given(DRAWN, st.floats(0.5, 1.0), st.floats(0.0, 0.1))
def test_the_threshold_keeps_its_sensitivity_and_its_band(
    drawn: list[tuple[float, bool]], sensitivity: float, share: float
) -> None:
    values, positive = np.array([v for v, _ in drawn]), np.array([p for _, p in drawn])
    found = evaluation.choose_threshold("1", values, positive, _sensitive(sensitivity), share)
    assert 0.0 <= found.indeterminate_from <= found.flagged_from <= 1.0
    assert (values[positive] >= found.flagged_from).mean() >= sensitivity - 1e-9
    above = values[positive][values[positive] > found.flagged_from]
    if len(above):  # the next higher cut-off would lose the sensitivity
        assert (values[positive] > np.sort(above)[0]).mean() < sensitivity


@given(DRAWN, st.floats(0.5, 1.0), st.floats(0.0, 0.1))
def test_the_threshold_keeps_its_specificity_and_is_the_lowest(
    drawn: list[tuple[float, bool]], specificity: float, share: float
) -> None:
    values, positive = np.array([v for v, _ in drawn]), np.array([p for _, p in drawn])
    if (values[~positive] < 1.0).mean() < specificity:
        with pytest.raises(OperatingPointError, match="no threshold keeps a specificity"):
            evaluation.choose_threshold("1", values, positive, _specific(specificity), share)
        return
    found = evaluation.choose_threshold("1", values, positive, _specific(specificity), share)
    assert 0.0 <= found.indeterminate_from <= found.flagged_from <= 1.0
    assert (values[~positive] < found.flagged_from).mean() >= specificity - 1e-9
    below = values[values < found.flagged_from]
    if len(below):  # the next lower cut-off would lose the specificity
        assert (values[~positive] < below.max()).mean() < specificity


@pytest.mark.parametrize(
    ("rule", "share", "flagged_from", "indeterminate_from"),
    [(_sensitive(0.6), 1 / 6, 0.7, 0.45), (_specific(0.6), 1 / 6, 0.25, 0.15), (_specific(1.0), 0.0, 0.7, 0.7)],
)
def test_the_threshold_by_hand(
    rule: OperatingPointRecipe, share: float, flagged_from: float, indeterminate_from: float
) -> None:
    values = np.array([0.1, 0.2, 0.3, 0.6, 0.8, 0.9])
    positive = np.array([False, False, True, False, True, True])
    found = evaluation.choose_threshold("1", values, positive, rule, share)
    assert (found.flagged_from, found.indeterminate_from) == pytest.approx((flagged_from, indeterminate_from))


def test_one_class_only_has_no_threshold() -> None:
    with pytest.raises(OperatingPointError, match="0 of 2 images have 1; a threshold needs both"):
        evaluation.choose_threshold("1", np.array([0.1, 0.2]), np.array([False, False]), _sensitive(0.9), 0.0)


def test_predictive_values_by_hand() -> None:
    # At 10 %: of 1000 images 100 have the finding, 90 are flagged; of 900 without, 180 are: 90/270, 720/730, 27 alerts.
    counts = Confusion(true_positives=90, false_positives=20, true_negatives=80, false_negatives=10)
    ppv, npv = counts.predictive_values(0.1)
    assert (ppv.value, npv.value) == pytest.approx((90 / 270, 720 / 730))
    assert counts.alerts_per_100(0.1) == pytest.approx(27.0)
    assert 0.2 < ppv.low < ppv.value < ppv.high < 0.5
    assert 0.95 < npv.low < npv.value < npv.high < 1.0


@given(*[st.integers(0, 300)] * 4, st.floats(0.0, 1.0))
def test_predictive_values_are_shares_inside_their_intervals(a: int, b: int, c: int, d: int, prevalence: float) -> None:
    counts = Confusion(true_positives=a, false_positives=b, true_negatives=c, false_negatives=d)
    for figure in counts.predictive_values(prevalence):
        assert figure.method.startswith("none") == (min(a + d, b + c) == 0)
        assert 0.0 <= figure.low <= figure.value <= figure.high <= 1.0


def test_separated_classes_keep_an_interval() -> None:
    found = evaluation.auroc_interval(np.array([0.1, 0.2, 0.8, 0.9]), POSITIVE)
    assert (found.value, found.high) == (1.0, 1.0)
    assert 0.0 < found.low < 0.5


def test_one_class_or_nan_has_no_auroc() -> None:
    assert math.isnan(evaluation.auroc_interval(np.array([0.1, 0.2]), np.array([True, True])).value)
    assert math.isnan(evaluation.auroc(np.array([0.1, 0.4, math.nan, 0.8]), POSITIVE))


def test_several_images_of_a_patient_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    of_patient = random.random(60)
    values, patients = np.repeat(of_patient, 8), [str(number) for number in np.repeat(np.arange(60), 8)]

    def mean(images: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
        return float(values[images].mean())

    clustered = evaluation.clustered_interval(mean, patients)
    single = evaluation.clustered_interval(mean, [str(number) for number in range(480)])
    # Eight copies of an image are one image: the standard error is that of 60, sqrt(8) times that of 480.
    assert (clustered.high - clustered.low) / (single.high - single.low) == pytest.approx(math.sqrt(8), rel=0.1)
    assert clustered.high - clustered.low == pytest.approx(2 * 1.96 * of_patient.std() / math.sqrt(60), rel=0.1)
    assert evaluation.clustered_interval(mean, patients) == clustered


def test_the_bootstrap_agrees_with_delong_where_each_patient_has_one_image() -> None:
    random = np.random.default_rng(4)
    positive = random.random(400) < 0.4
    scores = random.normal(1.5 * positive, 1.0)
    delong = evaluation.auroc_interval(scores, positive)
    drawn = evaluation.clustered_interval(
        lambda images: evaluation.auroc(scores[images], positive[images]), [str(number) for number in range(400)]
    )
    assert drawn.value == delong.value
    assert (drawn.low, drawn.high) == pytest.approx((delong.low, delong.high), abs=0.006)


def test_brier_and_adaptive_error_by_hand() -> None:
    assert evaluation.brier(np.array([0.9, 0.2]), np.array([True, False])) == pytest.approx((0.01 + 0.04) / 2)
    # Ten images in ten bins of one: the mean distance of each from its truth.
    values, positive = np.linspace(0.05, 0.95, 10), np.arange(10) >= 5
    found = evaluation.expected_calibration_error(values, positive, adaptive=True)
    assert found == pytest.approx(np.abs(values - positive).mean())


def test_the_figures_of_an_engine_by_hand() -> None:
    spec = FindingSpec(code="1", scheme="SCT", meaning="Pneumonia", temperature=1.0)
    threshold = Threshold(code="1", indeterminate_from=0.4, flagged_from=0.5)
    test = np.array([[-3.0], [0.5], [-0.1], [2.0]], dtype=np.float32)
    scores = EngineScores(engine="openvino", precision="int8", test=test)
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
    false, true = roc_curve(np.array([0.0, 1.0, 1.0, 2.0]), POSITIVE)
    assert list(zip(false, true, strict=True)) == [(0.0, 0.0), (0.0, 0.5), (0.5, 1.0), (1.0, 1.0)]
