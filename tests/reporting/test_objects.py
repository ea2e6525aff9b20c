"""What is made of results: valid by validators that know nothing of us, and true to the image, byte for byte."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from highdicom import sr
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from edge.imaging.evidence import Explanation, region_of
from edge.records import Status
from edge.reporting.names import uid_of
from edge.reporting.objects import ORDER, PR, SC, SEG, SR, Made, Pictures, as_comprehensive, encode, make
from edge.reporting.source import Unreportable, read_source
from edge.reporting.structured_report import presence
from edge.reporting.validation import broken_rules
from tests.reporting import samples

SOURCES = {
    "DX": "088_dx_image.dcm",
    "CR": "028_gdcm-CR-MONO1-10-chest.dcm",
    "CT": "058_CT000005.dcm",
    "MR": "106_12bitSigned_0x0F0F.dcm",
}
ALL = (SR, SC, PR, SEG)
NAMES = {
    "Arabic": ("ISO_IR 127", "قباني^لنزار".encode("iso8859_6")),
    "Chinese": ("GB18030", "王^小东".encode("gb18030")),
    "Chinese in UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东".encode()),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг^Анна".encode("iso8859_5")),  # noqa: RUF001 - a name
    "Japanese": (
        "\\ISO 2022 IR 87",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    "Swahili": ("", b"Wanjiku^Ng'ang'a"),
    "no character set stated": ("", "Müller^Jürgen".encode("latin-1")),
    "another one than stated": ("ISO_IR 100", "王^小东".encode()),
}


def made(data: bytes, status: Status = Status.FLAGGED, pictures: Pictures | None = None) -> Made:
    return make(read_source(data), samples.report(status), pictures or samples.pictures(), ALL)


@pytest.mark.parametrize("modality", SOURCES)
def test_dciodvfy_finds_no_error(modality: str, shared: Path, tmp_path: Path, program: Callable[[str], str]) -> None:
    objects = made((shared / "data/dicom/files" / SOURCES[modality]).read_bytes()).objects
    assert list(objects) == list(ORDER)
    for kind, data in objects.items():
        assert samples.errors_of(program("dciodvfy"), data, tmp_path / f"{kind}.dcm") == []
    simpler = as_comprehensive(objects[SR], "1.2.3", "1.2.4")
    assert samples.errors_of(program("dciodvfy"), simpler, tmp_path / "sr33.dcm") == []


@pytest.mark.parametrize("status", Status)
def test_each_answer_is_valid_and_is_read_by_others(
    status: Status, tmp_path: Path, program: Callable[[str], str]
) -> None:
    objects = made(samples.radiograph(), status).objects
    for kind, data in objects.items():
        assert samples.errors_of(program("dciodvfy"), data, tmp_path / f"{kind}.dcm") == []
    report = sr.srread(tmp_path / "sr.dcm")
    assert isinstance(report, sr.Comprehensive3DSR)
    content = report.content
    assert isinstance(content, sr.MeasurementReport)
    groups = [*content.get_planar_roi_measurement_groups(), *content.get_image_measurement_groups()]
    assert groups and all(group.tracking_uid for group in groups)
    dumped = _dump(program("dsrdump"), tmp_path / "sr.dcm")
    assert "Comprehensive 3D SR Document" in dumped
    assert ("Certainty of Finding" in dumped) == (status is not Status.NOT_ANALYSED)


def test_a_report_says_all_that_a_reader_needs(tmp_path: Path, program: Callable[[str], str]) -> None:
    file = tmp_path / "sr.dcm"
    objects = made(samples.radiograph(BodyPartExamined="CHEST")).objects
    file.write_bytes(objects[SR])
    dumped = _dump(program("dsrdump"), file)
    for line in (
        '"Procedure reported")=(399208008,SCT,"Plain X-ray of chest")',
        '"Finding")=(112033,DCM,"Abnormal opacity")',
        '"Laterality")=(24028007,SCT,"Right")',
        '"Topographical modifier")=(281394001,SCT,"Lower zone of lung")',
        '"Algorithm Name")="cxr-opacity-adult"',
        '"Algorithm Parameters")="operating point: balanced"',
        '"Algorithm Parameters")="calibration: temperature 0.34, bias -1.46"',
        f'"Algorithm Parameters")="model digest: {samples.MODEL.digest}"',
        '"Certainty of Finding")="83.0" (%,UCUM,"Percent")',
        '"Presence of property")=(52101004,SCT,"Present")',
        '"Image Region")=(POLYLINE,10/20,60/20,60/90,10/90,10/20)',
        '"Quality Finding")=(111209,DCM,"Positioning")',
        '"CAD Processing and Findings Summary")=(111242,DCM,"All algorithms succeeded; with findings")',
        "Not looked for: Anything but opacity of the lungs",
        "Verification Flag   : UNVERIFIED",
        "Preliminary Flag    : PRELIMINARY",
    ):
        assert line in dumped, line
    report, picture = samples.read(objects[SR]), samples.read(objects[SC])
    assert _explanations(report) == [picture.SOPInstanceUID]
    equipment = report.ContributingEquipmentSequence[0]
    assert (equipment.ManufacturerModelName, equipment.SoftwareVersions) == ("cxr-opacity-adult", "1.1.0")
    assert equipment.DeviceUID.startswith("2.25.")
    assert "normal" not in dumped.lower().replace("abnormal", "").replace("normality", "")


def test_outlines_go_around_what_the_page_shows_and_a_rectangle_is_drawn_where_there_is_no_map() -> None:
    rows, columns = 900, 1200
    image = samples.radiograph(Rows=rows, Columns=columns, PixelData=bytes(rows * columns))
    (outline,) = _outlines(made(image).objects[PR])
    filled = cv2.fillPoly(np.zeros((rows, columns), np.uint8), [np.round(outline).astype(np.int32)], 1)
    shown = region_of(samples.EXPLANATION, columns, rows)
    assert (filled & shown).sum() / (filled | shown).sum() > 0.97
    assert np.array_equal(outline[0], outline[-1]), "closed"
    unknown = Pictures(explanation=Explanation(maps={}))
    assert _outlines(made(image, pictures=unknown).objects[PR])[0].tolist() == [
        [10, 20], [60, 20], [60, 90], [10, 90], [10, 20]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(Status.FLAGGED, "Present"), (Status.INDETERMINATE, "Indeterminate"), (Status.CLEAR, "Absent")],
)
def test_negatives_are_said_at_their_operating_point(status: Status, meaning: str) -> None:
    report = samples.report(status)
    assert presence(report, report.result.findings[0]).meaning == meaning


@pytest.mark.parametrize("script", NAMES)
def test_names_survive_byte_for_byte(script: str) -> None:
    character_set, name = NAMES[script]
    image = _with_name(samples.radiograph(), character_set, name)
    for data in made(image).objects.values():
        assert name in data
        copy = dcmread(BytesIO(data))
        assert copy.get_item(0x00100010).value.rstrip(b" ") == name
        assert (copy.get("SpecificCharacterSet") or "") == (dcmread(BytesIO(image)).get("SpecificCharacterSet") or "")


def test_patient_and_study_are_the_images_own() -> None:
    image = samples.radiograph(IssuerOfPatientID="CLINIC", PatientBirthDate="", TimezoneOffsetFromUTC="+0300")
    source = samples.read(image)
    for data in made(image).objects.values():
        copy = samples.read(data)
        for keyword in ("PatientID", "IssuerOfPatientID", "PatientBirthDate", "StudyID", "StudyInstanceUID"):
            assert copy[keyword].value == source[keyword].value, keyword
        assert copy.SeriesInstanceUID != source.SeriesInstanceUID
        assert not [element for element in copy if element.tag.is_private]


def test_the_same_result_has_the_same_bytes_and_another_version_other_uids() -> None:
    image = samples.radiograph()
    assert made(image).objects == made(image).objects
    other = make(read_source(image), samples.report(result_id="1" * 32 + "-abababab"), samples.pictures(), ALL)
    uids = {samples.read(data).SOPInstanceUID for each in (made(image), other) for data in each.objects.values()}
    assert len(uids) == 2 * len(ALL)


@pytest.mark.parametrize(
    ("values", "kinds"),
    [
        ({"StudyID": None}, ORDER),
        ({"PatientID": None, "PatientName": None, "PatientSex": None}, ORDER),
        ({"AccessionNumber": None, "ReferringPhysicianName": None, "StudyDate": None}, ORDER),
        ({"PatientOrientation": None}, ORDER),
        ({"PhotometricInterpretation": None}, (SC, SEG, SR)),
        ({"Rows": None}, (SC, SR)),
        ({"Modality": None}, ORDER),
        ({"PatientBirthDate": "1970-01-01"}, ORDER),
        ({"StudyDescription": "x" * 80}, ORDER),
    ],
)
def test_what_an_image_lacks_is_left_empty_or_the_object_is_simpler(
    values: dict[str, Any], kinds: tuple[str, ...], tmp_path: Path, program: Callable[[str], str]
) -> None:
    objects = made(samples.radiograph(**values)).objects
    assert tuple(objects) == kinds
    for kind, data in objects.items():
        assert samples.errors_of(program("dciodvfy"), data, tmp_path / f"{kind}.dcm") == []


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"StudyInstanceUID": None}, "no valid StudyInstanceUID"),
        ({"SOPInstanceUID": "1.2.not.a.uid"}, "no valid SOPInstanceUID"),
        ({"PatientID": "x" * 65}, "its PatientID breaks the rules of the VR LO"),
        ({"StudyID": "x" * 17}, "its StudyID breaks the rules of the VR SH"),
    ],
)
def test_without_whose_it_is_nothing_is_made(values: dict[str, Any], why: str) -> None:
    with pytest.raises(Unreportable, match=why):
        read_source(samples.radiograph(**values))


def test_every_dicom_file_gives_valid_objects_or_a_reason(shared: Path) -> None:
    answered = 0
    for file in sorted((shared / "data/dicom/files").iterdir()):
        try:
            source = read_source(file.read_bytes())
        except Unreportable:
            continue
        done = make(source, samples.report(), samples.pictures(), ALL)
        assert SC in done.objects, (file.name, done.left_out)
        answered += SR in done.objects
    assert answered > 60


def _drop(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: delattr(dataset, keyword)


def _lose_evidence(dataset: Dataset) -> None:
    series = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    series[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID = "1.2.3"


def _lose_tracking(dataset: Dataset) -> None:
    for item in dataset.ContentSequence:
        if item.ConceptNameCodeSequence[0].CodeValue == "126010":
            del item.ContentSequence[0].ContentSequence[1]


def _verify(dataset: Dataset) -> None:
    dataset.VerificationFlag = "VERIFIED"


@pytest.mark.parametrize(
    ("kind", "spoil", "rule"),
    [
        (SR, _drop("StudyID"), "StudyID: Type 2, missing"),
        (SR, _drop("ContentDate"), "ContentDate: Type 1, missing or empty"),
        (SR, _lose_evidence, "an instance that the content refers to is not among the evidence"),
        (SR, _lose_tracking, "a measurement group without tracking identifiers or finding"),
        (SR, _verify, "it says that a person has verified it"),
        (SC, _drop("ConversionType"), "ConversionType: Type 1, missing or empty"),
        (PR, _drop("DisplayedAreaSelectionSequence"), "DisplayedAreaSelectionSequence: Type 1, missing or empty"),
    ],
)
def test_our_own_rules_find_what_is_wrong(kind: str, spoil: Callable[[Dataset], None], rule: str) -> None:
    data = made(samples.radiograph()).objects[kind]
    assert broken_rules(data) == []
    dataset = samples.read(data)
    spoil(dataset)
    assert broken_rules(encode(dataset)) == [rule]


def test_uids_hang_on_the_result_alone() -> None:
    assert uid_of("a", "x") == uid_of("a", "x") != uid_of("b", "x")
    assert len(uid_of("a", "x")) <= 64


def _explanations(report: Dataset) -> list[str]:
    return [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for container in report.ContentSequence
        for group in container.get("ContentSequence", ())
        for item in group.get("ContentSequence", ())
        if "ConceptNameCodeSequence" in item and item.ConceptNameCodeSequence[0].CodeValue == "130401"
    ]


def _outlines(state: bytes) -> list[NDArray[np.float64]]:
    annotation = samples.read(state).GraphicAnnotationSequence[0]
    return [np.array(shape.GraphicData).reshape(-1, 2) for shape in annotation.GraphicObjectSequence]


def _dump(program: str, file: Path) -> str:
    command = [program, "--print-long-values", "--print-instance-uid", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _with_name(image: bytes, character_set: str, name: bytes) -> bytes:
    dataset = samples.read(image)
    if character_set:
        dataset.SpecificCharacterSet = character_set.split("\\")
    data = encode(dataset)
    old = b"\x10\x00\x10\x00PN\x06\x00Test^A"
    padded = name + b" " * (len(name) % 2)
    assert data.count(old) == 1
    return data.replace(old, b"\x10\x00\x10\x00PN" + len(padded).to_bytes(2, "little") + padded)
