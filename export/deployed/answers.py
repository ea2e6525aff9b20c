"""The device's own answers: the pipeline of `edge.inference` on each file's bytes."""

import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.config import Config, Inference
from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from edge.imaging.resample import to_model_input
from edge.inference.bundle import Bundle
from edge.inference.models import Classifier, Model, load_model
from edge.inference.pipeline import Analysis, analyse, cover_of
from edge.inference.router import route
from edge.records import Header, Reason, Status
from export.datasets import DatasetError
from export.datasets.preparation import Tags, in_progress, read_mask
from export.deployed.cases import Case
from export.evaluation.localisation import Pointed, point
from export.evaluation.masks import dice
from export.steps import Report

_MODALITY = "DX"
_REGION_SIDE = 256


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What one engine made of one case.

    Attributes:
        engine: Which.
        reason: Why it was not analysed; None where it was.
        probabilities: In the order of the bundle's findings; empty where it was not analysed, and for a segmentation.
        indeterminate: The image's answer at the bundle's default operating point.
        pointed: By finding, where the explanation points; None without a reference, without the finding, or when the
            device shows no explanation.
        dice: Of a segmentation; None where it was not analysed.
        milliseconds: From bytes to answer.
        patient: As the case says, else by the file's tags, else the file's name: an image of its own patient.
    """

    engine: str
    reason: Reason | None
    probabilities: tuple[float, ...] = ()
    indeterminate: bool = False
    pointed: tuple[Pointed | None, ...] = ()
    dice: float | None = None
    milliseconds: float = 0.0
    patient: str
    view: str | None
    sex: str | None
    age_years: float | None
    source: str | None


def open_model(folder: Path, engine: str, trusted_keys: Path, cache: Path) -> Model:
    """The bundle as the device serves it: verified, self-tested, on one engine.

    Raises:
        BundleError: It is not what was sealed.
        EngineError: The engine fails its self-test here.
    """
    inference = Inference(trusted_keys=trusted_keys, engine=engine)  # type: ignore[arg-type]
    return load_model(folder, Config(inference=inference), cache)


def ask(model: Model, cases: Sequence[Case], mask_value: int, report: Report) -> tuple[Answer, ...]:
    """The model's answer for each case, in order, with a line every ten seconds."""
    answers = []
    for case in in_progress(cases, f"{model.sealed.bundle.id} on {model.engine.name}", report):
        if isinstance(model, Classifier):
            answers.append(_classified(model, case, mask_value))
        else:
            answers.append(_outlined(model, case, mask_value))
    return tuple(answers)


def stated_age(case: Case, bundle: Bundle) -> float:
    """The case's age or, where nobody wrote it down, one that the bundle accepts."""
    youngest, below = bundle.accepts.age_years
    return (youngest + below) / 2.0 if case.age_years is None else case.age_years


def _classified(model: Classifier, case: Case, mask_value: int) -> Answer:
    bundle, data = model.sealed.bundle, _read(case.path)
    started = time.perf_counter()
    analysis = analyse(data, [model], source=case.path.name, modality=_MODALITY, age_years=stated_age(case, bundle))
    answer = _unanswered(model, case, data, (time.perf_counter() - started) * 1000.0, analysis.result.reason)
    if analysis.result.status is Status.NOT_ANALYSED:
        return answer
    found = {finding.code: finding.probability for finding in analysis.result.findings}
    return msgspec.structs.replace(
        answer,
        probabilities=tuple(found[spec.code] for spec in bundle.findings),
        indeterminate=analysis.result.status is Status.INDETERMINATE,
        pointed=_pointed(bundle, case, analysis, mask_value),
    )


def _outlined(model: Model, case: Case, mask_value: int) -> Answer:
    """A segmentation answers beside a classifier on the device; here it does so alone, by the same steps."""
    bundle, data = model.sealed.bundle, _read(case.path)
    started = time.perf_counter()
    try:
        source = Source(data, modality=_MODALITY, age_years=stated_age(case, bundle))
        source.check()
        routed = route(source.header, [bundle.accepts])
        if isinstance(routed, Reason):
            return _unanswered(model, case, data, 0.0, routed)
        image = source.image(source.decode(cover_of(model)))
    except Refusal as refusal:
        return _unanswered(model, case, data, 0.0, refusal.reason)
    mask = model.engine.run(to_model_input(image.pixels, bundle.input.height, bundle.input.width))["mask"]
    answer = _unanswered(model, case, data, (time.perf_counter() - started) * 1000.0, None)
    reference = _region(case, (image.rows, image.columns), mask_value, bundle.input.height)
    return msgspec.structs.replace(answer, dice=float(dice(mask, reference[np.newaxis].astype(np.uint8))[0]))


def _unanswered(model: Model, case: Case, data: bytes, milliseconds: float, reason: Reason | None) -> Answer:
    """What is known of a case before its answer: from its list, else from the file's own tags."""
    try:
        header = Source(data).header
    except Refusal:
        header = Header()
    return Answer(
        engine=model.engine.name,
        reason=reason,
        milliseconds=milliseconds,
        patient=case.patient or header.patient_id or str(case.path),
        view=case.view or header.view,
        sex=case.sex or header.sex,
        age_years=header.age_years if case.age_years is None else case.age_years,
        source=case.source,
    )


def _pointed(bundle: Bundle, case: Case, analysis: Analysis, mask_value: int) -> tuple[Pointed | None, ...]:
    """By finding; None where it is absent, where there is no reference, or where the device shows no explanation."""
    image, maps = analysis.image, analysis.maps
    if image is None or maps is None or analysis.result.status is Status.CLEAR or not (case.boxes or case.mask):
        return tuple(None for _ in bundle.findings)
    rows, columns = image.rows, image.columns
    region = _region(case, (rows, columns), mask_value, _REGION_SIDE)
    boxes = {finding.code: finding.box for finding in analysis.result.findings}
    scale = np.array([columns, rows, columns, rows]) / _REGION_SIDE
    found: list[Pointed | None] = []
    for spec, positive in zip(bundle.findings, case.positive, strict=True):
        box = boxes[spec.code]
        scaled = None if box is None else tuple(int(edge) for edge in np.rint(np.array(box) / scale))
        found.append(point(maps[spec.code], scaled, region) if positive else None)
    return tuple(found)


def _region(case: Case, shape: tuple[int, ...], mask_value: int, side: int) -> NDArray[np.bool_]:
    """The case's reference, true inside, squashed to [side, side]: its boxes, or its mask."""
    if case.mask and not case.boxes:
        tags = Tags(patient=None, view=None, sex=None, age_years=None, rows=shape[0], columns=shape[1])
        return read_mask(case.mask, side, mask_value, tags) > 0
    region = np.zeros((side, side), dtype=bool)
    for box in case.boxes:
        x0, y0, x1, y1 = (int(edge) for edge in np.clip(np.rint(np.array(box) * side), 0, side))
        region[y0:y1, x0:x1] = True
    return region


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; restore it or take it out of the data set") from error
