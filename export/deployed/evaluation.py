"""The whole evaluation: images, the answers of each engine, figures, reports."""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
import numpy as np

from edge.errors import UsageError
from edge.inference.bundle import Bundle, Interval, MeasuredMask, SealedBundle
from export.datasets.preparation import write_whole
from export.deployed.answers import Answer, ask, open_model
from export.deployed.cases import Cases, find_cases
from export.deployed.record import EngineFigures, Evaluation, Latency, NotAnalysed
from export.deployed.report import sections_of
from export.deployed.site_point import Scores, SitePoint, choose_site_point, snippet
from export.deployed.wanted import Wanted
from export.document import Section, markdown, page
from export.evaluation.figures import proportion_interval
from export.evaluation.findings import Scored, figures_of
from export.evaluation.localisation import localise
from export.evaluation.masks import measure_masks
from export.evaluation.plots import dice_plot, finding_plots
from export.evaluation.subgroups import UNKNOWN, age_band
from export.recipe import OperatingPointRecipe
from export.steps import Report


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What ``scanside-export evaluate`` was asked for.

    Attributes:
        bundle: The sealed bundle's folder.
        wanted: Which images.
        engines: On which engines.
        out: Where evaluation.json, evaluation.md and evaluation.html go.
        choose: Rules of a site's own operating points.
        command: How to do this again, for the report.
    """

    bundle: Path
    trusted_keys: Path
    wanted: Wanted
    engines: tuple[str, ...]
    out: Path
    cache: Path
    choose: tuple[OperatingPointRecipe, ...] = ()
    indeterminate_share: float = 0.025
    command: str


def evaluate(asked: Asked, report: Report) -> Evaluation:
    """Runs the bundle on each engine through the device's pipeline and writes the reports.

    Raises:
        BundleError, EngineError: The device would not serve the bundle.
        DatasetError, UsageError: The images or their truth cannot be read, or do not fit the bundle.
        SitePointError, OperatingPointError: The data cannot carry an operating point.
    """
    models = [open_model(asked.bundle, engine, asked.trusted_keys, asked.cache) for engine in asked.engines]
    sealed = models[0].sealed
    cases = find_cases(asked.wanted, asked.bundle, sealed.bundle, asked.cache, report)
    report(f"data: {len(cases.cases)} images of {cases.name}, {cases.part}")
    answers = {model.engine.name: ask(model, cases.cases, cases.mask_value, report) for model in models}
    report("figures: intervals by drawing patients")
    dataset = {"name": cases.name, "part": cases.part, "sha256": cases.fingerprint()}
    scored = {engine: scored_of(sealed.bundle, cases, engine, given) for engine, given in answers.items()}
    evaluation = Evaluation(
        model={"id": sealed.bundle.id, "version": sealed.bundle.version, "digest": sealed.digest},
        experimental=sealed.bundle.experimental,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command=asked.command,
        dataset=dataset,
        images=len(cases.cases),
        patients=len({answer.patient for given in answers.values() for answer in given}),
        engines=tuple(_figures(sealed.bundle, cases, given, scored[engine]) for engine, given in answers.items()),
        disagreements=_disagreements(sealed.bundle, answers),
        site_points=_site_points(asked, sealed, cases, answers, dataset),
    )
    title = f"{sealed.bundle.title} ({sealed.bundle.id} {sealed.bundle.version}), evaluated"
    _write(asked.out, title, evaluation, sections_of(evaluation, sealed.bundle, _plots(evaluation, scored, answers)))
    return evaluation


def scored_of(bundle: Bundle, cases: Cases, engine: str, answers: Sequence[Answer]) -> tuple[Scored, ...]:
    """By finding, the images that the engine analysed; none when it analysed none."""
    analysed = [number for number, answer in enumerate(answers) if answer.probabilities]
    if not analysed:
        return ()
    given = [answers[number] for number in analysed]
    points = sorted(bundle.operating_points, key=lambda point: point.id != bundle.default_operating_point)
    return tuple(
        Scored(
            code=spec.code,
            meaning=spec.meaning,
            engine=engine,
            precision=bundle.precision,
            probabilities=np.array([answer.probabilities[column] for answer in given]),
            positive=np.array([cases.cases[number].positive[column] for number in analysed]),
            patients=tuple(answer.patient for answer in given),
            groups={
                "sex": [answer.sex or UNKNOWN for answer in given],
                "age": [age_band(answer.age_years) for answer in given],
                "view": [answer.view or UNKNOWN for answer in given],
                "source": [answer.source or UNKNOWN for answer in given],
            },
            thresholds={
                point.id: threshold for point in points for threshold in point.thresholds if threshold.code == spec.code
            },
            prevalence=cases.prevalence,
        )
        for column, spec in enumerate(bundle.findings)
    )


def _figures(bundle: Bundle, cases: Cases, answers: Sequence[Answer], scored: Sequence[Scored]) -> EngineFigures:
    refused = sum(answer.reason is not None for answer in answers)
    pointed = [each for answer in answers for each in answer.pointed if each is not None]
    region = "reference boxes" if any(case.boxes for case in cases.cases) else "masks"
    outlined = [answer for answer in answers if answer.dice is not None]
    times = [answer.milliseconds for answer in answers if answer.reason is None]
    return EngineFigures(
        engine=answers[0].engine,
        precision=bundle.precision,
        images=len(answers),
        not_analysed=proportion_interval(refused, len(answers)),
        reasons=_reasons(cases, answers),
        indeterminate=proportion_interval(sum(answer.indeterminate for answer in answers), len(answers)),
        sensitivity_of_all=tuple(_sensitivity_of_all(cases, each, column) for column, each in enumerate(scored)),
        findings=tuple(figures_of(each) for each in scored),
        localisation=localise(pointed, region) if pointed else None,
        masks=_masks(bundle, cases, outlined) if outlined else None,
        latency_ms=Latency(**{f"p{share}": round(float(np.percentile(times, share)), 2) for share in (50, 95, 99)})
        if times
        else None,
    )


def _masks(bundle: Bundle, cases: Cases, outlined: Sequence[Answer]) -> MeasuredMask:
    return measure_masks(
        np.array([answer.dice for answer in outlined], dtype=np.float64),
        [answer.patient for answer in outlined],
        engine=outlined[0].engine,
        precision=bundle.precision,
        dataset=cases.name,
        split=cases.split,
    )


def _reasons(cases: Cases, answers: Sequence[Answer]) -> tuple[NotAnalysed, ...]:
    counts: Counter[str] = Counter()
    positives: Counter[str] = Counter()
    for case, answer in zip(cases.cases, answers, strict=True):
        if answer.reason:
            counts[answer.reason.value] += 1
            positives[answer.reason.value] += any(case.positive)
    return tuple(
        NotAnalysed(reason=reason, images=count, positives=positives[reason]) for reason, count in counts.most_common()
    )


def _sensitivity_of_all(cases: Cases, scored: Scored, column: int) -> Interval:
    threshold = next(iter(scored.thresholds.values()))
    flagged = int((scored.positive & (scored.probabilities >= threshold.flagged_from)).sum())
    return proportion_interval(flagged, sum(case.positive[column] for case in cases.cases))


def _disagreements(bundle: Bundle, answers: Mapping[str, Sequence[Answer]]) -> int | None:
    """How many images get another decision from one engine than from the other."""
    if len(answers) < 2 or not bundle.findings:
        return None
    thresholds = {each.code: each.flagged_from for each in bundle.operating_point().thresholds}

    def decision(answer: Answer) -> tuple[object, ...]:
        flagged = (
            probability >= thresholds[spec.code]
            for probability, spec in zip(answer.probabilities, bundle.findings, strict=False)
        )
        return answer.reason, *flagged

    return sum(len({decision(answer) for answer in given}) > 1 for given in zip(*answers.values(), strict=True))


def _site_points(
    asked: Asked, sealed: SealedBundle, cases: Cases, answers: Mapping[str, Sequence[Answer]], dataset: dict[str, str]
) -> tuple[SitePoint, ...]:
    if asked.choose and not sealed.bundle.findings:
        raise UsageError(
            f"--choose: {sealed.bundle.id} looks for no finding, so it has no operating point: leave it out"
        )
    by_all = [
        number for number in range(len(cases.cases)) if all(given[number].probabilities for given in answers.values())
    ]
    shape = (len(by_all), len(sealed.bundle.findings))
    scores = Scores(
        patients=tuple(next(iter(answers.values()))[number].patient for number in by_all),
        positive=np.array([cases.cases[number].positive for number in by_all], dtype=bool).reshape(shape),
        probabilities={
            engine: np.array([given[number].probabilities for number in by_all], dtype=np.float64).reshape(shape)
            for engine, given in answers.items()
        },
    )
    return tuple(choose_site_point(rule, asked.indeterminate_share, sealed, scores, dataset) for rule in asked.choose)


def _plots(
    evaluation: Evaluation, scored: Mapping[str, Sequence[Scored]], answers: Mapping[str, Sequence[Answer]]
) -> dict[str, tuple[tuple[str, ...], ...]]:
    """By engine, the plots of each finding, or of the masks."""
    plots = {}
    for each in evaluation.engines:
        of_findings = [
            finding_plots(given, figures) for given, figures in zip(scored[each.engine], each.findings, strict=True)
        ]
        outlined = [answer.dice for answer in answers[each.engine] if answer.dice is not None]
        of_masks = [(dice_plot(outlined, f"{each.engine} {each.precision}"),)] if outlined else []
        plots[each.engine] = (*of_findings, *of_masks)
    return plots


def _write(out: Path, title: str, evaluation: Evaluation, sections: Sequence[Section]) -> None:
    """The three reports and the site's points, each whole or not at all."""
    files = {
        "evaluation.json": msgspec.json.format(msgspec.json.encode(evaluation)).decode(),
        "evaluation.md": markdown(title, sections),
        "evaluation.html": page(title, sections),
    } | {f"operating_point_{point.id}.yaml": snippet(point) for point in evaluation.site_points}
    for name, text in files.items():
        write_whole(out / name, partial(Path.write_text, data=text, encoding="utf-8"))
