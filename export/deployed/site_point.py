"""A site's own operating point: chosen on one half of its patients, measured on the other."""

import datetime
import getpass
import hashlib
from collections.abc import Sequence

import msgspec
import numpy as np
import yaml
from numpy.typing import NDArray

from edge.errors import ScansideError
from edge.inference.bundle import Interval, SealedBundle, Threshold
from export.document import Section, Table
from export.evaluation.figures import Confusion, Labels, confusion, proportion_interval
from export.evaluation.operating_points import choose_threshold, rule_in_words
from export.evaluation.sections import shown
from export.recipe import OperatingPointRecipe

_FEWEST = 10


class SitePointError(ScansideError):
    """A site's data cannot carry an operating point; the message is one line."""


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """What the engines said about the images that all of them analysed."""

    patients: tuple[str, ...]
    """[N]"""
    positive: NDArray[np.bool_]
    """[N, K]"""
    probabilities: dict[str, NDArray[np.float64]]
    """By engine, [N, K]."""


class Half(msgspec.Struct, frozen=True, kw_only=True):
    """One half of the patients."""

    images: int
    patients: int
    positives: int


class SiteFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the point gives on the half that it was not chosen on."""

    code: str
    engine: str
    counts: Confusion
    sensitivity: Interval
    specificity: Interval
    indeterminate: Interval


class SitePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The stored object: which model, which threshold, who, when, on what, and what it gives."""

    id: str
    description: str
    thresholds: tuple[Threshold, ...]
    model: dict[str, str]
    chosen_by: str
    chosen_at: str
    approved_by: str | None = None
    """For name and role of the clinician who answers for it."""
    dataset: dict[str, str]
    chosen_on: Half
    reported_on: Half
    figures: tuple[SiteFigures, ...]


def choose_site_point(
    rule: OperatingPointRecipe,
    indeterminate_share: float,
    sealed: SealedBundle,
    scores: Scores,
    dataset: dict[str, str],
) -> SitePoint:
    """Chooses thresholds by ``rule`` for all engines together.

    The halves are drawn from the patients' names and the data set's hash: the same data give the same halves, and
    patients with and without the finding are halved apart.

    Raises:
        SitePointError: Fewer than ten images of a class in one of the halves.
        OperatingPointError: No threshold keeps the rule.
    """
    first = halves(scores.patients, np.asarray(scores.positive.any(axis=1)), dataset["sha256"])
    for half in (first, ~first):
        for column, spec in enumerate(sealed.bundle.findings):
            positives = int(scores.positive[half, column].sum())
            fewest = min(positives, int(half.sum()) - positives)
            if fewest < _FEWEST:
                raise SitePointError(
                    f"--choose {rule.name}: {fewest} images with or without {spec.meaning!r} in one half of the "
                    f"patients; each half needs {_FEWEST} of both: give more images"
                )
    thresholds = []
    for column, spec in enumerate(sealed.bundle.findings):
        pooled = np.concatenate([each[first, column] for each in scores.probabilities.values()])
        positive = np.tile(scores.positive[first, column], len(scores.probabilities))
        thresholds.append(choose_threshold(spec.code, pooled, positive, rule, indeterminate_share))
    bundle = sealed.bundle
    return SitePoint(
        id=rule.name,
        description=rule_in_words(rule, indeterminate_share),
        thresholds=tuple(thresholds),
        model={"id": bundle.id, "version": bundle.version, "digest": sealed.digest},
        chosen_by=getpass.getuser(),
        chosen_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        dataset=dataset,
        chosen_on=_half(scores, first),
        reported_on=_half(scores, ~first),
        figures=tuple(
            _figures(threshold, engine, each[~first, column], scores.positive[~first, column])
            for column, threshold in enumerate(thresholds)
            for engine, each in scores.probabilities.items()
        ),
    )


def halves(patients: Sequence[str], positive: Labels, salt: str) -> Labels:
    """True for the images of the half to choose on; a patient is never in both."""
    with_finding = {patient for patient, present in zip(patients, positive, strict=True) if present}
    chosen: set[str] = set()
    for stratum in (with_finding, set(patients) - with_finding):
        ordered = sorted(stratum, key=lambda patient: hashlib.sha256(f"{salt}:{patient}".encode()).digest())
        chosen |= set(ordered[::2])
    return np.array([patient in chosen for patient in patients], dtype=bool)


def snippet(point: SitePoint) -> str:
    """The point as YAML."""
    head = (
        f"# Operating point {point.id!r} for model {point.model['id']} {point.model['version']}, and for no other.\n"
        f"# Chosen on {point.chosen_on.images} images, measured on {point.reported_on.images} others of other patients."
        "\n# To be approved by a clinician of the site; choose again when the model, the detector or the patients "
        "change.\n"
    )
    return head + yaml.safe_dump({"operating_point": msgspec.to_builtins(point)}, sort_keys=False, allow_unicode=True)


def site_point_section(point: SitePoint) -> Section:
    """The point in words."""
    rows = [
        (
            f"{each.code} {each.engine}",
            f"{each.counts.true_positives}",
            f"{each.counts.false_positives}",
            f"{each.counts.true_negatives}",
            f"{each.counts.false_negatives}",
            shown(each.sensitivity),
            shown(each.specificity),
            shown(each.indeterminate),
        )
        for each in point.figures
    ]
    heading = ("Finding, engine", "TP", "FP", "TN", "FN", "Sensitivity", "Specificity", "Indeterminate")
    chosen, reported = point.chosen_on, point.reported_on
    return Section(
        f"The site's operating point {point.id}",
        (
            f"{point.description}. Chosen on {chosen.images} images of {chosen.patients} patients ({chosen.positives} "
            f"positive); the figures are of the other half, {reported.images} images of {reported.patients} patients "
            f"({reported.positives} positive), and of no image that it was chosen on.",
        ),
        tuple(
            f"{each.code}: flagged from {each.flagged_from:g}, indeterminate from {each.indeterminate_from:g}"
            for each in point.thresholds
        ),
        (Table(heading, tuple(rows)),),
    )


def _half(scores: Scores, half: Labels) -> Half:
    patients = {patient for patient, inside in zip(scores.patients, half, strict=True) if inside}
    return Half(images=int(half.sum()), patients=len(patients), positives=int(scores.positive[half].any(axis=1).sum()))


def _figures(threshold: Threshold, engine: str, probabilities: NDArray[np.float64], positive: Labels) -> SiteFigures:
    flagged = probabilities >= threshold.flagged_from
    banded = (probabilities >= threshold.indeterminate_from) & ~flagged
    counts = confusion(flagged, positive)
    return SiteFigures(
        code=threshold.code,
        engine=engine,
        counts=counts,
        sensitivity=counts.sensitivity,
        specificity=counts.specificity,
        indeterminate=proportion_interval(int(banded.sum()), len(banded)),
    )
