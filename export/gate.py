"""The gate: what INT8 may cost against FP32, and what the model must reach, as checks over what was measured.

Pure: evidence in, checks out. A figure that is not a number, or was not measured, fails its check.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.inference.bundle import FindingSpec, OperatingPoint
from edge.inference.engines import ENGINES
from export.document import Section, Table
from export.evaluation import Calibration, auroc, expected_calibration_error
from export.recipe import GateRecipe

_INT16_MAX = 32_767
_ROUNDING = 1e-9
"""What 0.95 - 0.94 is more than 0.01 by."""

Labels = NDArray[np.bool_]
Logits = NDArray[np.float32]
Probabilities = NDArray[np.float64]


class GateRefusal(ScansideError):  # noqa: N818  it refuses; nothing went wrong
    """The model misses its gate: no bundle is written. The message names every miss, in one line."""


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What a classification answered on one split; all arrays are [N, K]: images, findings."""

    findings: tuple[FindingSpec, ...]
    points: tuple[OperatingPoint, ...]
    default_point: str
    positive: Labels
    reference: Logits
    """FP32."""
    engines: Mapping[str, Logits]
    """INT8, by engine."""


class Masks(msgspec.Struct, frozen=True, kw_only=True):
    """How well a segmentation's masks fit on one split: Dice of each image [N]."""

    reference: NDArray[np.float64]
    """FP32."""
    engines: Mapping[str, NDArray[np.float64]]
    """INT8, by engine."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the gate judges; the split is the test split. Mappings go by engine."""

    answers: Answers | None = None
    answers_with_copies: Answers | None = None
    """The same with changed copies of the images, where drops and flips are judged on these."""
    masks: Masks | None = None
    speedups: Mapping[str, float]
    """How many times faster INT8 is than FP32 in the same engine (`export.latency`)."""
    capped_shifts: Mapping[str, Mapping[str, float]]
    """Largest shift of each output with the instruction set capped (`export.quantization.instruction_set`)."""
    pair_sums: Mapping[str, int]
    """Largest sum of two products that the integers allow (`export.quantization.integers`)."""
    refused: Mapping[str, float] = {}
    """Share of the images that must be refused and are."""
    refused_own: Mapping[str, float] = {}
    """Share of the test split that is refused as unfamiliar."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One figure against its limit."""

    name: str
    """The field of the recipe's gate that sets the limit, or what is measured where none does."""
    engine: str
    """The engine, or the two that are compared."""
    finding: str = ""
    """The finding's meaning; the output's name for ``capped_shift``; empty where it concerns the whole model."""
    point: str = ""
    """The operating point; empty where it concerns none."""
    value: float
    limit: float | None
    """None where the figure is only reported: then it fails only when it is not a number."""
    passed: bool
    rule: str


def check(evidence: Evidence, recipe: GateRecipe) -> tuple[Check, ...]:
    """Every check of the recipe on every engine that a bundle holds, in a fixed order.

    Raises:
        ValueError: The evidence holds neither answers nor masks.
    """
    if evidence.answers is None and evidence.masks is None:
        raise ValueError("evidence without answers and without masks judges nothing; give the one of the model's task")
    checks: list[Check] = []
    if evidence.answers is not None:
        checks += drops(evidence.answers_with_copies or evidence.answers, recipe)
        for case in _cases(evidence.answers):
            checks += _reached(case, evidence.answers.default_point, recipe)
    if evidence.masks is not None:
        checks += dice_drops(evidence.masks, recipe)
        fits = {engine: _mean(evidence.masks.engines.get(engine)) for engine in ENGINES}
        checks += [_at_least("min_dice", recipe.min_dice, fit, engine) for engine, fit in fits.items()]
    checks += _whole(evidence, recipe)
    return tuple(checks)


def drops(answers: Answers, recipe: GateRecipe) -> tuple[Check, ...]:
    """What the INT8 answers cost against FP32, per finding, operating point and engine, on whatever split these are.

    A decision is *flagged* or not; the indeterminate band changes none.
    """
    return tuple(found for case in _cases(answers) for found in _drops_of(case, recipe))


def dice_drops(masks: Masks, recipe: GateRecipe) -> tuple[Check, ...]:
    """What the INT8 masks cost against FP32: the drop of the mean Dice."""
    reference = _mean(masks.reference)
    return tuple(
        _at_most("dice_drop", recipe.dice_drop, reference - _mean(masks.engines.get(engine)), engine)
        for engine in ENGINES
    )


def misses(checks: Iterable[Check]) -> tuple[str, ...]:
    """Every missed check in words: its name, value, rule and where."""
    return tuple(_in_words(each) for each in checks if not each.passed)


def refuse_misses(checks: Sequence[Check]) -> None:
    """Nothing when all checks passed.

    Raises:
        GateRefusal: Names every miss.
    """
    if missed := misses(checks):
        raise GateRefusal(
            f"the gate refuses the model, {len(missed)} of {len(checks)} checks missed: {'; '.join(missed)}; "
            "no bundle was written: train or quantize it better, or set another gate in the recipe"
        )


def gate_section(checks: Sequence[Check]) -> Section:
    """All checks as a table, the missed ones first."""
    missed = [each for each in checks if not each.passed]
    rows = [_row(each) for each in (*missed, *(each for each in checks if each.passed))]
    heading = ("Check", "Engine", "Finding or output", "Operating point", "Measured", "Rule", "Met")
    summary = (
        f"All {len(checks)} checks are met." if not missed else f"{len(missed)} of {len(checks)} checks are missed."
    )
    return Section(title="Gate", paragraphs=(summary,), tables=(Table(heading, tuple(rows)),))


def _drops_of(case: _Case, recipe: GateRecipe) -> Iterator[Check]:
    for engine in ENGINES:
        ours, reference, about = case.given[engine], case.reference, case.finding
        drop = _area(reference, case.positive) - _area(ours, case.positive)
        yield _at_most("auroc_drop", recipe.auroc_drop, drop, engine, about)
        shift = float(np.abs(ours - reference).max()) if _sound(ours) and _sound(reference) else math.nan
        yield _reported("largest_probability_shift", shift, engine, about)
    for point, bound in case.bounds.items():
        yield from _decision_drops(case, point, bound, recipe)


def _decision_drops(case: _Case, point: str, bound: float, recipe: GateRecipe) -> Iterator[Check]:
    well, about = ~case.positive, case.finding
    for engine in ENGINES:
        ours = case.given[engine]
        missed = _flagged(case.reference, case.positive, bound) - _flagged(ours, case.positive, bound)
        yield _at_most("sensitivity_drop", recipe.sensitivity_drop, missed, engine, about, point)
        alarms = _flagged(ours, well, bound) - _flagged(case.reference, well, bound)
        yield _at_most("specificity_drop", recipe.specificity_drop, alarms, engine, about, point)
        flips, both = _flips(ours, case.reference, bound), f"{engine} against FP32"
        yield _at_most("decision_flips", recipe.decision_flips, flips, both, about, point)
    for one, other in itertools.combinations(ENGINES, 2):
        flips, both = _flips(case.given[one], case.given[other], bound), f"{one} against {other}"
        yield _at_most("decision_flips", recipe.decision_flips, flips, both, about, point)


def _reached(case: _Case, point: str, recipe: GateRecipe) -> Iterator[Check]:
    """What the shipped answers reach by themselves, at the default operating point."""
    bound, about = case.bounds.get(point, math.nan), case.finding
    for engine in ENGINES:
        ours = case.given[engine]
        hit, spared = _flagged(ours, case.positive, bound), 1.0 - _flagged(ours, ~case.positive, bound)
        gap = expected_calibration_error(ours, case.positive) if _sound(ours) else math.nan
        yield _at_least("min_auroc", recipe.min_auroc, _area(ours, case.positive), engine, about)
        yield _at_least("min_sensitivity", recipe.min_sensitivity, hit, engine, about, point)
        yield _at_least("min_specificity", recipe.min_specificity, spared, engine, about, point)
        yield _at_most("max_calibration_error", recipe.max_calibration_error, gap, engine, about)


def _whole(evidence: Evidence, recipe: GateRecipe) -> Iterator[Check]:
    """What concerns the whole model: speed, other CPUs, refusals."""
    for engine in ENGINES:
        speedup, pair = evidence.speedups.get(engine, math.nan), float(evidence.pair_sums.get(engine, math.nan))
        yield _at_least("faster_than_fp32", recipe.faster_than_fp32, speedup, engine)
        yield _at_most("largest_sum_of_two_products", _INT16_MAX, pair, engine)
        if recipe.min_refused > 0.0:
            yield _at_least("min_refused", recipe.min_refused, evidence.refused.get(engine, math.nan), engine)
        if recipe.max_refused_own < 1.0:
            own = evidence.refused_own.get(engine, math.nan)
            yield _at_most("max_refused_own", recipe.max_refused_own, own, engine)
    shifts = [(engine, output, shift) for engine, by in evidence.capped_shifts.items() for output, shift in by.items()]
    for engine, output, shift in shifts or [("", "", math.nan)]:
        yield _at_most("capped_shift", recipe.capped_shift, shift, engine, output)


class _Case(NamedTuple):
    """One finding's calibrated probabilities [N]; NaN throughout for an engine that gave none."""

    finding: str
    positive: Labels
    reference: Probabilities
    given: dict[str, Probabilities]
    bounds: dict[str, float]
    """``flagged_from`` by operating point."""


def _cases(answers: Answers) -> Iterator[_Case]:
    for column, spec in enumerate(answers.findings):

        def probabilities(logits: Logits | None, column: int = column, spec: FindingSpec = spec) -> Probabilities:
            # Calibration bounds infinite logits; here they are as bad as NaN.
            if logits is None or not _sound(logits[:, column]):
                return np.full(len(answers.positive), math.nan)
            return Calibration(temperature=spec.temperature, bias=spec.bias).probability(logits[:, column])

        yield _Case(
            finding=spec.meaning,
            positive=answers.positive[:, column],
            reference=probabilities(answers.reference),
            given={engine: probabilities(answers.engines.get(engine)) for engine in ENGINES},
            bounds={point.id: point.thresholds[column].flagged_from for point in answers.points},
        )


def _at_most(name: str, limit: float, value: float, engine: str, *about: str) -> Check:
    return _check(name, value, (engine, *about), limit, bool(value <= limit + _ROUNDING))


def _at_least(name: str, limit: float, value: float, engine: str, *about: str) -> Check:
    checked = _check(name, value, (engine, *about), limit, bool(value >= limit - _ROUNDING))
    return msgspec.structs.replace(checked, rule=f"at least {limit:g}")


def _reported(name: str, value: float, engine: str, *about: str) -> Check:
    return _check(name, value, (engine, *about), None, math.isfinite(value))


def _check(name: str, value: float, about: tuple[str, ...], limit: float | None, passed: bool) -> Check:
    engine, finding, point = (*about, "", "")[:3]
    rule = "reported" if limit is None else f"at most {limit:g}"
    return Check(
        name=name, engine=engine, finding=finding, point=point, value=value, limit=limit, passed=passed, rule=rule
    )


def _sound(values: NDArray[np.floating]) -> bool:
    return values.size > 0 and bool(np.isfinite(values).all())


def _area(values: Probabilities, positive: Labels) -> float:
    return auroc(values, positive) if _sound(values) else math.nan


def _mean(values: NDArray[np.float64] | None) -> float:
    return float(np.mean(values)) if values is not None and _sound(values) else math.nan


def _flagged(values: Probabilities, among: Labels, bound: float) -> float:
    """Share of the chosen images at or above the bound; NaN when none is chosen or a value is not a number."""
    return (
        float(np.mean(values[among] >= bound)) if _sound(values) and among.any() and not math.isnan(bound) else math.nan
    )


def _flips(one: Probabilities, other: Probabilities, bound: float) -> float:
    """Share of the images on different sides of the bound."""
    return float(np.mean((one >= bound) != (other >= bound))) if _sound(one) and _sound(other) else math.nan


def _in_words(check: Check) -> str:
    where = " ".join(part for part in (check.finding, check.point, check.engine) if part)
    return f"{check.name} {check.value:.4g}, {check.rule}" + (f" ({where})" if where else "")


def _row(check: Check) -> tuple[str, ...]:
    met = "missed" if not check.passed else "met" if check.limit is not None else ""
    return (check.name, check.engine, check.finding, check.point, f"{check.value:.4g}", check.rule, met)
