"""From what the engines answered to calibration, operating points, limits and figures. Pure."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.inference.bundle import Bundle, FindingSpec, Measured, MeasuredMask, OperatingPoint, Threshold
from edge.inference.engines import ENGINES
from edge.inference.explanation import box_of
from export import gate
from export.answering import FLOAT_TRAINING, FP32
from export.datasets import Dataset
from export.evaluation import (
    UNKNOWN,
    Calibration,
    EngineScores,
    age_band,
    calibrate,
    choose_threshold,
    measure,
    measure_masks,
    rule_in_words,
)
from export.evaluation.findings import Scored
from export.evaluation.localisation import Localisation, localise, point
from export.gate import Check
from export.recipe import Recipe

Kept = Mapping[str, NDArray[Any]]
"""What `export.answering.write_answers` wrote."""
Judged = Literal["test", "copies"]
"""The test split, or it and its changed copies."""


def with_points(
    draft: Bundle, recipe: Recipe, logits: Sequence[NDArray[np.float32]], positive: NDArray[np.bool_]
) -> Bundle:
    """The draft with calibration and operating points from validation logits [N, K] of one or several engines."""
    how = recipe.operating_points
    specs: list[FindingSpec] = []
    thresholds: dict[str, list[Threshold]] = {rule.name: [] for rule in how.points}
    for column, finding in enumerate(draft.findings):
        together = np.concatenate([np.asarray(each[:, column], dtype=np.float64) for each in logits])
        present = np.tile(positive[:, column], len(logits))
        calibration = calibrate(together, present)
        specs.append(msgspec.structs.replace(finding, temperature=calibration.temperature, bias=calibration.bias))
        for rule in how.points:
            thresholds[rule.name].append(
                choose_threshold(
                    finding.code, calibration.probability(together), present, rule, how.indeterminate_share
                )
            )
    points = tuple(
        OperatingPoint(
            id=rule.name,
            description=rule_in_words(rule, how.indeterminate_share),
            thresholds=tuple(thresholds[rule.name]),
        )
        for rule in how.points
    )
    return msgspec.structs.replace(draft, findings=tuple(specs), operating_points=points)


def answers_of(bundle: Bundle, kept: Kept, images: Judged, positive: NDArray[np.bool_]) -> gate.Answers:
    """The logits of the test split, or of it and its copies, in the shape that the gate judges.

    Args:
        bundle: With calibration and operating points.
        kept: What the engines answered.
        images: Which.
        positive: [N, K] of the test split; copies have the truth of their images.
    """
    reference = kept[f"{FP32}/{images}/logits"]
    return gate.Answers(
        findings=bundle.findings,
        points=bundle.operating_points,
        default_point=bundle.default_operating_point,
        positive=np.tile(positive, (len(reference) // len(positive), 1)),
        reference=reference,
        engines={engine: kept[f"{engine}/{images}/logits"] for engine in ENGINES},
    )


def against_float_training(answers: gate.Answers, kept: Kept, images: Judged, recipe: Recipe) -> tuple[Check, ...]:
    """The drop of AUROC from the network before any rounding; none where training kept no such network."""
    name = f"{FLOAT_TRAINING}/{images}/logits"
    if name not in kept:
        return ()
    return tuple(
        msgspec.structs.replace(check, name="auroc_drop_from_float_training")
        for check in gate.drops(msgspec.structs.replace(answers, reference=kept[name]), recipe.gate)
        if check.name == "auroc_drop"
    )


def measured(bundle: Bundle, kept: Kept, dataset: Dataset, name: str) -> tuple[Measured, ...]:
    """Figures on the test split: each finding, engine and operating point, FP32 first."""
    chosen = dataset.indices("test")
    positive = dataset.targets[chosen] > 0.5
    patients = len({dataset.rows[index].patient for index in chosen})
    reference = kept[f"{FP32}/test/logits"]
    return tuple(
        measure(
            EngineScores(engine=engine, precision=precision, test=kept[f"{source}/test/logits"]),
            reference=reference,
            positive=positive[:, column],
            column=column,
            spec=spec,
            threshold=point.thresholds[column],
            point=point.id,
            dataset=name,
            patients=patients,
        )
        for column, spec in enumerate(bundle.findings)
        for point in bundle.operating_points
        for engine, precision, source in _contenders(kept, "logits")
    )


def measured_masks(kept: Kept, dataset: Dataset, name: str) -> tuple[MeasuredMask, ...]:
    """Dice on the test split of each engine, FP32 first."""
    patients = [dataset.rows[index].patient for index in dataset.indices("test")]
    return tuple(
        measure_masks(
            kept[f"{source}/test/dice"], patients, engine=engine, precision=precision, dataset=name, split="test"
        )
        for engine, precision, source in _contenders(kept, "dice")
    )


def scored(bundle: Bundle, kept: Kept, dataset: Dataset, prevalence: float) -> tuple[Scored, ...]:
    """The test split of every finding and INT8 engine with all that the figures and plots need; none of a mask."""
    if not bundle.findings:
        return ()
    chosen = dataset.indices("test")
    rows = [dataset.rows[index] for index in chosen]
    groups = {
        "sex": [row.sex or UNKNOWN for row in rows],
        "age": [age_band(row.age_years) for row in rows],
        "view": [row.view or UNKNOWN for row in rows],
        "source": [row.source or UNKNOWN for row in rows],
    }
    first = bundle.operating_point()
    points = [first, *(point for point in bundle.operating_points if point is not first)]
    return tuple(
        Scored(
            code=spec.code,
            meaning=spec.meaning,
            engine=engine,
            precision="int8",
            probabilities=Calibration(temperature=spec.temperature, bias=spec.bias).probability(
                kept[f"{engine}/test/logits"][:, column]
            ),
            positive=dataset.targets[chosen, column] > 0.5,
            patients=tuple(row.patient for row in rows),
            groups=groups,
            thresholds={point.id: point.thresholds[column] for point in points},
            prevalence=prevalence,
        )
        for column, spec in enumerate(bundle.findings)
        for engine in ENGINES
    )


def localised(
    bundle: Bundle, kept: Kept, dataset: Dataset, lungs: NDArray[np.uint8]
) -> Iterator[tuple[str, Localisation]]:
    """Where the explanations of the flagged positives of the test split point, against the lungs with a margin.

    Args:
        bundle: With calibration and operating points.
        kept: What the engines answered.
        dataset: The images.
        lungs: [N, side, side] of 0 and 1; all 0 where they are not known.
    """
    chosen = dataset.indices("test")
    point_of_default = bundle.operating_point()
    for column, spec in enumerate(bundle.findings):
        bound = point_of_default.thresholds[column].flagged_from
        for engine in ENGINES:
            logits, cams = (kept[f"{engine}/test/{name}"][:, column] for name in ("logits", "cam"))
            flagged = Calibration(temperature=spec.temperature, bias=spec.bias).probability(logits) >= bound
            shown = flagged & (dataset.targets[chosen, column] > 0.5) & lungs[chosen].any(axis=(1, 2))
            pointed = [
                point(cams[place], box_of(cams[place], *lungs.shape[1:]), lungs[chosen[place]] > 0)
                for place in np.flatnonzero(shown)
            ]
            if pointed:
                yield f"{spec.meaning}, {engine}", localise(pointed, "lungs with a margin")


def missed(checks: Iterable[Check]) -> list[str]:
    """What some outputs miss, in words."""
    return [
        " ".join(part for part in (f"{check.name} {check.value:.4g}", check.finding, check.point, check.engine) if part)
        for check in checks
        if not check.passed
    ]


def _contenders(kept: Kept, output: str) -> Iterator[tuple[str, str, str]]:
    """Engine, precision and the name under which the answers are kept."""
    if f"{FLOAT_TRAINING}/test/{output}" in kept:
        yield "pytorch", "fp32 before rounding", FLOAT_TRAINING
    yield "onnxruntime", "fp32", FP32
    for engine in ENGINES:
        yield engine, "int8", engine
