"""Figures as sections of a card or report."""

from collections.abc import Iterable, Sequence

from edge.inference.bundle import Interval, MeasuredMask
from export.document import Section, Table
from export.evaluation.findings import FindingFigures, PointFigures
from export.evaluation.localisation import Localisation
from export.evaluation.operating_points import Cutoff, thinned
from export.evaluation.subgroups import FEW, FEWEST, SubgroupFigures, worst

_ROWS = 21

METRICS = (
    "Only flagged images count as positive; indeterminate ones count as not flagged, and their share is stated.",
    "AUROC has DeLong's 95 % interval, shares (sensitivity, specificity, rates) Wilson's; both take each image as if "
    "it came from another patient. Figures by patient come from a bootstrap of whole patients (percentiles). Where a "
    "share is exactly 0 or 1 the bootstrap has no width: read Wilson's there.",
    "PPV, NPV and alerts per 100 images are computed for the stated prevalence, not that of the data (interval: "
    "Mercaldo et al. 2007).",
    "ECE is the gap between probability and observed share over ten bins, of equal width or (adaptive) of equal "
    "counts; chance alone keeps it above 0, in a bootstrap's draws more than in the data, so its interval errs "
    "upwards. Brier is the mean squared gap.",
    f"A group with fewer than {FEWEST} positives gets no sensitivity, one with fewer than {FEW} a warning.",
)
"""What the figures mean, for whoever reads them."""


def shown(figure: Interval | None, places: int = 3) -> str:
    """A figure with its interval, or a dash where there is none, or no cases for one."""
    if figure is None or figure.method.startswith("none"):
        return "-"
    return f"{figure.value:.{places}f} ({figure.low:.{places}f} to {figure.high:.{places}f})"


def finding_section(figures: FindingFigures, plots: Sequence[str] = ()) -> Section:
    """One finding and engine: summary, operating points, calibration, cut-offs (thinned), subgroups, coverage."""
    return Section(
        f"{figures.meaning}, {figures.engine} {figures.precision}",
        (
            f"{figures.images} images of {figures.patients} patients, {figures.positives} of them with the finding. "
            f"Predictive values and alerts are for a prevalence of {figures.prevalence:.1%}.",
        ),
        (
            f"AUROC {shown(figures.auroc, 4)}; by patient {shown(figures.auroc_by_patient, 4)}",
            f"ECE {shown(figures.calibration_error, 4)}; adaptive {shown(figures.adaptive_calibration_error, 4)}; "
            f"Brier {shown(figures.brier, 4)}",
            *_worst_in_words(figures.subgroups),
        ),
        (
            _points(figures.points),
            _confusions(figures.points),
            _cutoffs(thinned(figures.cutoffs, _ROWS)),
            *_subgroups(figures.subgroups),
            _coverage(figures),
        ),
        tuple(plots),
    )


def mask_section(measured: Iterable[MeasuredMask], plots: Sequence[str] = ()) -> Section:
    """Dice of each engine and precision."""
    rows = tuple(
        (f"{each.engine} {each.precision}", str(each.images), str(each.patients), shown(each.dice, 4))
        for each in measured
    )
    table = Table(("Engine", "Images", "Patients", "Dice (mean; bootstrap by patient)"), rows)
    return Section("Outlines", (), (), (table,), tuple(plots))


def localisation_section(rows: Iterable[tuple[str, Localisation]]) -> Section:
    """Where the explanations point, by engine."""
    table = Table(
        ("Engine", "Regions", "Images", "Maximum inside", "Half of the box inside", "No box", "By chance"),
        tuple(
            (
                engine,
                each.region,
                str(each.images),
                shown(each.peaks),
                shown(each.boxes),
                str(each.without_box),
                f"{each.chance:.3f}",
            )
            for engine, each in rows
        ),
    )
    return Section(
        "Where the explanations point",
        (
            "Of the images with the finding that were flagged or indeterminate. A point placed at random hits as often "
            "as the last column says: regions as large as the lungs are easily hit.",
        ),
        (),
        (table,),
    )


def _points(points: Iterable[PointFigures]) -> Table:
    heading = (
        "Operating point",
        "Sensitivity",
        "by patient",
        "Specificity",
        "by patient",
        "PPV",
        "NPV",
        "Alerts per 100",
    )
    rows = [
        (
            each.name,
            shown(each.row.sensitivity),
            shown(each.sensitivity_by_patient),
            shown(each.row.specificity),
            shown(each.specificity_by_patient),
            shown(each.row.ppv),
            shown(each.row.npv),
            _alerts(each.row),
        )
        for each in points
    ]
    return Table(heading, tuple(rows))


def _confusions(points: Iterable[PointFigures]) -> Table:
    heading = ("Operating point", "Flagged from", "Indeterminate from", "TP", "FP", "TN", "FN", "Indeterminate")
    rows = [
        (
            each.name,
            f"{each.row.flagged_from:.4f}",
            f"{each.indeterminate_from:.4f}",
            *_counts(each.row),
            shown(each.indeterminate),
        )
        for each in points
    ]
    return Table(heading, tuple(rows))


def _cutoffs(table: Iterable[Cutoff]) -> Table:
    heading = ("Cut-off", "TP", "FP", "TN", "FN", "Sensitivity", "Specificity", "PPV", "NPV", "Alerts per 100")
    rows = [
        (
            f"{each.flagged_from:.6g}",
            *_counts(each),
            *(shown(figure) for figure in (each.sensitivity, each.specificity, each.ppv, each.npv)),
            _alerts(each),
        )
        for each in table
    ]
    return Table(heading, tuple(rows))


def _alerts(row: Cutoff) -> str:
    return "-" if shown(row.ppv) == "-" else f"{row.alerts_per_100:.1f}"


def _counts(row: Cutoff) -> tuple[str, str, str, str]:
    counts = row.counts
    return (
        str(counts.true_positives),
        str(counts.false_positives),
        str(counts.true_negatives),
        str(counts.false_negatives),
    )


def _subgroups(rows: Sequence[SubgroupFigures]) -> tuple[Table, ...]:
    if not rows:
        return ()
    heading = ("Group", "Images", "Patients", "Positives", "AUROC", "Sensitivity", "Specificity", "Mind")
    cells = [
        (
            f"{each.attribute}: {each.group}",
            str(each.images),
            str(each.patients),
            str(each.positives),
            shown(each.auroc),
            shown(each.sensitivity),
            shown(each.specificity),
            each.warning,
        )
        for each in rows
    ]
    return (Table(heading, tuple(cells)),)


def _worst_in_words(rows: Sequence[SubgroupFigures]) -> tuple[str, ...]:
    found = worst(rows)
    if found is None:
        return ("No groups to compare: sex, age, view and source are unknown or all alike, or the positives too few.",)
    return (
        f"Lowest sensitivity of a group: {found.attribute} {found.group}, {shown(found.sensitivity)} of "
        f"{found.positives} positives ({found.patients} patients)",
    )


def _coverage(figures: FindingFigures) -> Table:
    rows = [
        (f"{each.coverage:.1%}", str(each.images), str(each.errors), f"{each.risk:.4f}")
        for each in figures.risk_coverage
    ]
    return Table(("Answered, surest first", "Images", "Wrong", "Risk"), tuple(rows))
