"""How good the answers are: pure functions of scores, masks and labels, and the sections and plots that show them."""

from export.evaluation.calibration import Calibration, brier, calibrate, expected_calibration_error
from export.evaluation.figures import auroc, auroc_interval, clustered_interval, confusion, proportion_interval
from export.evaluation.findings import FindingFigures, Scored, figures_of
from export.evaluation.masks import dice, measure_masks
from export.evaluation.measure import EngineScores, measure
from export.evaluation.operating_points import choose_threshold, rule_in_words
from export.evaluation.subgroups import UNKNOWN, age_band

__all__ = [
    "UNKNOWN",
    "Calibration",
    "EngineScores",
    "FindingFigures",
    "Scored",
    "age_band",
    "auroc",
    "auroc_interval",
    "brier",
    "calibrate",
    "choose_threshold",
    "clustered_interval",
    "confusion",
    "dice",
    "expected_calibration_error",
    "figures_of",
    "measure",
    "measure_masks",
    "proportion_interval",
    "rule_in_words",
]
