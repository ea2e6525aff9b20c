"""What is sent as what, and what answers mean: tables."""

from __future__ import annotations

import msgspec
import pytest
from pydicom import uid

from edge.config_reporting import Destination, Reporting
from edge.records import Kept, Reason, StoredResult, Subject
from edge.reporting.decide import (
    CHANGED_WORDS,
    NO_OBJECT_WORDS,
    ORU_MESSAGE,
    Answer,
    Drop,
    Park,
    Send,
    classes_of,
    judge,
    kinds_of,
    plan,
    why_not,
)
from edge.reporting.maker import wanted_by
from edge.reporting.objects import PR, SC, SR, UPS, Made
from edge.reporting.stow import status_of
from edge.reporting.workitem import UPS_PUSH
from tests.reporting import samples

SR3D = uid.Comprehensive3DSRStorage
SR2D = uid.ComprehensiveSRStorage
GSPS = uid.GrayscaleSoftcopyPresentationStateStorage
PICTURE = uid.SecondaryCaptureImageStorage

PACS = Destination(name="pacs")
WITHOUT_PICTURE = Destination(name="pacs", secondary_capture=False)
OLD = Destination(name="pacs", structured_report="comprehensive")


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (0x0000, Answer.STORED),
        (0xB000, Answer.STORED),
        (0xB006, Answer.STORED),
        (0xB007, Answer.CHANGED),
        (0x0111, Answer.STORED),
        (0xA700, Answer.BUSY),
        (0xA7FF, Answer.BUSY),
        (0x0110, Answer.BUSY),
        (0x0122, Answer.UNSUPPORTED),
        (0xA900, Answer.REFUSED),
        (0xC000, Answer.REFUSED),
        (0xCFFF, Answer.REFUSED),
        (0x0124, Answer.REFUSED),
        (0x1234, Answer.REFUSED),
    ],
)
def test_what_a_status_means(status: int, meaning: Answer) -> None:
    assert judge(status) is meaning


@pytest.mark.parametrize(
    ("to", "kind", "form", "accepted", "step"),
    [
        (PACS, SR, "", {SR3D, SR2D, PICTURE}, Send(SR, SR3D)),
        (PACS, SR, "", {SR2D, PICTURE}, Send(SR, SR2D)),
        (PACS, SR, "", {PICTURE}, Drop("it has the picture")),
        (PACS, SR, "", set(), Park(NO_OBJECT_WORDS)),
        (WITHOUT_PICTURE, SR, "", {PICTURE}, Send(SC, PICTURE)),
        (OLD, SR, "", {SR3D, SR2D}, Send(SR, SR2D)),
        (PACS, SR, SR3D, {SR3D}, Send(SR, SR3D)),
        (PACS, SR, SR3D, {SR2D, PICTURE}, Park(CHANGED_WORDS)),
        (WITHOUT_PICTURE, SR, PICTURE, {SR3D, PICTURE}, Send(SC, PICTURE)),
        (PACS, PR, "", {GSPS}, Send(PR, GSPS)),
        (PACS, PR, "", {SR3D}, Drop("it does without")),
        (PACS, SC, "", {SR3D}, Drop("it does without")),
        (Destination(name="x", structured_report="none"), SC, "", set(), Park(NO_OBJECT_WORDS)),
    ],
)
def test_in_which_form_an_object_goes(
    to: Destination, kind: str, form: str, accepted: set[str], step: Send | Drop | Park
) -> None:
    assert plan(kind, form, accepted, to) == step


def test_the_picture_is_offered_wherever_it_may_have_to_take_the_reports_place() -> None:
    assert classes_of(WITHOUT_PICTURE) == (SR3D, SR2D, PICTURE, GSPS)
    assert classes_of(OLD) == (SR2D, PICTURE, GSPS)


def test_what_is_no_pacs_gets_what_it_reads_alone() -> None:
    for to, form in (
        (Destination(name="x", hl7=True), ORU_MESSAGE),
        (Destination(name="x", ups_url="http://x"), UPS_PUSH),
    ):
        (kind,) = kinds_of(to)
        assert (classes_of(to), plan(kind, "", {form}, to)) == ((form,), Send(kind, form))


@pytest.mark.parametrize(
    ("objects", "left_out", "rows"),
    [
        ((SC, UPS), {}, [("x", UPS, "")]),
        ((SC,), {}, []),
        ((SC,), {UPS: "why"}, [("x", UPS, "why")]),
    ],
)
def test_a_worklist_is_called_or_not(
    objects: tuple[str, ...], left_out: dict[str, str], rows: list[tuple[str, str, str]]
) -> None:
    assert wanted_by("x", (UPS,), Made(objects=dict.fromkeys(objects, b""), left_out=left_out)) == rows


def _stored(reason: Reason | None = None, modality: str = "DX") -> StoredResult:
    result = msgspec.structs.replace(samples.result(), reason=reason)
    return StoredResult(
        id="r", seq=1, number=1, instance_id="i", received_at=0, committed_at=0, waited=0, acknowledged_at=None,
        acknowledged_by=None, acknowledged_as=None, synchronised=True, kept=Kept.ALL,
        subject=Subject(modality=modality), result=result,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "sop_class", "sent"),
    [
        (_stored(), None, True),
        (_stored(Reason.LATERAL_VIEW), "1.2.840.10008.5.1.4.1.1.1.1", True),
        (_stored(Reason.NOT_DICOM), None, False),
        (_stored(Reason.NO_PIXELS), SR3D, False),
        (_stored(modality="CT"), None, False),
        (_stored(), PICTURE, False),
        (_stored(), GSPS, False),
    ],
)
def test_which_results_are_for_a_pacs(stored: StoredResult, sop_class: str | None, sent: bool) -> None:
    assert (why_not(stored, sop_class, Reporting()) == "") is sent


@pytest.mark.parametrize(
    ("objects", "rows"),
    [
        ((SC, PR, SR), [("x", SC, ""), ("x", PR, ""), ("x", SR, "")]),
        ((SC,), [("x", SC, "")]),
        ((), [("x", SR, "it has no valid StudyInstanceUID")]),
    ],
)
def test_what_cannot_be_made_is_simpler_or_parked(objects: tuple[str, ...], rows: list[tuple[str, str, str]]) -> None:
    made = Made(objects=dict.fromkeys(objects, b""), left_out={SR: "it has no valid StudyInstanceUID"})
    assert wanted_by("x", (SC, PR, SR), made) == rows


@pytest.mark.parametrize(
    ("code", "body", "status"),
    [
        (200, b"{}", 0x0000),
        (200, b'{"00081199":{"Value":[{"00081196":{"Value":[45063]}}]}}', 0xB007),
        (409, b'{"00081198":{"Value":[{"00081197":{"Value":[43264]}}]}}', 0xA900),
        (202, b'{"00081198":{"Value":[{"00081197":{"Value":[42752]}}]}}', 0xA700),
        (503, b"busy", 0xA700),
        (401, b"", 0xC000),
        (400, b"<html>", 0xC000),
    ],
)
def test_what_stow_rs_answers(code: int, body: bytes, status: int) -> None:
    assert status_of(code, body) == status
