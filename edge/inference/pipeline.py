"""The hot path: one file's bytes to one answer, in the order in which the data takes it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.config import Quality
from edge.imaging.quality import NOTHING_YET, Recent, check_quality
from edge.imaging.reader import Source
from edge.imaging.refusal import Refusal
from edge.imaging.resample import Size, to_model_input
from edge.inference import lungs
from edge.inference.engines import EngineError, Outputs
from edge.inference.explanation import box_of
from edge.inference.familiarity import distance, strangeness
from edge.inference.judgement import PRIORITY_OF, judge
from edge.inference.memory import ran_out
from edge.inference.models import Classifier, Model, Segmentation
from edge.inference.router import route
from edge.records import Finding, Header, Image, QualityFinding, Reason, Result, Status, Subject, Timings

_MARGIN = 2
_UNDECIDED = (0.07, 0.93)
_WELL_INSIDE = 0.8
DEFAULT_LIMITS = Quality()


@dataclass(frozen=True, eq=False, kw_only=True)
class Analysis:
    """What became of one file.

    Attributes:
        result: The answer; never missing.
        header: What its tags say; empty when it could not be read.
        image: The grey values, where they were decoded.
        maps: Class activation maps (h, w) by finding code, where a model ran.
        outline: The lungs (height, width) over the squashed image, where a segmentation found them.
        refusal: Why it was not analysed, with a detail for the log.
        recent: What the quality checks want to know when the next image comes.
    """

    result: Result
    header: Header
    image: Image | None = None
    maps: dict[str, NDArray[np.float32]] | None = None
    outline: NDArray[np.float32] | None = None
    refusal: str = ""
    recent: Recent = NOTHING_YET

    @property
    def subject(self) -> Subject:
        """Whose image it is, for the page."""
        fields = {name: getattr(self.header, name) for name in Subject.__struct_fields__}
        return Subject(**fields)


def analyse(
    data: bytes,
    models: Sequence[Model],
    *,
    source: str,
    modality: str | None = None,
    age_years: float | None = None,
    limits: Quality = DEFAULT_LIMITS,
    recent: Recent = NOTHING_YET,
) -> Analysis:
    """Decode, route, infer, judge and explain one file. Every file gets an answer; only defects of ours raise.

    One classifier answers: the first that accepts the image's tags. A segmentation that accepts it too adds the lungs.

    Args:
        data: The file: DICOM, PNG or JPEG.
        models: What may look at it.
        source: How the result names the file.
        modality: Taken as Modality where no header says it.
        age_years: Taken as the patient's age where no header says it.
        limits: The site's, for the quality checks.
        recent: What the analysis before gave the quality checks to remember.
    """
    clock, header, image = _Stopwatch(), Header(), None
    try:
        opened = Source(data, modality=modality, age_years=age_years)
        header = opened.header
        opened.check()
        model, outliner = _routed(header, models)
        image, prepared, outputs = _look(opened, clock, model, outliner, cover_of(model, outliner))
        _check_familiar(outputs, model)
        outline = lungs.usable(_run(outliner, prepared)["mask"]) if outliner else None
        clock.lap("infer")
        quality, recent = check_quality(image, outline, limits=limits, recent=recent)
        status, findings = judge(outputs["logits"].tolist(), model.sealed.bundle, model.point)
        findings, maps = _explain(findings, outputs["cam"], outline, image, status)
        clock.lap("explain")
    except Refusal as refusal:
        reason, quality = (Reason.TOO_LARGE if ran_out(refusal) else refusal.reason), ()
        if image and header.body_part:  # strange to the model, but sent as a chest: what is wrong with it may be seen
            quality, recent = check_quality(image, None, limits=limits, recent=recent)
        result = _result(source, header, Status.NOT_ANALYSED, clock, reason=reason, quality=quality)
        return Analysis(result=result, header=header, image=image, refusal=refusal.detail, recent=recent)
    result = _result(source, header, status, clock, findings=findings, quality=quality, model=model)
    return Analysis(result=result, header=header, image=image, maps=maps, outline=outline, recent=recent)


def _routed(header: Header, models: Sequence[Model]) -> tuple[Classifier, Segmentation | None]:
    """The classifier that answers, and the segmentation that outlines the lungs for it, if there is one."""
    classifiers = [model for model in models if isinstance(model, Classifier)]
    segmentations = [model for model in models if isinstance(model, Segmentation)]
    routed = route(header, [model.sealed.bundle.accepts for model in classifiers])
    if isinstance(routed, Reason):
        raise Refusal(routed, "no model accepts what the tags say")
    beside = route(header, [model.sealed.bundle.accepts for model in segmentations])
    return classifiers[routed], None if isinstance(beside, Reason) else segmentations[beside]


def cover_of(*models: Model | None) -> Size:
    """How much of the image is decoded: what the models take in, and as much again, so that they resample it."""
    sizes = [_size(model) for model in models if model]
    return Size(_MARGIN * max(height for height, _ in sizes), _MARGIN * max(width for _, width in sizes))


def _look(
    opened: Source, clock: _Stopwatch, model: Classifier, outliner: Segmentation | None, cover: Size | None
) -> tuple[Image, dict[tuple[int, int], NDArray[np.float32]], Outputs]:
    """The image, the models' inputs and the classifier's answer.

    Where the answer would be moved by the least change of the input, the image is looked at whole.
    """
    stored = opened.decode(cover)
    clock.lap("decode")
    image = opened.image(stored)
    prepared = _prepare(image, model, outliner)
    clock.lap("prepare")
    outputs = _run(model, prepared)
    clock.lap("infer")
    if image.pixels.shape != (image.rows, image.columns) and not _settled(outputs, model):
        return _look(opened, clock, model, outliner, None)
    return image, prepared, outputs


def _settled(outputs: Outputs, model: Classifier) -> bool:
    """Whether every score is near one of its ends, and the image well inside of what is familiar."""
    scores = 1.0 / (1.0 + np.exp(-outputs["logits"].astype(np.float64)))
    if ((scores > _UNDECIDED[0]) & (scores < _UNDECIDED[1])).any():
        return False
    limits, statistics = model.gate
    return distance(outputs["embedding"], statistics) < _WELL_INSIDE * limits.unfamiliar_from


def _prepare(image: Image, *models: Model | None) -> dict[tuple[int, int], NDArray[np.float32]]:
    """The inputs of the models by height and width: one that both take is made once."""
    sizes = {_size(model) for model in models if model}
    return {size: to_model_input(image.pixels, *size) for size in sizes}


def _run(model: Model, prepared: dict[tuple[int, int], NDArray[np.float32]]) -> Outputs:
    outputs = model.engine.run(prepared[_size(model)])
    for name, array in outputs.items():
        if not np.isfinite(array).all():
            raise EngineError(f"{model.engine.name}: {name} of {model.sealed.bundle.id} holds what is no finite number")
    return outputs


def _size(model: Model) -> tuple[int, int]:
    return model.sealed.bundle.input.height, model.sealed.bundle.input.width


def _check_familiar(outputs: Outputs, model: Classifier) -> None:
    """Refuse an image unlike those of the training. Raises `Refusal`."""
    limits, statistics = model.gate
    found = distance(outputs["embedding"], statistics)
    reason = strangeness(found, limits)
    if reason:
        of_model = model.sealed.bundle.id
        raise Refusal(reason, f"distance {found:.3g} for {of_model}, familiar is below {limits.unfamiliar_from:.3g}")


def _explain(
    findings: tuple[Finding, ...],
    cams: NDArray[np.float32],
    outline: NDArray[np.float32] | None,
    image: Image,
    status: Status,
) -> tuple[tuple[Finding, ...], dict[str, NDArray[np.float32]]]:
    """The findings with box, side and zone, where the answer is not `clear`, and the maps by code."""
    maps = {
        finding.code: cam if outline is None else lungs.inside(cam, outline)
        for finding, cam in zip(findings, cams, strict=True)
    }
    if status is Status.CLEAR:
        return findings, maps
    placed = []
    for finding in findings:
        evidence = maps[finding.code]
        side, zone = (None, None) if outline is None else lungs.place(evidence, outline, image.header)
        box = box_of(evidence, image.rows, image.columns)
        placed.append(msgspec.structs.replace(finding, box=box, side=side, zone=zone))
    return tuple(placed), maps


def _result(
    source: str,
    header: Header,
    status: Status,
    clock: _Stopwatch,
    *,
    reason: Reason | None = None,
    findings: tuple[Finding, ...] = (),
    quality: tuple[QualityFinding, ...] = (),
    model: Model | None = None,
) -> Result:
    return Result(
        source=source,
        sop_instance_uid=header.sop_instance_uid,
        status=status,
        reason=reason,
        priority=PRIORITY_OF[status],
        findings=findings,
        quality=quality,
        model=model.used if model else None,
        timings_ms=clock.timings(),
    )


class _Stopwatch:
    """Milliseconds between laps, added up by name."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._laps[name] = round(self._laps.get(name, 0.0) + (now - self._last) * 1000, 3)
        self._last = now

    def timings(self) -> Timings:
        return Timings(**self._laps, total=round((time.perf_counter() - self._start) * 1000, 3))
