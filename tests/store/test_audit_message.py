"""Each action of the box as the message that PS3.15 A.5.3 has for it, valid against A.5.1.1's own schema."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.identity import Identity
from edge.records import Kept, StoredResult, Subject
from edge.store.audit import actions
from edge.store.audit.actions import Person, Received
from edge.store.audit.message import AuditMessage, AuditSource, to_xml
from tests.store.audit_reading import assert_valid, in_words
from tests.store.samples import flagged

WEB = AuditSource("clinic-12", "xray-1", "web")
INTAKE = AuditSource("clinic-12", "xray-1", "intake")
CLI = AuditSource("clinic-12", "xray-1", "cli")
ADA = Person("ada", "192.0.2.7")
DX, CR = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.1"
AT = 1_790_000_000.25


def stored(patient_id: str | None = "PAT-000417", study: str | None = "2.25.3") -> StoredResult:
    """A committed result."""
    return StoredResult(
        number=1,
        synchronised=True,
        kept=Kept.ALL,
        id="r1",
        seq=1,
        instance_id="i1",
        received_at=AT,
        committed_at=AT,
        waited=0.1,
        acknowledged_at=None,
        acknowledged_by=None,
        acknowledged_as=None,
        subject=Subject(patient_id=patient_id, study_instance_uid=study),
        result=flagged(),
    )


def received(*instances: tuple[str, str, str, bool]) -> Counter[Received]:
    """Of SOP Class, study, patient, and whether it is new."""
    return Counter(
        Received.of(Identity(sop, "2.25.9", study, patient), new=new) for sop, study, patient, new in instances
    )


SENDER = actions.modality("DX1", "192.0.2.9")
STUDY = "Study Instance UID 2/3"
PATIENT = "Patient Number 1/1"

TABLE: dict[str, tuple[AuditSource, AuditMessage, str]] = {
    "a service starts": (
        INTAKE,
        actions.application(INTAKE, starts=True, ae_titles=["SCANSIDE"]),
        "Application Activity: Application Start E 0 | scanside-intake [Application] AETITLES=SCANSIDE",
    ),
    "a service stops": (
        WEB,
        actions.application(WEB, starts=False),
        "Application Activity: Application Stop E 0 | scanside-web [Application]",
    ),
    "sign-in": (
        WEB,
        actions.signed_in(WEB, ADA),
        "User Authentication: Login E 0 | ada@xray-1.clinic-12* 192.0.2.7, scanside-web",
    ),
    "failed sign-in": (
        WEB,
        actions.sign_in_refused(WEB, ADA, "wrong name or password"),
        "User Authentication: Login E 4 (wrong name or password) | ada@xray-1.clinic-12* 192.0.2.7, scanside-web",
    ),
    "locked account": (
        WEB,
        actions.sign_in_locked(WEB, ADA, 60.0),
        "User Authentication: Login E 12 (too many failures: locked for 60 s)"
        " | ada@xray-1.clinic-12* 192.0.2.7, scanside-web",
    ),
    "sign-out": (
        WEB,
        actions.signed_out(WEB, ADA),
        "User Authentication: Logout E 0 | ada@xray-1.clinic-12* 192.0.2.7, scanside-web",
    ),
    "a list is seen": (
        WEB,
        actions.listed(WEB, ADA, "/api/v1/results", "GET /api/v1/results?limit=5"),
        "Query E 0 | ada@xray-1.clinic-12* [Source Role ID] 192.0.2.7, scanside-web [Destination Role ID]"
        " | Search Criteria 2/3 /api/v1/results ?GET /api/v1/results?limit=5",
    ),
    "a result is seen": (
        WEB,
        actions.viewed(WEB, ADA, stored()),
        "DICOM Instances Accessed R 0 | ada@xray-1.clinic-12* 192.0.2.7, scanside-web"
        f" | {STUDY} 2.25.3 result=r1 | {PATIENT} PAT-000417",
    ),
    "a photographed film is seen": (
        WEB,
        actions.viewed(WEB, ADA, stored(None, None)),
        "DICOM Instances Accessed R 0 | ada@xray-1.clinic-12* 192.0.2.7, scanside-web"
        f" | {STUDY} <none> result=r1 | {PATIENT} <none>",
    ),
    "a result is acknowledged": (
        WEB,
        actions.acknowledged(WEB, ADA, stored(), "agree", stands=True),
        "DICOM Instances Accessed: Result acknowledged: agree U 0 | ada@xray-1.clinic-12* 192.0.2.7, scanside-web"
        f" | {STUDY} 2.25.3 result=r1 | {PATIENT} PAT-000417",
    ),
    "a result is acknowledged too late": (
        WEB,
        actions.acknowledged(WEB, ADA, stored(), "agree", stands=False),
        "DICOM Instances Accessed: Result acknowledged: agree U 4 (acknowledged before)"
        " | ada@xray-1.clinic-12* 192.0.2.7, scanside-web"
        f" | {STUDY} 2.25.3 result=r1 | {PATIENT} PAT-000417",
    ),
    "a backup": (
        CLI,
        actions.whole_box(CLI, Person("root"), "backup", "file:///media/stick/box.ssb"),
        "Security Alert: Backup of the whole box begun E 0 | scanside-cli, root@xray-1.clinic-12"
        " | URI 2/13 file:///media/stick/box.ssb Alert Description=Backup of the whole box begun",
    ),
    "an image is taken off the box": (
        WEB,
        actions.exported(WEB, ADA, stored(), "file:///media/stick/a.dcm"),
        "Export R 0 | ada@xray-1.clinic-12* [Source Role ID] 192.0.2.7, scanside-web [Source Role ID],"
        " file:///media/stick/a.dcm [Destination Media] on URI"
        f" | {STUDY} 2.25.3 result=r1 | {PATIENT} PAT-000417",
    ),
    "an upload": (
        WEB,
        actions.imported(WEB, ADA, received((DX, "2.25.3", "P1", True)), "upload"),
        "Import C 0 | ada@xray-1.clinic-12* [Destination Role ID] 192.0.2.7, scanside-web [Destination Role ID],"
        " upload [Source Media] 192.0.2.7 on URI"
        f" | {STUDY} 2.25.3 1x{DX} | {PATIENT} P1",
    ),
    "an upload of a picture": (
        WEB,
        actions.imported(WEB, ADA, received(("", "", "", True)), "upload"),
        "Import C 0 | ada@xray-1.clinic-12* [Destination Role ID] 192.0.2.7, scanside-web [Destination Role ID],"
        " upload [Source Media] 192.0.2.7 on URI"
        f" | {STUDY} <none> 1x | {PATIENT} <none>",
    ),
    "files from the watch folder": (
        INTAKE,
        actions.imported(
            INTAKE, None, received((DX, "2.25.3", "P1", True), (DX, "2.25.4", "P2", True)), "watch folder"
        ),
        "Import C 0 | scanside-intake* [Destination Role ID], watch folder [Source Media] on URI"
        f" | {STUDY} 2.25.3 1x{DX} | {STUDY} 2.25.4 1x{DX} | {PATIENT} P1 | {PATIENT} P2",
    ),
    "a role that may not": (
        WEB,
        actions.restricted(WEB, ADA, "GET /"),
        "Security Alert: Use of Restricted Function E 4 | scanside-web, ada@xray-1.clinic-12 192.0.2.7"
        " | URI 2/13 GET / Alert Description=refused: not for this role",
    ),
    "a node that may not": (
        INTAKE,
        actions.node_refused(INTAKE, "192.0.2.66", "no TLS: unknown ca"),
        "Security Alert: Node Authentication E 4 | scanside-intake*"
        " | Node ID 2/13 192.0.2.66 Alert Description=no TLS: unknown ca",
    ),
    "an account is created": (
        WEB,
        actions.account_changed(WEB, Person("root"), "eve", "created, role clinician"),
        "Security Alert: User Security Attributes Changed E 0 | scanside-web, root@xray-1.clinic-12"
        " | URI 2/13 /accounts/eve Alert Description=created, role clinician",
    ),
    "the trail is read": (
        WEB,
        actions.trail_used(WEB, "root", "file:///var/lib/scanside/audit/audit.sqlite"),
        "Audit Log Used R 0 | root*, scanside-web"
        " | URI 2/13 file:///var/lib/scanside/audit/audit.sqlite 'Security Audit Log'",
    ),
    "the trail had a gap": (
        WEB,
        actions.recording_resumed(WEB, 3, AT),
        "Security Alert: Audit Recording Started E 8 | scanside-web*"
        " | URI 2/13 /audit Alert Description=3 audit messages since 2026-09-21T14:13:20.250Z could not be written",
    ),
    "the trail is shortened": (
        INTAKE,
        actions.records_retired(INTAKE, 70, 2192),
        "Security Alert: Audit Records Retired E 0 | scanside-intake*"
        " | URI 2/13 /audit Alert Description=records up to 70, older than 2192 days, are removed (audit.days)",
    ),
}


@pytest.mark.parametrize("action", TABLE)
def test_an_action_is_the_message_that_the_standard_has_for_it(action: str) -> None:
    source, message, words = TABLE[action]
    assert in_words(to_xml(message, source, AT)) == words


def test_what_came_is_a_message_for_each_patient_and_one_for_what_was_known() -> None:
    came = received(
        (DX, "2.25.3", "P1", True),
        (DX, "2.25.3", "P1", True),
        (CR, "2.25.3", "P1", True),
        (DX, "2.25.4", "P1", True),
        (DX, "2.25.5", "P2", True),
        (DX, "2.25.3", "P1", False),
    )
    people = (
        "192.0.2.9* [Source Role ID] AETITLES=DX1 192.0.2.9, scanside-intake [Destination Role ID] AETITLES=SCANSIDE"
    )
    assert [in_words(to_xml(one, INTAKE, AT)) for one in actions.transferred(INTAKE, SENDER, came, "SCANSIDE")] == [
        f"DICOM Instances Transferred C 0 | {people} | {STUDY} 2.25.3 2x{DX} 1x{CR} | {STUDY} 2.25.4 1x{DX}"
        f" | {PATIENT} P1",
        f"DICOM Instances Transferred C 0 | {people} | {STUDY} 2.25.5 1x{DX} | {PATIENT} P2",
        f"DICOM Instances Transferred R 0 | {people} | {STUDY} 2.25.3 1x{DX} | {PATIENT} P1",
    ]


def test_the_head_says_when_and_from_where() -> None:
    xml = to_xml(actions.signed_in(WEB, ADA), WEB, AT)
    assert 'EventDateTime="2026-09-21T14:13:20.250Z"' in xml
    assert '<AuditSourceIdentification AuditEnterpriseSiteID="clinic-12" AuditSourceID="xray-1">' in xml
    assert '<AuditSourceTypeCode csd-code="3" />' in xml


def test_every_message_is_valid(tmp_path: Path, program: Callable[[str], str]) -> None:
    sent = actions.transferred(WEB, actions.program(ADA), received((DX, "2.25.3", "P1", True), ("", "", "", False)))
    messages = [message for _, message, _ in TABLE.values()] + sent
    assert_valid([to_xml(message, WEB, AT) for message in messages], tmp_path, program)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(texts=st.lists(st.text(max_size=300), min_size=6, max_size=6))
def test_whatever_strangers_write_is_valid_and_one_line(
    texts: list[str], tmp_path: Path, program: Callable[[str], str]
) -> None:
    name, address, patient, study, title, sop = texts
    messages = [
        actions.sign_in_refused(WEB, Person(name, address), "wrong name or password"),
        actions.listed(WEB, Person(name, address), title, study),
        actions.viewed(WEB, Person(name, address), stored(patient, study)),
        actions.node_refused(WEB, address, title),
        *actions.transferred(INTAKE, actions.modality(title, address), received((sop, study, patient, True)), title),
    ]
    written = [to_xml(message, WEB, AT) for message in messages]
    assert not any(character in xml for xml in written for character in "\n\r\0")
    assert_valid(written, tmp_path, program)


def test_a_long_name_does_not_make_a_long_message() -> None:
    xml = to_xml(actions.sign_in_refused(WEB, Person("a" * 100_000, "192.0.2.7"), "wrong"), WEB, AT)
    assert len(xml) < 32_768, "PS3.15 A.6: what every receiver takes"
