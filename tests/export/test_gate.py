from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.inference.bundle import FindingSpec, OperatingPoint, Threshold
from edge.inference.engines import ENGINES
from export.document import markdown
from export.gate import Answers, Check, Evidence, GateRefusal, Masks, check, drops, gate_section, refuse_misses
from export.recipe import GateRecipe

IMAGES = 200
STRICT = GateRecipe(
    min_auroc=0.9,
    min_sensitivity=0.9,
    min_specificity=0.9,
    max_calibration_error=0.1,
    min_refused=0.97,
    max_refused_own=0.02,
)
POSITIVE = np.arange(IMAGES) % 2 == 1
LOGITS = np.where(POSITIVE, 3.0, -3.0).astype(np.float32)[:, np.newaxis]
SPEC = FindingSpec(code="233604007", scheme="SCT", meaning="Pneumonia", temperature=1.0)


def point(name: str, flagged_from: float) -> OperatingPoint:
    bounds = Threshold(code=SPEC.code, indeterminate_from=flagged_from, flagged_from=flagged_from)
    return OperatingPoint(id=name, description="", thresholds=(bounds,))


def answers(**changed: Any) -> Answers:
    """Everything right and equal in all engines."""
    given: dict[str, Any] = {
        "findings": (SPEC,),
        "points": (point("balanced", 0.5), point("high_sensitivity", 0.2)),
        "default_point": "balanced",
        "positive": POSITIVE[:, np.newaxis],
        "reference": LOGITS,
        "engines": dict.fromkeys(ENGINES, LOGITS),
    }
    return Answers(**{**given, **changed})


def evidence(**changed: Any) -> Evidence:
    given: dict[str, Any] = {
        "answers": answers(),
        "speedups": dict.fromkeys(ENGINES, 2.0),
        "capped_shifts": {"openvino": {"logits": 0.01, "cam": 0.02}},
        "pair_sums": dict.fromkeys(ENGINES, 32_640),
        "refused": dict.fromkeys(ENGINES, 0.98),
        "refused_own": dict.fromkeys(ENGINES, 0.01),
    }
    return Evidence(**{**given, **changed})


def one_engine(logits: np.ndarray) -> Evidence:
    """OpenVINO answers ``logits``, ONNX Runtime as FP32."""
    return evidence(answers=answers(engines={"openvino": logits, "onnxruntime": LOGITS}))


def flipped(*images: int) -> np.ndarray:
    logits = LOGITS.copy()
    logits[list(images)] *= -1
    return logits


def missed(found: Evidence, recipe: GateRecipe = STRICT) -> set[tuple[str, str]]:
    return {(each.name, each.engine) for each in check(found, recipe) if not each.passed}


def test_what_is_equal_and_good_meets_every_check_on_every_engine() -> None:
    checks = check(evidence(), STRICT)
    assert [each for each in checks if not each.passed] == []
    assert {each.name for each in checks} == {
        *(field for field in GateRecipe.__struct_fields__ if "dice" not in field and field != "copies"),
        "largest_probability_shift",
        "largest_sum_of_two_products",
    }
    for name in ("auroc_drop", "min_auroc", "faster_than_fp32", "min_refused", "largest_sum_of_two_products"):
        assert {each.engine for each in checks if each.name == name} == set(ENGINES)
    refuse_misses(checks)


@pytest.mark.parametrize(
    ("found", "names"),
    [
        (one_engine(flipped(1, 3)), {"sensitivity_drop"}),
        (one_engine(flipped(0, 2)), {"specificity_drop"}),
        (one_engine(flipped(0, 1, 2)), {"decision_flips", "specificity_drop"}),
        (one_engine(np.where(LOGITS > 0, 1.45, 1.4).astype(np.float32)), {"specificity_drop", "decision_flips"}),
        (one_engine(-LOGITS), {"auroc_drop", "min_auroc", "min_sensitivity", "min_specificity"}),
        (one_engine(LOGITS / 20), {"max_calibration_error"}),
        (evidence(speedups={"openvino": 0.9, "onnxruntime": 1.0}), {"faster_than_fp32"}),
        (evidence(pair_sums={"openvino": 64_770, "onnxruntime": 32_640}), {"largest_sum_of_two_products"}),
        (evidence(capped_shifts={"openvino": {"logits": 0.051}}), {"capped_shift"}),
        (evidence(refused={"openvino": 0.96, "onnxruntime": 1.0}), {"min_refused"}),
        (evidence(refused_own={"openvino": 0.021, "onnxruntime": 0.0}), {"max_refused_own"}),
    ],
)
def test_each_rule_names_the_engine_that_breaks_it(found: Evidence, names: set[str]) -> None:
    broken = missed(found)
    assert names <= {name for name, _ in broken}
    assert all("openvino" in engine for _, engine in broken)


def test_a_drop_of_exactly_the_limit_is_met_and_an_improvement_is_no_drop() -> None:
    assert "sensitivity_drop" not in {name for name, _ in missed(one_engine(flipped(1)))}  # 1 of 100 positives
    worse = evidence(answers=answers(reference=flipped(*range(20))))
    assert not {name for name, _ in missed(worse)} & {"auroc_drop", "sensitivity_drop", "specificity_drop"}


def test_drops_are_judged_on_the_copies_and_what_must_be_reached_on_the_images_themselves() -> None:
    bad = {"openvino": -LOGITS, "onnxruntime": LOGITS}
    copies_differ = evidence(answers_with_copies=answers(engines=bad))
    assert {name for name, _ in missed(copies_differ)} == {
        *("auroc_drop", "sensitivity_drop", "specificity_drop", "decision_flips")
    }
    images_differ = evidence(answers=answers(engines=bad), answers_with_copies=answers())
    assert {name for name, _ in missed(images_differ)} == {
        *("min_auroc", "min_sensitivity", "min_specificity", "max_calibration_error")
    }


def test_every_operating_point_is_judged_and_the_default_one_must_reach() -> None:
    low = np.where(POSITIVE, 3.0, -1.0).astype(np.float32)[:, np.newaxis]  # probability 0.27: between the two points
    checks = [each for each in check(one_engine(low), STRICT) if not each.passed]
    assert {each.point for each in checks if each.name == "specificity_drop"} == {"high_sensitivity"}
    assert {each.point for each in check(evidence(), STRICT) if each.name == "min_sensitivity"} == {"balanced"}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_answer_that_is_no_number_fails_every_figure_of_that_engine(bad: float) -> None:
    logits = LOGITS.copy()
    logits[7] = bad
    names = {name for name, engine in missed(one_engine(logits)) if engine == "openvino"}
    assert names >= {"auroc_drop", "sensitivity_drop", "specificity_drop", "min_auroc", "min_sensitivity"}
    assert names >= {"min_specificity", "max_calibration_error", "largest_probability_shift"}


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"speedups": {"openvino": 2.0}}, "faster_than_fp32"),
        ({"speedups": {"openvino": 2.0, "onnxruntime": math.nan}}, "faster_than_fp32"),
        ({"pair_sums": {}}, "largest_sum_of_two_products"),
        ({"capped_shifts": {}}, "capped_shift"),
        ({"capped_shifts": {"openvino": {"logits": math.nan}}}, "capped_shift"),
        ({"refused": {}}, "min_refused"),
        ({"refused_own": {}}, "max_refused_own"),
        ({"answers": answers(engines={"openvino": LOGITS})}, "min_auroc"),
        ({"answers": answers(engines={})}, "decision_flips"),
        ({"answers": answers(positive=np.zeros((IMAGES, 1), dtype=bool))}, "min_sensitivity"),
        ({"answers": answers(default_point="gone")}, "min_specificity"),
    ],
)
def test_what_was_not_measured_fails(changed: dict[str, Any], name: str) -> None:
    assert name in {each for each, _ in missed(evidence(**changed))}


def test_refusals_are_asked_for_only_where_the_recipe_sets_a_limit() -> None:
    free = msgspec.structs.replace(STRICT, min_refused=0.0, max_refused_own=1.0)
    assert missed(evidence(refused={}, refused_own={}), free) == set()


def test_calibration_and_temperature_decide_what_is_flagged() -> None:
    shifted = FindingSpec(code=SPEC.code, scheme="SCT", meaning="Pneumonia", temperature=1.0, bias=-6.0)
    found = check(evidence(answers=answers(findings=(shifted,))), STRICT)
    assert {each.value for each in found if each.name == "min_sensitivity"} == {0.0}


def test_the_largest_shift_of_the_probability_is_reported_without_a_limit() -> None:
    near = LOGITS.copy()
    near[1] = 1.0
    found = {
        each.engine: each
        for each in drops(answers(engines={"openvino": near, "onnxruntime": LOGITS}), STRICT)
        if each.name == "largest_probability_shift"
    }
    assert found["openvino"].value == pytest.approx(1 / (1 + math.exp(-3)) - 1 / (1 + math.exp(-1)))
    assert (found["openvino"].limit, found["openvino"].passed) == (None, True)


@pytest.mark.parametrize(
    ("openvino", "names"),
    [(0.97, set()), (0.966, set()), (0.9649, {"dice_drop"}), (0.94, {"dice_drop", "min_dice"}), (math.nan, None)],
)
def test_masks_are_judged_by_their_mean_dice(openvino: float, names: set[str] | None) -> None:
    fits = {"openvino": np.full(10, openvino), "onnxruntime": np.full(10, 0.97)}
    masks = Masks(reference=np.full(10, 0.97), engines=fits)
    recipe = msgspec.structs.replace(STRICT, min_dice=0.96)
    broken = {name for name, _ in missed(evidence(answers=None, masks=masks), recipe)}
    assert broken == ({"dice_drop", "min_dice"} if names is None else names)


def test_nothing_to_judge_is_an_error() -> None:
    with pytest.raises(ValueError, match="judges nothing"):
        check(evidence(answers=None), STRICT)


def test_the_refusal_names_every_miss_in_one_line() -> None:
    found = one_engine(-LOGITS)
    with pytest.raises(GateRefusal) as refusal:
        refuse_misses(check(found, STRICT))
    text = str(refusal.value)
    assert "\n" not in text
    assert "min_auroc 0, at least 0.9 (Pneumonia openvino)" in text
    assert "no bundle was written" in text


def test_the_section_lists_all_checks_missed_ones_first() -> None:
    checks = check(one_engine(flipped(1, 3)), STRICT)
    text = markdown("Report", [gate_section(checks)])
    rows = [line for line in text.splitlines() if line.startswith("|")][2:]
    assert len(rows) == len(checks)
    assert rows[0].endswith("| missed |")
    count = sum(not each.passed for each in checks)
    assert [line.endswith("| missed |") for line in rows] == [True] * count + [False] * (len(rows) - count)
    assert isinstance(checks[0], Check)
