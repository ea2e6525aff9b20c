"""Judging, boxes, the choice of the engine: pure rules, as tables."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.inference.bundle import Accepts, Bundle, FindingSpec, Input, OperatingPoint, Threshold
from edge.inference.engine_choice import Trial, rank
from edge.inference.explanation import box_of
from edge.inference.judgement import judge
from edge.records import Status

CHILDREN = Accepts(modalities=("CR", "DX"), body_parts=("CHEST",), views=("PA", "AP"), age_years=(1.0, 6.0))


def _bundle(*temperatures: float) -> tuple[Bundle, OperatingPoint]:
    codes = [str(number) for number in range(len(temperatures))]
    point = OperatingPoint(
        id="balanced",
        description="",
        thresholds=tuple(Threshold(code=code, indeterminate_from=0.5, flagged_from=0.6) for code in codes),
    )
    bundle = Bundle(
        id="test",
        version="1.0.0",
        task="classification",
        title="",
        intended_use="",
        not_looked_for="",
        accepts=CHILDREN,
        input=Input(name="image", height=8, width=8),
        outputs={"logits": "logits", "cam": "cam", "embedding": "embedding"},
        findings=tuple(
            FindingSpec(code=code, scheme="SCT", meaning=code, temperature=temperature)
            for code, temperature in zip(codes, temperatures, strict=True)
        ),
        operating_points=(point,),
        default_operating_point="balanced",
        golden_tolerance={},
        measured=(),
        provenance={},
        files={},
    )
    return bundle, point


@pytest.mark.parametrize(
    ("logits", "status", "flags"),
    [
        ([-3.0, -3.0], Status.CLEAR, [False, False]),
        ([3.0, -3.0], Status.FLAGGED, [True, False]),
        ([0.2, -3.0], Status.INDETERMINATE, [False, False]),
        ([0.2, 3.0], Status.FLAGGED, [False, True]),
        ([3.0, 0.2], Status.FLAGGED, [True, False]),
        ([-0.01, -0.01], Status.CLEAR, [False, False]),
        ([float(np.log(1.5)) + 1e-9, -9.0], Status.FLAGGED, [True, False]),
    ],
)
def test_judge(logits: list[float], status: Status, flags: list[bool]) -> None:
    bundle, point = _bundle(1.0, 1.0)
    judged, findings = judge(logits, bundle, point)
    assert judged is status
    assert [finding.flagged for finding in findings] == flags


def test_temperature_moves_the_probability_and_not_the_score() -> None:
    bundle, point = _bundle(2.0)
    finding = judge([2.0], bundle, point)[1][0]
    assert finding.score == pytest.approx(1 / (1 + np.exp(-2.0)), abs=1e-6)
    assert finding.probability == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-6)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=4))
def test_any_logits_get_one_of_the_answers(logits: list[float]) -> None:
    bundle, point = _bundle(*[1.5] * len(logits))
    status, findings = judge(logits, bundle, point)
    assert (status is Status.FLAGGED) == any(finding.flagged for finding in findings)
    assert all(0.0 <= finding.probability <= 1.0 for finding in findings)


def test_box_surrounds_the_hot_cell() -> None:
    cam = np.full((7, 7), -1.0, dtype=np.float32)
    cam[5, 1] = 4.0
    box = box_of(cam, rows=1400, columns=700)
    assert box is not None
    x0, y0, x1, y1 = box
    assert 80 <= x0 <= 150 <= x1 <= 220
    assert 960 <= y0 <= 1100 <= y1 <= 1240


def test_no_box_without_evidence() -> None:
    assert box_of(np.full((7, 7), -0.5, dtype=np.float32), 100, 100) is None


@pytest.mark.parametrize(
    ("trials", "order"),
    [
        ([("openvino", 2.0), ("onnxruntime", 3.0)], ["openvino", "onnxruntime"]),
        ([("openvino", 5.0), ("onnxruntime", 3.0)], ["onnxruntime", "openvino"]),
        ([("openvino", None), ("onnxruntime", 3.0)], ["onnxruntime"]),
        ([("openvino", None), ("onnxruntime", None)], []),
    ],
)
def test_the_fastest_that_passes_is_chosen(trials: list[tuple[str, float | None]], order: list[str]) -> None:
    assert rank([Trial(engine=engine, best_ms=best) for engine, best in trials]) == order
