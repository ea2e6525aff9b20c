"""Which object a data set is, read without a DICOM library: as pydicom reads it, and in bounded time whatever comes."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from edge.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, file_meta
from edge.identity import Identity, Unidentified, read_file_identity, read_file_meta, read_identity

CLASS, INSTANCE, STUDY = "1.2.840.10008.5.1.4.1.1.1.1", "2.25.417", "2.25.3"
SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def object_of(*, nested: int = 0, undefined: bool = False) -> Dataset:
    """A data set with its UIDs, and a sequence between them."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.StudyInstanceUID = CLASS, INSTANCE, STUDY
    inner = Dataset()
    inner.SOPInstanceUID = "9.9.9"
    for _ in range(nested):
        outer = Dataset()
        outer.ReferencedImageSequence = Sequence([inner, Dataset()])
        outer["ReferencedImageSequence"].is_undefined_length = undefined
        outer.ReferencedImageSequence[0].is_undefined_length_sequence_item = undefined
        inner = outer
    dataset.ReferencedImageSequence = Sequence([inner])
    dataset["ReferencedImageSequence"].is_undefined_length = undefined
    dataset.ReferencedImageSequence[0].is_undefined_length_sequence_item = undefined
    return dataset


def file_of(dataset: Dataset, syntax: UID) -> bytes:
    """The object as a DICOM file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID = UID(CLASS)
    meta.MediaStorageSOPInstanceUID = UID(INSTANCE)
    dataset.file_meta = meta
    target = BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("undefined", [False, True], ids=["known lengths", "undefined lengths"])
def test_the_uids_of_the_top_level_are_read(syntax: UID, undefined: bool) -> None:
    file = file_of(object_of(nested=5, undefined=undefined), syntax)
    assert read_file_identity(file) == (syntax, Identity(CLASS, INSTANCE, STUDY))
    assert read_file_identity(memoryview(bytearray(file))) == (syntax, Identity(CLASS, INSTANCE, STUDY))


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize(
    ("priority", "urgent"),
    [("STAT", True), ("HIGH", True), ("high ", True), ("EMERGENCY", True), ("ROUTINE", False), ("LOW", False),
     ("", False), (None, False), ("STATISTICS", False)],
)  # fmt: skip
def test_an_urgent_order_is_seen(syntax: UID, priority: str | None, urgent: bool) -> None:
    dataset = object_of(nested=2, undefined=True)
    if priority is not None:
        dataset.RequestedProcedurePriority = priority
    file = file_of(dataset, syntax)
    assert read_file_identity(file) == (syntax, Identity(CLASS, INSTANCE, STUDY, urgent=urgent))


def test_only_the_objects_own_priority_counts_and_one_that_is_cut_off_is_none() -> None:
    dataset, other = object_of(), Dataset()
    other.RequestedProcedurePriority = "STAT"
    dataset.RequestAttributesSequence = Sequence([other])
    assert not read_file_identity(file_of(dataset, ExplicitVRLittleEndian))[1].urgent
    dataset.RequestedProcedurePriority = "STAT"
    file = file_of(dataset, ExplicitVRLittleEndian)
    assert read_file_identity(file)[1].urgent
    assert not read_file_identity(file[:-10])[1].urgent, "cut off within it"


def test_every_real_file_is_read_as_pydicom_reads_it(shared: Path) -> None:
    compared = 0
    for path in sorted((shared / "data" / "dicom").rglob("*")):
        data = path.read_bytes() if path.is_file() else b""
        if data[128:132] != b"DICM":
            continue
        try:
            dataset = dcmread(BytesIO(data), stop_before_pixels=True)
            uids = [str(dataset.get(name, "")) for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID")]
            urgent = dataset.get("RequestedProcedurePriority") in ("STAT", "HIGH")
            patient_id = str(dataset.get("PatientID") or "").strip()
            syntax = str(dataset.file_meta.TransferSyntaxUID)
        except Exception:  # what pydicom cannot read is no reference
            continue
        compared += 1
        if uids[0] and uids[1]:
            accession_number = str(dataset.get("AccessionNumber") or "").strip()
            expected = Identity(uids[0], uids[1], uids[2], patient_id, urgent, accession_number)
            assert read_file_identity(data) == (syntax, expected), path.name
        else:
            with pytest.raises(Unidentified):
                read_file_identity(data)
    assert compared > 20


@pytest.mark.parametrize(
    ("data_set", "said"),
    [
        (b"", "empty"),
        (b"\x08\x00\x16\x00", "cannot be read"),
        (b"\x08\x00\x16\x00UI\xff\xff1.2", "cannot be read"),
        (b"\x08\x00\x16\x00UI\x04\x001.2\x00", "has no SOP"),
        (b"\x08\x00\x16\x00UI\x00\x00\x08\x00\x18\x00UI\x00\x00", "has no SOP"),
        (b"\x08\x00\x16\x00UI\x82\x00" + b"1" * 130 + b"\x08\x00\x18\x00UI\x02\x001\x00", "has no SOP"),
        (b"\xfe\xff\x0d\xe0\x00\x00\x00\x00" * 3, "has no SOP"),
    ],
)
def test_what_says_not_which_object_it_is_has_a_reason(data_set: bytes, said: str) -> None:
    with pytest.raises(Unidentified, match=said):
        read_identity(data_set, ExplicitVRLittleEndian)


@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34", "2.25." + "9" * 59])
def test_the_meta_information_is_what_pydicom_writes(uid: str) -> None:
    written = file_meta(CLASS, uid, "1.2.840.10008.1.2.1")
    meta = create_file_meta(
        sop_class_uid=UID(CLASS),
        sop_instance_uid=UID(uid),
        transfer_syntax=UID("1.2.840.10008.1.2.1"),
        implementation_uid=UID(IMPLEMENTATION_CLASS_UID),
        implementation_version=IMPLEMENTATION_VERSION_NAME,
    )
    assert written == bytes(128) + b"DICM" + encode_file_meta(meta)
    assert read_file_meta(written) == ("1.2.840.10008.1.2.1", len(written))


def test_sequences_nested_without_end_are_given_up() -> None:
    open_sequence = struct.pack("<HH2sHI", 0x0008, 0x0006, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    with pytest.raises(Unidentified):
        read_identity(open_sequence * 1_000_000, ExplicitVRLittleEndian)


def test_a_deflated_bomb_is_not_inflated() -> None:
    import zlib  # noqa: PLC0415

    packer = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    bomb = packer.compress(bytes(1 << 28)) + packer.flush()
    with pytest.raises(Unidentified):
        read_identity(bomb, DeflatedExplicitVRLittleEndian)


def test_a_study_that_cannot_be_reached_is_not_known_and_the_instance_is() -> None:
    file = file_of(object_of(), ExplicitVRLittleEndian)
    cut = file[: file.index(STUDY.encode()) - 4]
    assert read_file_identity(cut)[1] == Identity(CLASS, INSTANCE, "")


@pytest.mark.parametrize(
    ("written", "read"),
    [(b"PAT-1 ", "PAT-1"), ("Müller".encode(), "Müller"), ("Müller".encode("latin-1"), "Müller"), (b"", "")],
)
def test_the_patient_id_is_read_in_whatever_character_set(written: bytes, read: str) -> None:
    data_set = b"".join(
        struct.pack("<HH2sH", group, element, vr, len(value)) + value
        for group, element, vr, value in [
            (0x0008, 0x0016, b"UI", b"1.2\0"),
            (0x0008, 0x0018, b"UI", b"1.3\0"),
            (0x0010, 0x0020, b"LO", written),
        ]
    )
    assert read_identity(data_set, ExplicitVRLittleEndian) == Identity("1.2", "1.3", "", read)


SMALL = file_of(object_of(nested=2, undefined=True), ExplicitVRLittleEndian)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    damaged = bytearray(SMALL)
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(128, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = damaged[: data.draw(st.integers(0, len(damaged)))]
    try:
        syntax, identity = read_file_identity(cut)
    except Unidentified as refusal:
        assert "\n" not in str(refusal)
        return
    assert syntax.isprintable()
    assert all(len(uid) <= 128 and uid.isprintable() for uid in identity[:3])
    assert identity.sop_class_uid
    assert identity.sop_instance_uid


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([str(syntax) for syntax in SYNTAXES]))
def test_anything_else_is_refused(data_set: bytes, syntax: str) -> None:
    try:
        read_identity(data_set, syntax)
    except Unidentified:
        return
    assert len(data_set) >= 20
