"""The figures of an evaluation as plots."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from export.drawing import svg
from export.evaluation.figures import roc_curve
from export.evaluation.findings import FindingFigures, Scored
from export.evaluation.sections import shown

_INK, _POSITIVE, _NEGATIVE, _PALE, _BAND = "#1f2933", "#b5541c", "#2b6cb0", "#9aa5b1", "#f0d98c"


def finding_plots(scored: Scored, figures: FindingFigures) -> tuple[str, ...]:
    """ROC with its operating points and reliability; histogram with the band and risk-coverage."""
    title = f"{figures.meaning}, {figures.engine} {figures.precision}"
    return (
        svg(title, (lambda axes: _draw_roc(axes, scored, figures), lambda axes: _draw_reliability(axes, figures))),
        svg(title, (lambda axes: _draw_histogram(axes, scored), lambda axes: _draw_risk(axes, figures))),
    )


def dice_plot(values: Sequence[float], title: str) -> str:
    """How the Dice of the single images is spread."""
    return svg(title, (lambda axes: _draw_dice(axes, values),))


def _draw_roc(axes: Axes, scored: Scored, figures: FindingFigures) -> None:
    false, true = roc_curve(scored.probabilities, scored.positive)
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1)
    axes.plot(false, true, color=_INK)
    for point, marker in zip(figures.points, "os^Dvp*" * len(figures.points), strict=False):
        row = point.row
        axes.plot(1.0 - row.specificity.value, row.sensitivity.value, marker, color=_POSITIVE, label=point.name)
    axes.set(title=f"ROC, AUROC {shown(figures.auroc)}", xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right")


def _draw_reliability(axes: Axes, figures: FindingFigures) -> None:
    bins = figures.reliability
    stated, observed = np.array([each.stated for each in bins]), np.array([each.observed.value for each in bins])
    limits = np.array([(each.observed.low, each.observed.high) for each in bins]).T
    axes.plot([0, 1], [0, 1], color=_PALE, linewidth=1)
    axes.errorbar(stated, observed, yerr=np.abs(limits - observed), fmt="o", color=_INK, capsize=2)
    for each in bins:
        axes.annotate(f"{each.images}", (each.stated, each.observed.value), textcoords="offset points", xytext=(5, -9))
    axes.set(title="Reliability (number: images)", xlabel="probability", ylabel="observed share")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def _draw_histogram(axes: Axes, scored: Scored) -> None:
    name, threshold = next(iter(scored.thresholds.items()))
    parts = [scored.probabilities[~scored.positive], scored.probabilities[scored.positive]]
    axes.hist(parts, bins=20, range=(0, 1), color=[_NEGATIVE, _POSITIVE], label=["absent", "present"], log=True)
    axes.axvspan(threshold.indeterminate_from, threshold.flagged_from, color=_BAND)
    axes.axvline(threshold.flagged_from, color=_INK, linewidth=1)
    axes.set(title=f"Probabilities (line and band: {name})", xlabel="probability", ylabel="images")
    axes.legend()


def _draw_risk(axes: Axes, figures: FindingFigures) -> None:
    curve = figures.risk_coverage
    axes.plot([each.coverage for each in curve], [each.risk for each in curve], "o-", color=_INK)
    axes.set(title="Risk and coverage", xlabel="share of images answered, surest first", ylabel="wrong scored")
    axes.set(ylim=(0, None))


def _draw_dice(axes: Axes, values: Sequence[float]) -> None:
    axes.hist(values, bins=25, color=_NEGATIVE)
    axes.set(title="Dice of the single images", xlabel="Dice", ylabel="images")
