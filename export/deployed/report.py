"""An evaluation as sections."""

from collections.abc import Mapping, Sequence

from edge.inference.bundle import Bundle
from edge.records import REASON_WORDS, Reason
from export.deployed.record import EngineFigures, Evaluation
from export.deployed.site_point import site_point_section
from export.document import Section, Table
from export.evaluation.sections import METRICS, finding_section, localisation_section, mask_section, shown

Plots = Mapping[str, Sequence[Sequence[str]]]
"""By engine, the plots of each finding, or of the masks."""


def sections_of(evaluation: Evaluation, bundle: Bundle, plots: Plots) -> list[Section]:
    """What was evaluated, who got no answer, the figures of each engine and finding, the site's points."""
    found = [_what(evaluation, bundle), _unanswered(evaluation)]
    if bundle.findings:
        found.append(Section("Metrics", METRICS))
    for engine in evaluation.engines:
        found += [
            finding_section(figures, of_finding)
            for figures, of_finding in zip(engine.findings, plots[engine.engine], strict=False)
        ]
    masks = [engine.masks for engine in evaluation.engines if engine.masks]
    if masks:
        found.append(mask_section(masks, [plot for each in plots.values() for of_masks in each for plot in of_masks]))
    pointed = [(engine.engine, engine.localisation) for engine in evaluation.engines if engine.localisation]
    if pointed:
        found.append(localisation_section(pointed))
    found += [site_point_section(point) for point in evaluation.site_points]
    return found


def _what(evaluation: Evaluation, bundle: Bundle) -> Section:
    model, dataset = evaluation.model, evaluation.dataset
    points = [
        f"Model {model['id']} {model['version']}, {model['digest']}, run as the device runs it: verified bundle, "
        "self-tested engines, the pipeline from the file's bytes to the answer",
        f"Data: {dataset['name']}, {dataset['part']}: {evaluation.images} images of {evaluation.patients} patients, "
        f"{dataset['sha256']}",
        f"Date: {evaluation.date}. Print it again: `{evaluation.command}`",
    ]
    if evaluation.disagreements is not None:
        points.append(f"The engines decide differently on {evaluation.disagreements} of {evaluation.images} images")
    paragraphs = [bundle.intended_use, f"Not looked for: {bundle.not_looked_for}"]
    if evaluation.experimental:
        paragraphs.insert(0, "EXPERIMENTAL: measured on too little to rely on.")
    return Section("What was evaluated", tuple(paragraphs), tuple(points))


def _unanswered(evaluation: Evaluation) -> Section:
    heading = ("Engine", "Not analysed", "Indeterminate", "Sensitivity, all images", "Milliseconds (p50, p95, p99)")
    reasons = [
        (engine.engine, REASON_WORDS[Reason(each.reason)], str(each.images), str(each.positives))
        for engine in evaluation.engines
        for each in engine.reasons
    ]
    tables = [Table(heading, tuple(_row(engine) for engine in evaluation.engines))]
    if reasons:
        tables.append(Table(("Engine", "Reason", "Images", "With the finding"), tuple(reasons)))
    return Section(
        "Abstention",
        (
            'Images that get a reason instead of an answer are in no figure below, but for the column "all images", '
            "where they count as not flagged. Images without tags were given the modality DX and, where the list "
            "states no age, one that the model accepts.",
        ),
        (),
        tuple(tables),
    )


def _row(engine: EngineFigures) -> tuple[str, ...]:
    times = engine.latency_ms
    return (
        f"{engine.engine} {engine.precision}",
        shown(engine.not_analysed),
        shown(engine.indeterminate),
        "; ".join(shown(figure) for figure in engine.sensitivity_of_all) or "-",
        f"{times.p50}, {times.p95}, {times.p99}" if times else "-",
    )
