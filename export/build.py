"""From a recipe to a sealed bundle: everything made, judged, told, and sealed when the gate lets it pass.

A bundle appears at its place complete or not at all; the report is written either way.
"""

import datetime
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from edge.imaging.header import parse_age
from edge.inference.bundle import (
    FAMILIARITY_FILE,
    GOLDEN_FILE,
    ONNX_FILE,
    OPENVINO_FILE,
    Bundle,
    Familiarity,
    MeasuredRefusal,
)
from edge.inference.engines import ENGINES, Outputs
from edge.inference.familiarity import Statistics
from edge.synthetic.dicom import AGE
from export import answering, card, familiarity, gate, golden, judging, seal, tracing, training
from export.datasets import SPLITS, Dataset, Split, data_section
from export.document import Section, markdown, page
from export.evaluation import FindingFigures, figures_of
from export.evaluation.findings import Scored
from export.evaluation.plots import dice_plot, finding_plots
from export.evaluation.sections import finding_section, localisation_section, mask_section
from export.fitting import Place
from export.gate import Check, Evidence, gate_section
from export.history import history_section
from export.inspection import describe, describe_mask, describe_refusal
from export.latency import latency_section
from export.making import QUANTIZATION_FILE, Made, make, versions
from export.quantization import integers, onnxruntime_int8, openvino_int8, qdq
from export.quantization.running import run_engine
from export.quantization.section import quantization_section
from export.steps import Report, cpu, digest

_GOLDEN_IMAGES = 6


def build(place: Place, signing_key: Ed25519PrivateKey, report: Report) -> str:
    """Makes, judges and seals the bundle beside the recipe; returns its digest.

    Raises:
        GateRefusal: The model misses its gate; nothing was written but the report.
    """
    started = time.monotonic()
    made = make(place, report)
    bundle, statistics = _measured(made)
    for line in (*map(describe, bundle.measured), *map(describe_mask, bundle.measured_masks)):
        report(line)
    for refusal in bundle.measured_refusals:
        report(describe_refusal(refusal))
    inputs = golden.golden_inputs(_GOLDEN_IMAGES, made.work.recipe.side)
    answers = _golden_answers(made, inputs)
    checks = (*_checks(made, bundle), *_synthetic_pass(answers, bundle, statistics))
    tested = _tested(made, bundle)
    analyses = _analyses(made, bundle, statistics, checks)
    told = _write_report(place, made, bundle, _report_sections(made, bundle, tested, analyses), checks)
    report(f"report: {told}; {sum(check.passed for check in checks)} of {len(checks)} checks of the gate are met")
    if not place.smoke:
        gate.refuse_misses(checks)
    bundle = msgspec.structs.replace(bundle, provenance=_provenance(made, place, time.monotonic() - started))
    place.bundle.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=place.bundle.parent) as temporary:
        staged = Path(temporary) / "bundle"
        shutil.copytree(made.quantized, staged, ignore=shutil.ignore_patterns(QUANTIZATION_FILE))
        if statistics is not None:
            familiarity.save(staged / FAMILIARITY_FILE, statistics)
        golden.write_golden(staged / GOLDEN_FILE, inputs, answers)
        told_in_card = card.card_sections(
            bundle, made.work.recipe, tested, training=(_history(made),), analyses=analyses
        )
        card.write_cards(staged, card.card_title(bundle), told_in_card)
        sealed = seal.seal(staged, bundle, signing_key)
        seal.install(staged, place.bundle)
    report(f"sealed {place.bundle} {sealed} after {time.monotonic() - started:.0f} s")
    return sealed


def _measured(made: Made) -> tuple[Bundle, Statistics | None]:
    """The bundle with calibration, operating points, limits and figures; and the statistics of its gate."""
    work, data = made.work, made.work.dataset
    if work.recipe.task == "segmentation":
        rows = judging.measured_masks(made.kept, data, work.recipe.dataset.name)
        return msgspec.structs.replace(made.draft, measured_masks=rows), None
    positive = data.targets[data.indices("validation")] > 0.5
    validation = [made.kept[f"{engine}/validation/logits"] for engine in ENGINES]
    bundle = judging.with_points(made.draft, work.recipe, validation, positive)
    figures = judging.measured(bundle, made.kept, data, work.recipe.dataset.name)
    bundle = msgspec.structs.replace(bundle, measured=figures)
    embeddings = made.training_embeddings
    if embeddings is None or work.recipe.familiarity is None:
        return bundle, None
    statistics = familiarity.fit(embeddings)
    own = [name for name in ("validation", answering.LEFT_OUT) if f"{ENGINES[0]}/{name}/embedding" in made.kept]
    limits = familiarity.choose(
        np.concatenate([_distances(made, statistics, engine, name) for name in own for engine in ENGINES]),
        work.recipe.familiarity.refused_share,
        _distances(made, statistics, ENGINES[0], "other_frontal") if "other_frontal" in made.others else None,
    )
    refusals = _refusals(made, statistics, limits)
    return msgspec.structs.replace(bundle, familiarity=limits, measured_refusals=refusals), statistics


def _distances(made: Made, statistics: Statistics, engine: str, name: str) -> NDArray[np.float64]:
    return familiarity.distances(made.kept[f"{engine}/{name}/embedding"], statistics)


def _refusals(made: Made, statistics: Statistics, limits: Familiarity) -> tuple[MeasuredRefusal, ...]:
    gated, rows = made.work.recipe.familiarity, []
    sets = [("test", f"{made.work.recipe.dataset.name}, test split", False)]
    if gated is not None and gated.other_frontal is not None:
        sets.append(("other_frontal", gated.other_frontal.name, True))
    if gated is not None and gated.refused is not None:
        sets.append(("refused", gated.refused.name, True))
    for name, title, wanted in sets:
        for engine in ENGINES:
            found = _distances(made, statistics, engine, name)
            rows.append(familiarity.measure(found, limits, engine=engine, dataset=title, wanted=wanted))
    return tuple(rows)


def _checks(made: Made, bundle: Bundle) -> tuple[Check, ...]:
    """Everything that the gate judges, on the test split."""
    work, data = made.work, made.work.dataset
    answers = with_copies = masks = None
    more: tuple[Check, ...] = ()
    judged: judging.Judged = "copies" if work.recipe.gate.copies else "test"
    positive = data.targets[data.indices("test")] > 0.5
    if work.recipe.task == "classification":
        answers = judging.answers_of(bundle, made.kept, "test", positive)
        with_copies = judging.answers_of(bundle, made.kept, judged, positive)
        more = judging.against_float_training(with_copies, made.kept, judged, work.recipe)
    else:
        given = {engine: made.kept[f"{engine}/test/dice"] for engine in ENGINES}
        masks = gate.Masks(reference=made.kept[f"{answering.FP32}/test/dice"], engines=given)
    refusals = bundle.measured_refusals
    gated = work.recipe.familiarity
    must = None if gated is None or gated.refused is None else gated.refused.name
    evidence = Evidence(
        answers=answers,
        answers_with_copies=with_copies,
        masks=masks,
        speedups={each.engine: each.speedup for each in made.speed.latencies},
        capped_shifts=made.speed.capped_shifts,
        pair_sums=_pair_sums(made),
        refused={each.engine: each.refused.value for each in refusals if each.dataset == must},
        refused_own={each.engine: each.refused.value for each in refusals if not each.wanted},
    )
    return (*gate.check(evidence, work.recipe.gate), *more)


def _pair_sums(made: Made) -> dict[str, int]:
    """The proof that no sum saturates on a CPU without VNNI, by engine."""
    found = {
        "onnxruntime": qdq.weight_integers(onnx.load(str(made.quantized / ONNX_FILE))),
        "openvino": openvino_int8.weight_integers(made.quantized / OPENVINO_FILE),
    }
    return {engine: integers.largest_pair_sum(weights) for engine, weights in found.items()}


def _golden_answers(made: Made, inputs: NDArray[np.float32]) -> dict[str, Outputs]:
    pixels = np.asarray(np.rint(inputs[:, 0] * 255.0), dtype=np.uint8)
    return {engine: run_engine(engine, made.sealed, pixels) for engine in ENGINES}


def _synthetic_pass(answers: Mapping[str, Outputs], bundle: Bundle, statistics: Statistics | None) -> tuple[Check, ...]:
    """The demo's synthetic radiographs must be familiar to a model that accepts their patients' age."""
    youngest, below = bundle.accepts.age_years
    if statistics is None or bundle.familiarity is None or not youngest <= (parse_age(AGE) or 0.0) < below:
        return ()
    rows = []
    for engine, outputs in answers.items():
        found = familiarity.distances(outputs["embedding"], statistics)
        share = float(np.mean(found >= bundle.familiarity.unfamiliar_from))
        rows.append(
            Check(
                name="synthetic_refused",
                engine=engine,
                value=share,
                limit=0.0,
                passed=share == 0.0,
                rule="no synthetic radiograph is refused",
            )
        )
    return tuple(rows)


def _tested(made: Made, bundle: Bundle) -> list[tuple[Scored, FindingFigures]]:
    """The test split of every finding and INT8 engine with its figures."""
    prevalence = made.work.recipe.operating_points.prevalence
    return [(scored, figures_of(scored)) for scored in judging.scored(bundle, made.kept, made.work.dataset, prevalence)]


def _history(made: Made) -> Section:
    return history_section({task.member.name: training.history(task.folder) for task in made.work.tasks})


def _analyses(made: Made, bundle: Bundle, statistics: Statistics | None, checks: tuple[Check, ...]) -> list[Section]:
    """What was measured beside the findings: gate, quantization, refusals, speed."""
    sections = [gate_section(checks), quantization_section(made.quantization), latency_section(made.speed.latencies)]
    if bundle.familiarity is not None and statistics is not None:
        found = {name: _distances(made, statistics, ENGINES[0], name) for name in ("test", *made.others)}
        sections.append(familiarity.familiarity_section(bundle.familiarity, bundle.measured_refusals, found))
    if made.work.lungs is not None and bundle.findings:
        found_at = tuple(judging.localised(bundle, made.kept, made.work.dataset, made.work.lungs))
        sections.append(localisation_section(found_at))
    return sections


def _report_sections(
    made: Made, bundle: Bundle, tested: list[tuple[Scored, FindingFigures]], analyses: list[Section]
) -> list[Section]:
    """What the report tells, in the order of the work; the sample sheet shows training images, so it stays local."""
    sections = [data_section(made.work.dataset, made.work.recipe), _history(made)]
    sections += [finding_section(figures, finding_plots(scored, figures)) for scored, figures in tested]
    if bundle.measured_masks:
        values = [float(value) for value in made.kept[f"{ENGINES[0]}/test/dice"]]
        plot = dice_plot(values, f"Dice on the test split, {ENGINES[0]}")
        sections.append(mask_section(bundle.measured_masks, (plot,)))
    return [*sections, *analyses]


def _write_report(place: Place, made: Made, bundle: Bundle, sections: list[Section], checks: tuple[Check, ...]) -> Path:
    """Everything measured, for whoever builds, beside the cache."""
    folder = place.cache / bundle.id / "report"
    folder.mkdir(parents=True, exist_ok=True)
    title = f"Report on {bundle.id} {bundle.version}"
    (folder / "report.md").write_text(markdown(title, sections), encoding="utf-8")
    (folder / "report.html").write_text(page(title, sections), encoding="utf-8")
    figures = {
        "bundle": msgspec.to_builtins(bundle),
        "checks": msgspec.to_builtins(checks),
        "quantization": msgspec.to_builtins(made.quantization),
        "speed": msgspec.to_builtins(made.speed),
    }
    (folder / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    return folder / "report.html"


def _provenance(made: Made, place: Place, seconds: float) -> dict[str, Any]:
    """Where the model comes from, as plain values."""
    work, recipe = made.work, made.work.recipe
    return {
        "built": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "recipe_sha256": digest(place.recipe),
        "command": f"scanside-export build models/{recipe.id}/recipe.yaml",
        "seed": recipe.seed,
        "dataset": {
            "name": recipe.dataset.name,
            "licence": recipe.dataset.licence,
            "sha256": work.dataset.fingerprint,
            "splits": {name: _counts(work.dataset, name) for name in SPLITS},
        },
        "training": [_trained(task) for task in work.tasks],
        "tracing": {"opset": tracing.OPSET, "largest_difference_from_pytorch": made.parity},
        "quantization": {
            "onnxruntime": onnxruntime_int8.SCHEME,
            "openvino": openvino_int8.SCHEME,
            "calibrator": made.quantization.kept_calibrator,
            "left_in_float": list(made.quantization.left_in_float),
        },
        "latencies": msgspec.to_builtins(made.speed.latencies),
        "versions": versions(),
        "cpu": cpu(),
        "seconds": round(seconds),
    }


def _trained(task: training.Task) -> dict[str, Any]:
    history, how = training.history(task.folder), task.recipe.training
    best = min(training.eligible(how, history), key=lambda epoch: epoch.stressed.loss)
    return {
        "member": task.member.name,
        "architecture": task.member.architecture,
        "view": task.member.view,
        "start": task.member.start,
        "key": task.folder.name,
        "epochs": len(history),
        "quantized_epochs": how.quantized_epochs,
        "kept_epoch": best.number,
        "minutes": round(sum(epoch.seconds for epoch in history) / 60.0, 1),
    }


def _counts(data: Dataset, split: Split) -> dict[str, int]:
    chosen = data.indices(split)
    counted = Counter({"images": len(chosen), "patients": len({data.rows[index].patient for index in chosen})})
    if data.targets.shape[1]:
        counted["positives"] = int((data.targets[chosen].max(axis=1) > 0.5).sum())
    return dict(counted)
