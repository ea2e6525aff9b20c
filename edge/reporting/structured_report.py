"""The result as a structured report: TID 1500, one measurement group for each finding, negatives included (PS3.16).

Pure: an image's data set and a result in, a Comprehensive 3D SR out. There are no coordinates in space in it, so
that for a PACS that takes Comprehensive SR alone nothing but its class changes (`objects.as_comprehensive`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from highdicom import sr
from highdicom.sr import RelationshipTypeValues as Relationship
from highdicom.sr import TrackingIdentifier
from pydicom import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from edge.records import REASON_WORDS, Finding, Level, Status
from edge.reporting import codes
from edge.reporting.codes import Code
from edge.reporting.modules import MANUFACTURER, Report, begin, reference, series_reference
from edge.reporting.names import device_uid
from edge.reporting.source import Source

SUMMARIES = {
    Status.FLAGGED: codes.SUCCEEDED_WITH,
    Status.CLEAR: codes.SUCCEEDED_WITHOUT,
    Status.INDETERMINATE: codes.SUCCEEDED_WITHOUT,
    Status.NOT_ANALYSED: codes.NONE_SUCCEEDED,
}
_LONGEST_TEXT = 1024
_Group = sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations


def structured_report(source: Source, report: Report, explanation: Dataset | None = None) -> Dataset:
    """The report of one result.

    Args:
        source: The image.
        report: What is to be said about it.
        explanation: The secondary capture that shows where the network looked, if there is one.
    """
    dataset = begin(source, report, Comprehensive3DSRStorage, "SR")
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    content = _content(source, report, explanation)
    for element in content:
        dataset.add(element)
    evidence = Dataset()
    evidence.StudyInstanceUID = source.header.StudyInstanceUID
    evidence.ReferencedSeriesSequence = [series_reference(each) for each in (source.header, explanation) if each]
    dataset.CurrentRequestedProcedureEvidenceSequence = [evidence]
    return dataset


def procedure_of(source: Source) -> Code:
    """The imaging procedure that was analysed: a radiograph of the chest where the tags say so (IHE AIR)."""
    modality = source.modality
    body_part = str(source.header.get("BodyPartExamined") or "").strip().upper()
    if modality in ("CR", "DX") and body_part in ("CHEST", "THORAX", "LUNG"):
        return codes.CHEST_RADIOGRAPH
    return codes.PROCEDURES.get(modality, codes.IMAGING_PROCEDURE)


def _content(source: Source, report: Report, explanation: Dataset | None) -> Dataset:
    observer = sr.ObserverContext(
        observer_type=sr.CodedConcept(*codes.DEVICE),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=device_uid(report.result.model) if report.result.model else report.uid("device"),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=report.result.model.id if report.result.model else MANUFACTURER,
            serial_number=report.box,
        ),
    )
    groups: list[_Group] = [_finding(source, report, finding, explanation) for finding in report.result.findings]
    if report.result.quality:
        groups.append(_quality(source, report))
    document = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=sr.CodedConcept(*procedure_of(source)),
        imaging_measurements=groups or [_nothing(source, report)],
        title=sr.CodedConcept(*codes.MEASUREMENT_REPORT),
        language_of_content_item_and_descendants=sr.LanguageOfContentItemAndDescendants(
            sr.CodedConcept(*codes.ENGLISH)
        ),
    )
    root = Dataset()
    root.update(document[0])
    items = list(root.ContentSequence)
    at = [item.ConceptNameCodeSequence[0].CodeValue for item in items].index(codes.IMAGING_MEASUREMENTS.value)
    root.ContentSequence = [*items[:at], _image_library(source), *items[at:], _evaluations(report)]
    return root


def _finding(source: Source, report: Report, finding: Finding, explanation: Dataset | None) -> _Group:
    """TID 1410 where the network says where it looked, else TID 1501."""
    certainty = sr.Measurement(
        name=sr.CodedConcept(*codes.CERTAINTY),
        value=round(100 * finding.probability, 2),
        unit=sr.CodedConcept(*codes.PERCENT),
    )
    common: dict[str, Any] = {
        "tracking_identifier": TrackingIdentifier(report.uid("finding", finding.code), f"{finding.meaning}"),
        "finding_type": sr.CodedConcept(finding.code, finding.scheme, finding.meaning),
        "algorithm_id": _algorithm(report, finding),
        "finding_sites": list(_sites(finding)),
        "measurements": [certainty],
        "qualitative_evaluations": [
            sr.QualitativeEvaluation(sr.CodedConcept(*codes.PRESENCE), sr.CodedConcept(*presence(report, finding)))
        ],
    }
    group: _Group
    if finding.box:
        region = sr.ImageRegion("POLYLINE", _corners(finding.box), _region_of(source))
        group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
    else:
        group = sr.MeasurementsAndQualitativeEvaluations(source_images=[_group_source(source)], **common)
    if explanation is not None and finding.box:
        group[0].ContentSequence.append(
            sr.ImageContentItem(
                name=sr.CodedConcept(*codes.VISUAL_EXPLANATION),
                referenced_sop_class_uid=explanation.SOPClassUID,
                referenced_sop_instance_uid=explanation.SOPInstanceUID,
                relationship_type=Relationship.CONTAINS,
            )
        )
    return group


def presence(report: Report, finding: Finding) -> Code:
    """What the answer says of a finding at its operating point."""
    if finding.flagged:
        return codes.PRESENT
    point = next(iter(report.facts.points_of(finding)), None)
    if point:
        return codes.INDETERMINATE if finding.probability >= point[1].indeterminate_from else codes.ABSENT
    return codes.INDETERMINATE if report.result.status is Status.INDETERMINATE else codes.ABSENT


def _algorithm(report: Report, finding: Finding) -> sr.AlgorithmIdentification | None:
    """TID 4019: which model, at which operating point, with which calibration."""
    model = report.result.model
    if model is None:
        return None
    point = next(iter(report.facts.points_of(finding)), None)
    calibration = next((each for each in report.facts.findings if each.code == finding.code), None)
    parameters = [
        f"operating point: {point[0]}" if point else "",
        f"threshold of the probability: {finding.threshold:g}",
        f"calibration: temperature {calibration.temperature:.6g}, bias {calibration.bias:.6g}" if calibration else "",
        f"model digest: {model.digest}",
        f"engine: {model.engine}, {model.precision}",
        "visual explanation: class activation" if finding.box else "",
        "experimental: measured on too little to rely on" if model.experimental else "",
    ]
    return sr.AlgorithmIdentification(
        name=model.id,
        version=model.version,
        parameters=[each for each in parameters if each],
        family=sr.CodedConcept(*codes.ARTIFICIAL_INTELLIGENCE),
        manufacturer=MANUFACTURER,
    )


def _sites(finding: Finding) -> Iterator[sr.FindingSite]:
    if not finding.side and (finding.scheme, finding.code) not in codes.OF_THE_LUNG:
        return
    side = codes.SIDES[finding.side] if finding.side else None
    zone = codes.ZONES[finding.zone] if finding.zone else None
    yield sr.FindingSite(
        sr.CodedConcept(*codes.LUNG),
        laterality=sr.CodedConcept(*side) if side else None,
        topographical_modifier=sr.CodedConcept(*zone) if zone else None,
    )


def _quality(source: Source, report: Report) -> _Group:
    found = report.result.quality
    worst = Level.UNUSABLE if any(each.level is Level.UNUSABLE for each in found) else Level.WARN
    evaluations = []
    if any(each.level in codes.QUALITY_LEVELS for each in found):
        evaluations.append((codes.QUALITY_ASSESSMENT, codes.QUALITY_LEVELS[worst]))
    for code in dict.fromkeys(each.code for each in found):
        meaning = codes.QUALITY_FINDINGS.get(code, "Other failure")
        evaluations.append((codes.QUALITY_FINDING, Code(code, "DCM", meaning)))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(report.uid("quality"), "Image quality"),
        finding_type=sr.CodedConcept(*codes.IMAGE_QUALITY),
        qualitative_evaluations=[
            sr.QualitativeEvaluation(sr.CodedConcept(*name), sr.CodedConcept(*value)) for name, value in evaluations
        ],
        source_images=[_group_source(source)],
    )


def _nothing(source: Source, report: Report) -> _Group:
    """The one group of an image that was not analysed: viewers fail on a report without any."""
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(report.uid("nothing"), "Not analysed"),
        finding_type=sr.CodedConcept(*codes.UNDETERMINED),
        source_images=[_group_source(source)],
    )


def _evaluations(report: Report) -> Dataset:
    """The answer as a whole: CID 6047, and in words for whoever reads the report as text."""
    summary = _item("CODE", "CONTAINS", codes.FINDINGS_SUMMARY)
    summary.ConceptCodeSequence = [SUMMARIES[report.result.status].item()]
    items = [summary]
    for sentence in sentences(report):
        comment = _item("TEXT", "CONTAINS", codes.COMMENT)
        comment.TextValue = sentence[:_LONGEST_TEXT]
        items.append(comment)
    return _container(codes.QUALITATIVE_EVALUATIONS, items)


def sentences(report: Report) -> Iterator[str]:
    """The answer for people, a line each; ASCII, as it stands beside any character set."""
    result = report.result
    reason = f": {REASON_WORDS[result.reason]}" if result.reason else ""
    yield f"{report.words}{reason}."
    for finding in result.findings:
        said = "above" if finding.flagged else "below"
        yield (
            f"{finding.meaning}: probability {finding.probability:.0%}, {said} the site's threshold of"
            f" {finding.threshold:.0%}."
        )
    for quality in result.quality:
        yield f"Image quality: {codes.QUALITY_FINDINGS.get(quality.code, 'other failure')} ({quality.level})."
    if report.facts.not_looked_for:
        yield f"Not looked for: {' '.join(report.facts.not_looked_for.split())}"
    yield "AI result, not for diagnosis, for research use only: a person must read the image."


def _image_library(source: Source) -> Dataset:
    """TID 1600 with the one image, and what of it viewers ask for (TID 1602)."""
    image = _item("IMAGE", "CONTAINS")
    image.ReferencedSOPSequence = [reference(source.header)]
    described = []
    if meaning := codes.MODALITIES.get(source.modality):
        modality = _item("CODE", "HAS ACQ CONTEXT", codes.MODALITY)
        modality.ConceptCodeSequence = [Code(source.modality, "DCM", meaning).item()]
        described.append(modality)
    for name, pixels in zip((codes.ROWS, codes.COLUMNS), source.size or (), strict=False):
        extent, value = _item("NUM", "HAS ACQ CONTEXT", name), Dataset()
        value.NumericValue, value.MeasurementUnitsCodeSequence = str(pixels), [codes.PIXELS.item()]
        extent.MeasuredValueSequence = [value]
        described.append(extent)
    if described:
        image.ContentSequence = described
    return _container(codes.IMAGE_LIBRARY, [_container(codes.IMAGE_LIBRARY_GROUP, [image])])


def _container(name: Code, items: Sequence[Dataset]) -> Dataset:
    container = _item("CONTAINER", "CONTAINS", name)
    container.ContinuityOfContent = "SEPARATE"
    container.ContentSequence = items
    return container


def _item(value_type: str, relationship: str, name: Code | None = None) -> Dataset:
    """A content item without its value (PS3.3 C.17.3)."""
    item = Dataset()
    item.RelationshipType, item.ValueType = relationship, value_type
    if name:
        item.ConceptNameCodeSequence = [name.item()]
    return item


def _region_of(source: Source) -> sr.SourceImageForRegion:
    return sr.SourceImageForRegion(source.header.SOPClassUID, source.header.SOPInstanceUID, source.first_frame)


def _group_source(source: Source) -> sr.SourceImageForMeasurementGroup:
    return sr.SourceImageForMeasurementGroup(
        source.header.SOPClassUID, source.header.SOPInstanceUID, source.first_frame
    )


def _corners(box: tuple[int, int, int, int]) -> np.ndarray:
    left, top, right, bottom = box
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]], dtype=float)
