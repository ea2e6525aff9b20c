"""What the audit trail is told of what arrives: one message for each association and patient, and none in a C-STORE."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge.config import Dicom
from edge.identity import Identity
from edge.intake.dicom_listener import DicomListener
from edge.intake.receipts import FOLDER, LONGEST, Receipts, Sender
from edge.intake.reception import Reception
from edge.store import Store
from edge.store.audit import AuditTrail
from edge.store.audit.message import AuditMessage, AuditSource, to_xml
from edge.store.keys import open_ring
from edge.store.vault import Vault
from tests.intake.conftest import IntakeProcess
from tests.intake.conftest import Sender as Modality
from tests.intake.objects import dx, save
from tests.store.audit_reading import in_words
from tests.system.conftest import await_until

SOURCE = AuditSource("site", "box", "intake")
DX1, CR2 = Sender("DX1", "192.0.2.1"), Sender("CR2", "192.0.2.2")
SENDER = "[Source Role ID] AETITLES=DX1 192.0.2.1, scanside-intake [Destination Role ID] AETITLES=SCANSIDE"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def of(patient: str, study: str = "2.25.3") -> Identity:
    return Identity("1.2", "2.25.9", study, patient)


def words(messages: list[AuditMessage]) -> list[str]:
    return [in_words(to_xml(message, SOURCE, 0.0)) for message in messages]


def test_an_association_is_told_when_it_ends() -> None:
    receipts = Receipts(Clock())
    for _ in range(3):
        receipts.add("a", DX1, of("P1"), new=True)
    receipts.add("b", CR2, of("P2"), new=True)
    assert receipts.take(SOURCE, "SCANSIDE") == []
    receipts.ended("a")
    assert words(receipts.take(SOURCE, "SCANSIDE")) == [
        f"DICOM Instances Transferred C 0 | 192.0.2.1* {SENDER} | Study Instance UID 2/3 2.25.3 3x1.2"
        " | Patient Number 1/1 P1"
    ]
    assert receipts.take(SOURCE, "SCANSIDE") == []
    assert len(receipts.take(SOURCE, "SCANSIDE", stopping=True)) == 1


def test_one_that_goes_on_is_told_in_pieces() -> None:
    clock = Clock()
    receipts = Receipts(clock)
    receipts.add("a", DX1, of("P1"), new=True)
    clock.now = LONGEST
    receipts.add("a", DX1, of("P1"), new=False)
    assert [text.split(" | ")[0] for text in words(receipts.take(SOURCE, "SCANSIDE"))] == [
        "DICOM Instances Transferred C 0",
        "DICOM Instances Transferred R 0",
    ]
    receipts.add("a", DX1, of("P1"), new=True)
    receipts.ended("a")
    assert len(receipts.take(SOURCE, "SCANSIDE")) == 1


def test_what_is_added_after_the_end_is_told_later() -> None:
    """The network's threads have no order: a connection may be closed while its last object is being stored."""
    clock = Clock()
    receipts = Receipts(clock)
    receipts.ended("a")
    receipts.add("a", DX1, of("P1"), new=True)
    clock.now = LONGEST
    assert len(receipts.take(SOURCE, "SCANSIDE")) == 1


def test_the_folder_is_an_import() -> None:
    receipts = Receipts(Clock())
    receipts.add(FOLDER, None, Identity("", ""), new=True)
    receipts.ended(FOLDER)
    assert words(receipts.take(SOURCE, "SCANSIDE")) == [
        "Import C 0 | scanside-intake* [Destination Role ID], watch folder [Source Media] on URI"
        " | Study Instance UID 2/3 <none> 1x | Patient Number 1/1 <none>"
    ]


def test_a_flood_of_refused_hosts_is_bounded() -> None:
    receipts = Receipts(Clock())
    for number in range(10_000):
        receipts.refused(f"10.0.{number // 250}.{number % 250}", "not allowed")
    assert len(receipts.take_refused()) == 100
    assert receipts.take_refused() == {}


def told(state_dir: Path) -> list[str]:
    trail = AuditTrail(state_dir, Vault(open_ring(state_dir)), SOURCE)
    try:
        return [in_words(record.xml or "") for record in trail.read()]
    finally:
        trail.close()


def test_the_service_tells_what_dcmtk_sends_in_one_association(sender: Modality, tmp_path: Path) -> None:
    images = [dx(seed=number) for number in range(3)]
    for image in images:
        image.StudyInstanceUID = "2.25.3"
    files = [save(image, tmp_path / f"{number}.dcm") for number, image in enumerate(images)]
    watched = tmp_path / "watched"
    watched.mkdir()
    with IntakeProcess(tmp_path, watch_folder=watched) as intake:
        assert sender.store(intake.port, *files).returncode == 0
        assert sender.store(intake.port, files[0]).returncode == 0
        await_until(lambda: len(told(intake.state_dir)) == 3, "both associations are told")
        shutil.copy(files[0], watched / "copy.part")
        (watched / "copy.part").rename(watched / "copy.dcm")
        await_until(lambda: len(told(intake.state_dir)) == 4, "the folder is told")
        assert intake.stop() == 0
    people = (
        "127.0.0.1* [Source Role ID] AETITLES=MODALITY 127.0.0.1,"
        " scanside-intake [Destination Role ID] AETITLES=SCANSIDE"
    )
    about = f"Study Instance UID 2/3 2.25.3 {{}}x{images[0].SOPClassUID} | Patient Number 1/1 SYN-4711"
    assert told(intake.state_dir) == [
        "Application Activity: Application Start E 0 | scanside-intake [Application] AETITLES=SCANSIDE",
        f"DICOM Instances Transferred C 0 | {people} | {about.format(3)}",
        f"DICOM Instances Transferred R 0 | {people} | {about.format(1)}",
        f"Import C 0 | scanside-intake* [Destination Role ID], watch folder [Source Media] on URI | {about.format(1)}",
        "Application Activity: Application Stop E 0 | scanside-intake [Application] AETITLES=SCANSIDE",
    ]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_sender_that_may_not_is_told(store: Store, sender: Modality, allowed: bool) -> None:
    reception = Reception(store)
    titles = ("MODALITY",) if allowed else ("OTHER",)
    listener = DicomListener(Dicom(port=0, calling_ae_titles=titles), reception)
    assert (sender.echo(listener.port).returncode == 0) is allowed
    listener.stop(0.0)
    reason = "its AE title is not in intake.dicom.calling_ae_titles"
    assert reception.receipts.take_refused() == ({} if allowed else {"127.0.0.1": reason})
