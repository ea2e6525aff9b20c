"""Cut-offs, groups, coverage, explanations and masks: the tables of a report, by hand."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest

from edge.inference.bundle import Threshold
from export import evaluation
from export.document import markdown
from export.evaluation.abstention import risk_coverage
from export.evaluation.findings import FindingFigures, Scored
from export.evaluation.localisation import localise, point
from export.evaluation.operating_points import cutoffs, thinned
from export.evaluation.plots import finding_plots
from export.evaluation.sections import finding_section
from export.evaluation.subgroups import age_band, subgroups, worst

POSITIVE = np.array([False, False, True, True])


def test_each_cutoff_counts_what_it_flags() -> None:
    table = cutoffs(np.array([0.1, 0.4, 0.35, 0.8]), POSITIVE, 0.5)
    rows = [(each.flagged_from, *msgspec.structs.astuple(each.counts)) for each in table]
    # true positives, false positives, true negatives, false negatives
    assert rows == [(0.1, 2, 2, 0, 0), (0.35, 2, 1, 1, 0), (0.4, 1, 1, 1, 1), (0.8, 1, 0, 2, 1)]


def test_a_thinned_table_keeps_its_ends() -> None:
    random = np.random.default_rng(0)
    table = cutoffs(random.random(500), random.random(500) < 0.5, 0.1)
    few = thinned(table, 20)
    assert len(few) <= 20
    assert (few[0], few[-1]) == (table[0], table[-1])


@pytest.mark.parametrize(
    ("years", "band"),
    [
        (None, "unknown"),
        (0.5, "below 1"),
        (1, "1 to 5"),
        (5.9, "1 to 5"),
        (6, "6 to 14"),
        (64.9, "40 to 64"),
        (65, "65 and more"),
    ],
)
def test_age_bands(years: float | None, band: str) -> None:
    assert age_band(years) == band


def _groups(positives: dict[str, int], hits: dict[str, int]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Each group with so many positives, so many of them flagged, and 60 negatives below all."""
    flagged, positive, groups = [], [], []
    for name, count in positives.items():
        flagged += [number < hits[name] for number in range(count)] + [False] * 60
        positive += [True] * count + [False] * 60
        groups += [name] * (count + 60)
    return np.array(flagged), np.array(positive), groups


def test_the_worst_group_is_named_and_small_groups_get_no_figure() -> None:
    flagged, positive, sex = _groups({"F": 20, "M": 100, "O": 9}, {"F": 15, "M": 90, "O": 0})
    patients = [str(number // 2) for number in range(len(sex))]
    rows = subgroups(flagged.astype(float), positive, flagged, patients, {"sex": sex, "age": ["unknown"] * len(sex)})
    by_name = {row.group: row for row in rows}
    assert set(by_name) == {"F", "M", "O"}
    assert by_name["O"].sensitivity is None
    assert "9 positives: too few" in by_name["O"].warning
    assert "20 positives: wide interval" in by_name["F"].warning
    assert by_name["M"].warning == ""
    lowest = worst(rows)
    assert lowest is not None
    assert lowest.sensitivity is not None
    assert (lowest.group, lowest.sensitivity.value, lowest.patients) == ("F", 0.75, 40)


def test_risk_falls_where_the_errors_lie_near_the_threshold() -> None:
    probabilities = np.linspace(0.01, 0.99, 100)
    positive = probabilities >= 0.5
    positive[[48, 49]] = True  # just below the threshold, and wrong
    curve = risk_coverage(probabilities, positive, 0.5)
    assert (curve[0].coverage, curve[0].errors, curve[0].risk) == (1.0, 2, 0.02)
    assert curve[-1].risk == 0.0


def test_explanations_against_regions_by_hand() -> None:
    cam = np.full((7, 7), -1.0, dtype=np.float32)
    cam[5, 1] = 3.0  # low on the left
    region = np.zeros((70, 140), dtype=bool)
    region[35:, :70] = True
    hit = point(cam, (10, 40, 40, 70), region)
    assert (hit.peak, hit.box, hit.area) == (True, True, 0.25)
    outside = point(cam[::-1].copy(), (80, 0, 100, 20), region)
    assert (outside.peak, outside.box) == (False, False)
    found = localise([hit, outside, point(cam, None, region)], "reference boxes")
    assert found.peaks.value == pytest.approx(2 / 3)
    assert (found.boxes.value, found.without_box) == (0.5, 1)
    assert found.chance == 0.25


def test_dice_by_hand() -> None:
    masks = np.zeros((3, 4, 4))
    masks[0, :2] = 0.9
    masks[1, 0, 0] = 0.5
    reference = np.zeros((3, 4, 4), dtype=np.uint8)
    reference[0, 1:3] = 1
    assert list(evaluation.dice(masks, reference)) == [0.5, 0.0, 1.0]
    measured = evaluation.measure_masks(
        np.array([0.9, 0.94, 0.98]), ["a", "a", "b"], engine="openvino", precision="int8", dataset="made", split="test"
    )
    assert measured.dice.value == pytest.approx(0.94)
    assert (measured.images, measured.patients) == (3, 2)
    assert (measured.dice.low, measured.dice.high) == pytest.approx((0.92, 0.98))


@pytest.fixture(scope="module")
def scored() -> Scored:
    random = np.random.default_rng(5)
    positive = random.random(240) < 0.4
    logits = random.normal(3.0 * positive - 1.5, 1.3)
    return Scored(
        code="1",
        meaning="Pneumonia",
        engine="openvino",
        precision="int8",
        probabilities=1.0 / (1.0 + np.exp(-logits)),
        positive=positive,
        patients=tuple(str(number // 2) for number in range(240)),
        groups={"sex": ["F", "M"] * 120, "view": ["unknown"] * 240},
        thresholds={
            "balanced": Threshold(code="1", indeterminate_from=0.4, flagged_from=0.5),
            "high_specificity": Threshold(code="1", indeterminate_from=0.8, flagged_from=0.9),
        },
        prevalence=0.1,
    )


@pytest.fixture(scope="module")
def figures(scored: Scored) -> FindingFigures:
    return evaluation.figures_of(scored)


def test_the_figures_of_a_finding_belong_together(scored: Scored, figures: FindingFigures) -> None:
    assert figures == evaluation.figures_of(scored)
    assert figures == msgspec.json.decode(msgspec.json.encode(figures), type=FindingFigures)
    balanced, specific = figures.points
    flagged = scored.probabilities >= 0.5
    assert balanced.row.counts == evaluation.confusion(flagged, scored.positive)
    assert balanced.row.sensitivity.value > specific.row.sensitivity.value
    assert balanced.sensitivity_by_patient is not None
    assert balanced.sensitivity_by_patient.value == balanced.row.sensitivity.value
    assert balanced.indeterminate.value == ((scored.probabilities >= 0.4) & ~flagged).mean()
    assert sum(each.images for each in figures.reliability) == 240
    assert figures.auroc is not None
    assert figures.auroc_by_patient is not None
    assert figures.auroc_by_patient.low < figures.auroc.value < figures.auroc_by_patient.high


def test_the_section_prints_the_figures(figures: FindingFigures) -> None:
    text = markdown("x", [finding_section(figures)])
    assert figures.auroc is not None
    assert f"AUROC {figures.auroc.value:.4f} ({figures.auroc.low:.4f} to {figures.auroc.high:.4f})" in text
    assert "prevalence of 10.0%" in text
    assert re.search(r"\| balanced \| 0\.5000 \| 0\.4000 \|", text)
    assert "sex: F" in text
    assert "view:" not in text


def test_plots_are_whole_pictures_without_date_or_reference(scored: Scored, figures: FindingFigures) -> None:
    plots = finding_plots(scored, figures)
    assert plots == finding_plots(scored, figures)
    for plot in plots:
        root = ElementTree.fromstring(plot)
        assert root.tag.endswith("svg")
        links = [value for node in root.iter() for name, value in node.attrib.items() if name.endswith("href")]
        assert all(link.startswith("#") for link in links)
        assert "date" not in plot.lower()
