"""Export without identifiers: every row of the profile, planted identifiers, real files, and other people's tools."""

from __future__ import annotations

import subprocess
import warnings
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as peer
from pydicom import DataElement, Dataset, config, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword

from edge.imaging.decode import decode_first_frame
from edge.imaging.deidentify import KEPT, NotExportable, action_of, clean, deidentify, profile
from edge.imaging.header import read_dataset
from edge.imaging.refusal import Refusal
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from tests.identifiers import CHARACTER_SETS, STEERING, find, plant
from tests.imaging.files import ENCODERS, dicom, picture

KEY = bytes(range(32))
ROWS = sorted(profile().items())
SECRETS: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UT", "PN"), "QWERTZ"),
    **dict.fromkeys(("US", "SS", "UL", "SL", "FL", "FD", "AT"), 4711),
    **dict.fromkeys(("OB", "OW", "UN"), b"QWERTZ"),
    **dict.fromkeys(("DS", "IS"), "4711"),
    "AS": "042Y",
    "DA": "19710911",
    "DT": "19710911114711",
    "TM": "114711",
    "UI": "1.2.3.4711",
    "UR": "http://qwertz.example",
}
_PEERS_ACTIONS = {
    "D": peer.D_TAGS,
    "Z": peer.Z_TAGS,
    "X": peer.X_TAGS,
    "U": peer.U_TAGS,
    "Z/D": peer.Z_D_TAGS,
    "X/Z": peer.X_Z_TAGS,
    "X/D": peer.X_D_TAGS,
    "X/Z/D": peer.X_Z_D_TAGS,
    "X/Z/U*": peer.X_Z_U_STAR_TAGS,
}


def test_the_table_is_that_of_a_peer() -> None:
    """dicom-anonymizer's, which its makers extract from the same edition of the standard."""
    theirs = {tuple(tag): action for action, tags in _PEERS_ACTIONS.items() for tag in tags}
    masked = {tag: action for tag, action in theirs.items() if len(tag) == 4}
    ours = {(int(tag[:4], 16), int(tag[4:], 16)): action for tag, action in profile().items() if "x" not in tag}
    assert ours == {tag: action for tag, action in theirs.items() if len(tag) == 2}
    assert len(masked) == len(profile()) - len(ours) == 3


@pytest.mark.parametrize(("tag", "action"), ROWS, ids=[tag for tag, _ in ROWS])
def test_every_row_of_the_profile(tag: str, action: str) -> None:
    """At the top and in an item of a sequence that stays."""
    number = int(tag.replace("xxxx", "0010").replace("xx", "02"), 16)
    dataset, element = Dataset(), _secret(number)
    dataset.add(element)
    item = Dataset()
    item.add(element)
    item.LUTDescriptor = [1, 0, 16]
    dataset.VOILUTSequence = [item]
    cleaned = clean(dataset, KEY)
    for level in (cleaned, cleaned.VOILUTSequence[0]):
        assert "QWERTZ" not in str(level) and "4711" not in str(level)
        _check(action, element, level)
    assert cleaned.VOILUTSequence[0].LUTDescriptor == [1, 0, 16]


def _check(action: str, before: DataElement, level: Dataset) -> None:
    if action == "X":
        assert before.tag not in level
        return
    after = level[before.tag]
    last = action.rsplit("/", maxsplit=1)[-1].rstrip("*")
    if before.VR == "SQ":
        assert (len(after.value) == 0) is (last == "Z")
    elif last == "Z":
        assert after.is_empty
    else:
        assert not after.is_empty and after.value != before.value
        assert last != "U" or str(after.value).startswith("2.25.")


def _secret(number: int) -> DataElement:
    try:
        vr = dictionary_VR(number).split(" or ")[0]
    except KeyError:
        vr = "LO"  # younger than pydicom's dictionary
    if vr == "SQ":
        item = Dataset()
        item.PersonName, item.UID, item.Date = "QWERTZ", "1.2.3.4711", "19710911"
        return DataElement(number, "SQ", [item])
    return DataElement(number, vr, SECRETS[vr], validation_mode=config.IGNORE)


def test_nothing_that_stays_is_in_the_profile() -> None:
    assert {keyword: action for keyword in KEPT if (action := action_of(tag_for_keyword(keyword) or 0))} == {}


@pytest.mark.parametrize("tag", [0x00091001, 0x7FE11010, 0x50020010, 0x60023000, 0x60FE4000, 0x0011_0013])
def test_private_and_repeating_groups_go(tag: int) -> None:
    assert action_of(tag) == "X"


@pytest.mark.parametrize("character_set", CHARACTER_SETS)
@pytest.mark.parametrize("spared", [STEERING, frozenset({"SOPClassUID", "Modality"})], ids=["image", "confused"])
def test_planted_identifiers_do_not_go_over(character_set: str, spared: frozenset[str]) -> None:
    dataset = dcmread(BytesIO(_radiograph()))
    planted = plant(dataset, Random(character_set), character_set=character_set, spared=spared)
    dataset.BurnedInAnnotation, dataset.Modality = "NO", "DX"
    if spared is not STEERING:
        dataset.NumberOfFrames, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    data = _file(dataset)
    assert find(planted, data)
    assert find(planted, deidentify(data).data) == []


def test_the_profile_is_named_and_the_image_stays() -> None:
    before = read_dataset(_radiograph())
    after = dcmread(BytesIO(deidentify(_radiograph()).data))
    assert (after.PatientIdentityRemoved, after.PatientName, after.PatientSex) == ("YES", "", "")
    code = after.DeidentificationMethodCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("113100", "DCM")
    assert after.LongitudinalTemporalInformationModified == "REMOVED"
    for keyword in (
        "Modality",
        "BodyPartExamined",
        "ViewPosition",
        "ImagerPixelSpacing",
        "WindowCenter",
        "RescaleSlope",
    ):
        assert after[keyword].value == before[keyword].value
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID != before.SOPInstanceUID
    np.testing.assert_array_equal(after.pixel_array, decode_first_frame(before).values)


def test_uids_are_the_same_for_the_same_within_an_export_and_never_between_two() -> None:
    dataset = Dataset()
    dataset.SOPInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.3", "1.2.4", "1.2.3"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    one, again, other = clean(dataset, KEY), clean(dataset, KEY), clean(dataset, KEY[::-1])
    assert one == again != other
    assert one.SOPInstanceUID == one.FrameOfReferenceUID != one.StudyInstanceUID
    assert one.SOPClassUID == dataset.SOPClassUID
    first, second = (dcmread(BytesIO(deidentify(_radiograph()).data)) for _ in range(2))
    assert first.StudyInstanceUID != second.StudyInstanceUID


@pytest.mark.parametrize("syntax", ENCODERS)
def test_every_compression_goes_over_decoded(syntax: str) -> None:
    """So that neither a comment in a codestream nor an application segment comes along."""
    stored = (picture() * 255).astype(np.uint8)
    before = dicom(stored, bits=8, syntax=syntax)
    after = dcmread(BytesIO(deidentify(before).data))
    np.testing.assert_array_equal(after.pixel_array, decode_first_frame(read_dataset(before)).values)


def test_an_overlay_in_unused_bits_does_not_come_along() -> None:
    grey = (picture() * 4095).astype(np.uint16)
    before = dicom(grey | 0x8000, bits=12)
    after = dcmread(BytesIO(deidentify(before).data))
    np.testing.assert_array_equal(after.pixel_array, grey)


@pytest.mark.parametrize(
    ("said", "modality", "outcome"),
    [
        ("NO", "DX", ""),
        ("NO", "US", ""),
        (None, "DX", "look at the picture"),
        (None, "CR", "look at the picture"),
        (None, "US", NotExportable),
        (None, "OT", NotExportable),
        (None, "", NotExportable),
        ("", "ES", NotExportable),
        ("PERHAPS", "XC", NotExportable),
        ("YES", "DX", NotExportable),
        ("YES", "US", NotExportable),
    ],
)
def test_text_in_the_pixels(said: str | None, modality: str, outcome: str | type[NotExportable]) -> None:
    dataset = dcmread(BytesIO(_radiograph()))
    dataset.Modality = modality
    del dataset.BurnedInAnnotation
    if said is not None:
        dataset.BurnedInAnnotation = said
    if isinstance(outcome, str):
        assert outcome in deidentify(_file(dataset)).caution
        return
    with pytest.raises(outcome, match=r"Burned In Annotation .*workstation"):
        deidentify(_file(dataset))


@pytest.mark.parametrize(
    "data",
    [b"no DICOM at all" * 20, dicom((picture() * 255).astype(np.uint8), bits=8, NumberOfFrames=2), b""],
    ids=["text", "frames", "nothing"],
)
def test_what_is_no_still_image_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(NotExportable) as refused:
        deidentify(data)
    assert "\n" not in str(refused.value)


def test_real_files_of_every_kind(shared: Path) -> None:
    """Each is refused, or goes over with its pixels and without a word of what identified it."""
    exported = 0
    for path in sorted((shared / "data/dicom/files").iterdir()):
        try:
            after = deidentify(path.read_bytes()).data
        except NotExportable:
            continue
        exported += 1
        before = read_dataset(path.read_bytes())
        found = dcmread(BytesIO(after))
        assert [word for word in _words(before) if word.encode("utf-8") in after] == [], path.name
        expected = _stored(before)
        assert expected is not None
        np.testing.assert_array_equal(np.squeeze(found.pixel_array), np.squeeze(expected), err_msg=path.name)
    assert exported >= 50


def _words(dataset: Dataset) -> set[str]:
    """What stands in attributes of the profile and is long enough not to be there by chance."""
    words = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in list(dataset.keys()):
            try:
                element = dataset[tag]
            except Exception:  # broken files: what cannot be read cannot be searched for
                continue
            if action_of(tag) and element.VR in ("PN", "LO", "SH", "LT", "ST", "UI", "DA", "TM", "DT", "AE"):
                words |= {str(value) for value in (element.value if element.VM > 1 else [element.value])}
    known = {"REMOVED", "19000101", "000000"}
    return {word for word in words - known if len(word) >= 6 and not word.startswith("1.2.840.10008.")}


def _stored(dataset: Dataset) -> Any:
    try:
        return decode_first_frame(dataset).values
    except Refusal:
        return None


def test_peers_find_the_object_sound(program: Callable[[str], str], tmp_path: Path) -> None:
    """dicom3tools' dciodvfy on the DX IOD, DCMTK's dcmftest on the file."""
    path = tmp_path / "exported.dcm"
    path.write_bytes(deidentify(_radiograph()).data)
    verified = subprocess.run([program("dciodvfy"), path], capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if line.startswith("Error")] == []
    assert subprocess.run([program("dcmftest"), path], capture_output=True, check=False).returncode == 0


def _radiograph() -> bytes:
    dataset = dcmread(BytesIO(dx_file(radiograph(Kind.CLEAR, 0, 160, 200), seed=1)))
    dataset.BurnedInAnnotation = "NO"
    return _file(dataset)


def _file(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer)
    return buffer.getvalue()
