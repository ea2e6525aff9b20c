"""The model card, generated from what was built and measured: Markdown for people, HTML with its plots inside."""

import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import msgspec
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

from edge.inference.bundle import Bundle, Interval, Measured, Threshold
from export.evaluation import roc_curve

_INK, _POSITIVE, _NEGATIVE = "#1f2933", "#b5541c", "#2b6cb0"
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1f2933}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccd;padding:.3rem .6rem;text-align:left}"
    "svg{max-width:100%;height:auto}"
)

_ETHICS = (
    "The answer is a flag for a technician, never a diagnosis, and never says that a patient is healthy: a "
    "person must read every image. The labels come from one hospital; sex and origin of the patients are "
    "not known, so fairness between groups could not be measured. The images were published under a "
    "licence that allows this use, and none of them is in this bundle: its golden inputs are synthetic."
)


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """One finding's test results, as the card draws them."""

    meaning: str
    engine: str
    probabilities: NDArray[np.float64]
    positive: NDArray[np.bool_]
    threshold: Threshold


class Table(msgspec.Struct, frozen=True):
    """Rows of text below a heading row."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(msgspec.Struct, frozen=True):
    """A heading with paragraphs, a list of points, and tables, in this order."""

    title: str
    paragraphs: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


def write_cards(folder: Path, bundle: Bundle, curves: Sequence[Curve], weak_spots: Sequence[str]) -> None:
    """Writes ``card.md`` and ``card.html`` (self-contained, plots as SVG, no patient's image)."""
    sections = _sections(bundle, weak_spots)
    title = f"{bundle.title} ({bundle.id} {bundle.version})"
    plots = [_plots(curve) for curve in curves]
    (folder / "card.md").write_text(_markdown(title, sections), encoding="utf-8")
    (folder / "card.html").write_text(_page(title, sections, plots), encoding="utf-8")


def _sections(bundle: Bundle, weak_spots: Sequence[str]) -> list[Section]:
    """After Mitchell et al., "Model Cards for Model Reporting" (FAT* 2019)."""
    made = bundle.provenance
    accepts = bundle.accepts
    return [
        Section(
            "Model details",
            (
                f"{made['training']['architecture']} for one grey channel, {bundle.input.height} x "
                f"{bundle.input.width} pixels, built {made['built']}, INT8 for ONNX Runtime and OpenVINO. One pass "
                "gives logits, class activation map and embedding.",
            ),
            (
                f"ONNX Runtime: {made['quantization']['onnxruntime']}",
                f"OpenVINO: {made['quantization']['openvino']}",
                "Versions: " + ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
                f"Built on: {made['cpu']}",
            ),
        ),
        Section(
            "Intended use",
            (bundle.intended_use, f"Not looked for: {bundle.not_looked_for}"),
            (
                f"Modalities {', '.join(accepts.modalities)}; body part {', '.join(accepts.body_parts)}; views "
                f"{', '.join(accepts.views)}; age from {accepts.age_years[0]:g} to below {accepts.age_years[1]:g} "
                "years. Other images are not analysed.",
            ),
        ),
        Section("Factors and weak spots", (), tuple(weak_spots)),
        Section("Metrics and operating point", _metrics_text(), (), (_thresholds(bundle),)),
        Section("Data", _data_text(made), (), (_splits(made["dataset"]["splits"]),)),
        Section("Results on the test split", (_results_text(bundle.measured),), (), (_results(bundle.measured),)),
        Section("Training history", (_training_text(made["training"]),), (), (_history(made["training"]["history"]),)),
        Section("Ethics", (_ETHICS,)),
        Section(
            "How to repeat it",
            (),
            (
                f"Build: {made['command']} (recipe SHA-256 {made['recipe_sha256'][:16]}..., seed {made['seed']}, data "
                f"SHA-256 {made['dataset']['sha256'][:16]}...)",
                f"Verify and print the figures: scanside-export inspect models/{bundle.id}/bundle",
            ),
        ),
    ]


def _metrics_text() -> tuple[str, ...]:
    return (
        "AUROC with DeLong's 95 % interval, sensitivity and specificity with Wilson's; ECE is the calibration error "
        "over ten bins. Only flagged images count as positive; indeterminate ones count as not flagged and their share "
        "is stated. Probabilities are calibrated on the validation split by temperature and bias, on the outputs of "
        "both INT8 engines together, and hold for its mix of cases. FP32 is the same network, its weights already "
        "rounded, computed in float by PyTorch.",
    )


def _data_text(made: dict[str, Any]) -> tuple[str, ...]:
    data = made["dataset"]
    return (
        f"{data['name']}; licence {data['licence']}. Split by patient and by content: no patient and no identical "
        "image stands in two splits. Training fits the weights; validation stops the training and sets calibration and "
        "threshold; calibration sets the ranges of the quantizers; test is used for the figures below only.",
    )


def _results_text(measured: Sequence[Measured]) -> str:
    first = measured[0]
    return (
        f"{first.images} images of {first.patients} patients that nothing else touched, {first.positives} of them "
        "positive. They come from the same source as the training images: elsewhere expect lower figures."
    )


def _training_text(made: dict[str, Any]) -> str:
    return (
        f"{made['epochs']} epochs in {made['minutes']} minutes, the last {made['quantized_epochs']} with the weights "
        f"rounded to the grid of the quantizers. Of these, epoch {made['kept_epoch']} was kept: the lowest loss on "
        "validation images under one fixed draw of the augmentation (stressed)."
    )


def _thresholds(bundle: Bundle) -> Table:
    rows = [
        (point.id, each.code, f"{each.indeterminate_from:.4f}", f"{each.flagged_from:.4f}", point.description)
        for point in bundle.operating_points
        for each in point.thresholds
    ]
    return Table(("Operating point", "Finding", "Indeterminate from", "Flagged from", "Rule"), tuple(rows))


def _splits(splits: dict[str, dict[str, int]]) -> Table:
    keys = ("images", "patients", "positives")
    rows = [(name, *(str(counts[key]) for key in keys)) for name, counts in splits.items()]
    return Table(("Split", "Images", "Patients", "Positive images"), tuple(rows))


def _results(measured: Sequence[Measured]) -> Table:
    heading = ("Finding", "Engine", "AUROC", "Sensitivity", "Specificity", "ECE", "Indeterminate", "Differ from FP32")
    rows = [
        (
            each.finding,
            f"{each.engine} {each.precision}",
            *(_figure(figure) for figure in (each.auroc, each.sensitivity, each.specificity)),
            f"{each.expected_calibration_error:.4f}",
            f"{each.indeterminate:.1%}",
            f"{each.flips_against_fp32} of {each.images}",
        )
        for each in measured
    ]
    return Table(heading, tuple(rows))


def _history(epochs: Sequence[dict[str, Any]]) -> Table:
    keys = ("training_loss", "validation_loss", "validation_auroc", "stressed_loss", "stressed_auroc")
    rows = [(str(epoch["number"]), *(f"{epoch[key]:.4f}" for key in keys)) for epoch in epochs]
    return Table(("Epoch", *(key.replace("_", " ") for key in keys)), tuple(rows))


def _figure(figure: Interval) -> str:
    return f"{figure.value:.4f} ({figure.low:.4f} to {figure.high:.4f})"


def _markdown(title: str, sections: Iterable[Section]) -> str:
    lines = [f"# {title}", "", "Plots of these results are in card.html.", ""]
    for section in sections:
        lines += [f"## {section.title}", ""]
        for paragraph in section.paragraphs:
            lines += [paragraph, ""]
        lines += [f"- {point}" for point in section.points] + [""] * bool(section.points)
        for table in section.tables:
            rows = (table.heading, ("---",) * len(table.heading), *table.rows)
            lines += [f"| {' | '.join(row)} |" for row in rows] + [""]
    return "\n".join(lines)


def _page(title: str, sections: Iterable[Section], plots: Sequence[str]) -> str:
    parts = [f"<h1>{html.escape(title)}</h1>"]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.title)}</h2>")
        parts += [f"<p>{html.escape(paragraph)}</p>" for paragraph in section.paragraphs]
        if section.points:
            parts.append(f"<ul>{''.join(f'<li>{html.escape(point)}</li>' for point in section.points)}</ul>")
        parts += [_html_table(table) for table in section.tables]
        if section.title.startswith("Results"):
            parts += plots
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.heading)
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def _plots(curve: Curve) -> str:
    """ROC, reliability and histogram as one inline SVG."""
    with mpl.rc_context({"svg.hashsalt": "scanside", "svg.fonttype": "none", "font.size": 9}):
        figure, (roc, reliability, histogram) = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
        figure.suptitle(f"{curve.meaning}, {curve.engine} INT8, test split")
        _draw_roc(roc, curve)
        _draw_reliability(reliability, curve)
        _draw_histogram(histogram, curve)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
        plt.close(figure)
    drawn = text.getvalue()
    return drawn[drawn.index("<svg") :]


def _draw_roc(axes: Axes, curve: Curve) -> None:
    false, true = roc_curve(curve.probabilities, curve.positive)
    flagged = curve.probabilities >= curve.threshold.flagged_from
    axes.plot(false, true, color=_INK)
    axes.plot(flagged[~curve.positive].mean(), flagged[curve.positive].mean(), "o", color=_POSITIVE)
    axes.set(title="ROC (dot: threshold)", xlabel="1 - specificity", ylabel="sensitivity")


def _draw_reliability(axes: Axes, curve: Curve) -> None:
    bins = np.minimum((curve.probabilities * 10).astype(int), 9)
    used = np.unique(bins)
    axes.plot([0, 1], [0, 1], color="#9aa5b1", linewidth=1)
    stated, observed = ([of[bins == b].mean() for b in used] for of in (curve.probabilities, curve.positive))
    axes.plot(stated, observed, "o-", color=_INK)
    axes.set(title="Reliability", xlabel="probability", ylabel="observed share", xlim=(0, 1), ylim=(0, 1.02))


def _draw_histogram(axes: Axes, curve: Curve) -> None:
    parts = [curve.probabilities[~curve.positive], curve.probabilities[curve.positive]]
    axes.hist(parts, bins=20, range=(0, 1), color=[_NEGATIVE, _POSITIVE], label=["absent", "present"], log=True)
    axes.axvspan(curve.threshold.indeterminate_from, curve.threshold.flagged_from, color="#f0d98c")
    axes.axvline(curve.threshold.flagged_from, color=_INK, linewidth=1)
    axes.set(title="Probabilities (band: indeterminate)", xlabel="probability", ylabel="images")
    axes.legend()
