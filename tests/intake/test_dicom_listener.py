"""The listener as modalities meet it: DCMTK where it can, a hand-made peer where DCMTK is too well-behaved."""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
)
from pynetdicom import AE, AllStoragePresentationContexts, build_context
from pynetdicom.dsutils import encode

from edge.config import Dicom
from edge.file_meta import IMPLEMENTATION_CLASS_UID, file_meta
from edge.identity import read_file_meta
from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from edge.intake.dicom_listener import RETIRED_STORAGE, DicomListener, storage_classes
from edge.intake.reception import Reception
from edge.intake.statuses import (
    CANNOT_UNDERSTAND,
    DATA_SET_DOES_NOT_MATCH,
    PROCESSING_FAILURE,
    SUCCESS,
)
from edge.records import Instance, Priority
from edge.store import Store
from tests.intake.conftest import Sender
from tests.intake.objects import DX_FOR_PRESENTATION, dx, report, save
from tests.intake.peer import association_with, c_store, encoded
from tests.system.conftest import await_until


def test_echo_is_answered(listener: DicomListener, sender: Sender) -> None:
    answer = sender.echo(listener.port)
    assert answer.returncode == 0, answer.stdout
    assert "Success" in answer.stdout


def test_an_object_is_stored_byte_for_byte(
    listener: DicomListener, store: Store, sender: Sender, tmp_path: Path
) -> None:
    radiograph = dx(size=300)
    file = save(radiograph, tmp_path / "dx.dcm")
    assert sender.store(listener.port, "-xe", file).returncode == 0
    instance = _only(store)
    stored = store.read(instance.id)
    received = dcmread(BytesIO(stored))
    assert received == dcmread(file)
    sent = file.read_bytes()
    assert (
        stored
        == file_meta(DX_FOR_PRESENTATION, radiograph.SOPInstanceUID, "1.2.840.10008.1.2.1")
        + (sent[read_file_meta(sent)[1] :])
    )
    assert received.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert received.file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    arrival = instance.arrival
    assert (arrival.source, arrival.peer, arrival.priority) == ("dicom", "MODALITY", Priority.ROUTINE)
    assert arrival.sop_instance_uid == radiograph.SOPInstanceUID
    assert arrival.sop_class_uid == DX_FOR_PRESENTATION
    assert arrival.transfer_syntax_uid == ExplicitVRLittleEndian
    assert instance.size == len(stored)


def test_what_is_no_image_is_accepted_too(
    listener: DicomListener, store: Store, sender: Sender, tmp_path: Path
) -> None:
    assert sender.store(listener.port, save(report(), tmp_path / "sr.dcm")).returncode == 0
    assert dcmread(BytesIO(store.read(_only(store).id))).Modality == "SR"


def test_the_same_image_twice_is_one_instance(
    listener: DicomListener, store: Store, sender: Sender, tmp_path: Path
) -> None:
    file = save(dx(), tmp_path / "dx.dcm")
    for _ in range(2):
        assert sender.store(listener.port, file).returncode == 0
    assert store.queue().depth == 1


def test_the_same_uid_with_other_bytes_is_two(
    listener: DicomListener, store: Store, sender: Sender, tmp_path: Path
) -> None:
    first, second = dx(seed=1), dx(seed=2)
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = first.SOPInstanceUID
    files = [save(first, tmp_path / "1.dcm"), save(second, tmp_path / "2.dcm")]
    assert sender.store(listener.port, *files).returncode == 0
    assert store.queue().depth == 2


def test_every_storage_class_is_accepted_in_every_syntax_that_is_decoded(listener: DicomListener) -> None:
    """128 contexts go into one association; the listener supports more, in the cheapest syntax that was proposed."""
    classes = storage_classes()
    assert {context.abstract_syntax for context in AllStoragePresentationContexts} < set(classes)
    for start in range(0, len(classes), 128):
        with association_with(
            listener.port, classes[start : start + 128], list(reversed(DECODED_SYNTAXES))
        ) as association:
            accepted = association.accepted_contexts
            assert [context.abstract_syntax for context in accepted] == classes[start : start + 128]
            assert {str(context.transfer_syntax[0]) for context in accepted} == {DECODED_SYNTAXES[0]}


def test_a_sender_with_a_context_for_each_syntax_chooses_itself(listener: DicomListener) -> None:
    """To refuse the dear ones would lose the images of a sender that has no others."""
    entity = AE()
    entity.requested_contexts = [build_context(DX_FOR_PRESENTATION, syntax) for syntax in reversed(DECODED_SYNTAXES)]
    association = entity.associate("127.0.0.1", listener.port)
    accepted = [str(context.transfer_syntax[0]) for context in association.accepted_contexts]
    assert accepted == list(reversed(DECODED_SYNTAXES))
    association.release()


@pytest.mark.parametrize("sop_class", RETIRED_STORAGE)
def test_a_retired_class_is_stored(listener: DicomListener, store: Store, sop_class: str) -> None:
    dataset = dx()
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = UID(sop_class)
    with association_with(listener.port, [sop_class], [ExplicitVRLittleEndian]) as association:
        assert c_store(association, dataset, encoded(dataset)).Status == SUCCESS
    assert _only(store).arrival.sop_class_uid == sop_class


def test_a_syntax_that_is_not_decoded_is_not_accepted(listener: DicomListener) -> None:
    mpeg2 = "1.2.840.10008.1.2.4.100"
    with association_with(
        listener.port, [DX_FOR_PRESENTATION, "1.2.840.10008.1.1"], [mpeg2, ImplicitVRLittleEndian]
    ) as both:
        assert {str(context.transfer_syntax[0]) for context in both.accepted_contexts} == {ImplicitVRLittleEndian}
    entity = AE()
    entity.add_requested_context(DX_FOR_PRESENTATION, mpeg2)
    entity.add_requested_context("1.2.840.10008.1.1")
    association = entity.associate("127.0.0.1", listener.port)
    assert [str(context.abstract_syntax) for context in association.rejected_contexts] == [DX_FOR_PRESENTATION]
    association.release()


def test_the_largest_pdu_is_offered_as_configured(store: Store) -> None:
    for size in (1 << 20, 65536):
        listener = DicomListener(Dicom(port=0, max_pdu_bytes=size), Reception(store))
        with association_with(listener.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
            assert association.acceptor.maximum_length == size
        listener.stop(0.0)


def _without(keyword: str) -> bytes:
    dataset = dx()
    delattr(dataset, keyword)
    return encoded(dataset)


_GOOD = dx()
REFUSED: dict[str, tuple[bytes | None, int, str]] = {
    "no data set": (None, CANNOT_UNDERSTAND, "empty"),
    "an empty data set": (b"", CANNOT_UNDERSTAND, "empty"),
    "noise": (bytes(range(256)) * 4, CANNOT_UNDERSTAND, "no SOP Class or Instance UID"),
    "text": (b"GET / HTTP/1.1\r\nHost: scanside\r\n\r\n", CANNOT_UNDERSTAND, ""),
    "zeros": (bytes(4096), CANNOT_UNDERSTAND, ""),
    "cut in the first element": (encoded(_GOOD)[:7], CANNOT_UNDERSTAND, ""),
    "cut in the UID": (encoded(_GOOD)[:20], CANNOT_UNDERSTAND, ""),
    "sequences without end": (b"\x08\x00\x06\x00SQ\x00\x00\xff\xff\xff\xff" * 5000, CANNOT_UNDERSTAND, ""),
    "an element of 4 GiB": (b"\x08\x00\x05\x00UN\x00\x00\xf0\xff\xff\xff" + bytes(64), CANNOT_UNDERSTAND, ""),
    "no SOP Class UID": (_without("SOPClassUID"), CANNOT_UNDERSTAND, "no SOP Class or Instance UID"),
    "no SOP Instance UID": (_without("SOPInstanceUID"), CANNOT_UNDERSTAND, "no SOP Class or Instance UID"),
    "another SOP Class": (encoded(report()), DATA_SET_DOES_NOT_MATCH, "SOP Class UID"),
    "another SOP Instance": (encoded(dx(seed=3)), DATA_SET_DOES_NOT_MATCH, "SOP Instance UID"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_an_object_is_refused_with_its_reason(listener: DicomListener, store: Store, case: str) -> None:
    data, status, comment = REFUSED[case]
    with association_with(listener.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
        answer = c_store(association, _GOOD, data)
        assert answer.Status == status, f"{answer.Status:#06x}"
        assert comment in answer.ErrorComment
        assert store.queue().depth == 0
        assert c_store(association, _GOOD, encoded(_GOOD)).Status == SUCCESS, "the association goes on"
    assert store.queue().depth == 1


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, JPEG2000Lossless]
)
def test_the_uids_are_found_in_every_encoding(listener: DicomListener, store: Store, syntax: UID) -> None:
    dataset = dx()
    data = encode(dataset, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    assert data
    with association_with(listener.port, [DX_FOR_PRESENTATION], [syntax]) as association:
        assert c_store(association, dataset, data).Status == SUCCESS
        assert c_store(association, dx(seed=1), data).Status == DATA_SET_DOES_NOT_MATCH
    assert _only(store).arrival.transfer_syntax_uid == syntax


def test_a_failing_disk_is_answered_as_processing_failure(listener: DicomListener, store: Store) -> None:
    incoming = store.state_dir / "spool" / "incoming"
    shutil.rmtree(incoming)
    with association_with(listener.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
        assert c_store(association, _GOOD, encoded(_GOOD)).Status == PROCESSING_FAILURE
        incoming.mkdir()
        assert c_store(association, _GOOD, encoded(_GOOD)).Status == SUCCESS
    assert store.queue().depth == 1


def test_a_closed_journal_is_answered_as_processing_failure(listener: DicomListener, store: Store) -> None:
    store.close()
    with association_with(listener.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
        assert c_store(association, _GOOD, encoded(_GOOD)).Status == PROCESSING_FAILURE
    assert list((store.state_dir / "spool").glob("*")) == [store.state_dir / "spool" / "incoming"]


def test_the_priority_of_the_request_is_the_place_in_the_queue(listener: DicomListener, store: Store) -> None:
    sent = {}
    with association_with(listener.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
        for priority in (2, 0, 1):  # low, medium, high (PS3.7 table 9.3-1)
            dataset = dx(seed=priority)
            sent[dataset.SOPInstanceUID] = priority
            assert c_store(association, dataset, encoded(dataset), priority).Status == SUCCESS
    claimed = [store.claim() for _ in sent]
    order = [sent[str(instance.arrival.sop_instance_uid)] for instance in claimed if instance]
    assert order == [1, 0, 2]


def test_a_stat_order_is_urgent_whatever_the_request_says(listener: DicomListener, store: Store) -> None:
    dataset = dx()
    dataset.RequestedProcedurePriority = "STAT"
    with association_with(listener.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
        assert c_store(association, dataset, encoded(dataset), 2).Status == SUCCESS
    instance = store.claim()
    assert instance is not None
    assert instance.arrival.priority is Priority.URGENT


def test_an_order_that_the_worklist_calls_urgent_is_so(listener: DicomListener, store: Store) -> None:
    store.urgent_orders.write(["A1"])
    dataset = dx()
    dataset.AccessionNumber = "A1"
    with association_with(listener.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
        assert c_store(association, dataset, encoded(dataset)).Status == SUCCESS
    instance = store.claim()
    assert instance is not None
    assert instance.arrival.priority is Priority.URGENT


def test_more_associations_than_allowed_are_rejected_until_one_ends(store: Store, sender: Sender) -> None:
    listener = DicomListener(Dicom(port=0, max_associations=3), Reception(store))
    entity = AE()
    entity.add_requested_context("1.2.840.10008.1.1")
    open_now = [entity.associate("127.0.0.1", listener.port) for _ in range(3)]
    assert all(association.is_established for association in open_now)
    rejected = sender.echo(listener.port)
    assert rejected.returncode != 0
    assert "Local Limit Exceeded" in rejected.stdout
    open_now.pop().release()
    await_until(lambda: listener.associations == 2, "the end of one association")
    assert sender.echo(listener.port).returncode == 0
    for association in open_now:
        association.release()
    listener.stop(0.0)


def test_a_called_ae_title_is_required_only_when_configured(store: Store, sender: Sender) -> None:
    for required in (False, True):
        listener = DicomListener(Dicom(port=0, ae_title="BOX", require_called_ae_title=required), Reception(store))
        answer = sender.echo(listener.port)
        assert (answer.returncode != 0) is required
        assert ("Called AE Title Not Recognized" in answer.stdout) is required
        assert sender.echo(listener.port, "-aec", "BOX").returncode == 0
        listener.stop(0.0)


def test_a_taken_port_is_an_os_error(listener: DicomListener, store: Store) -> None:
    with pytest.raises(OSError, match="in use"):
        DicomListener(Dicom(port=listener.port), Reception(store))


def _only(store: Store) -> Instance:
    assert store.queue().depth == 1
    instance = store.claim()
    assert instance is not None
    return instance
