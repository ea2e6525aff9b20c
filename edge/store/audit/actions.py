"""What people and machines do to this box, each as the audit message that PS3.15 A.5.3 has for it.

| action | EventID |
| --- | --- |
| a service starts or stops | Application Activity (A.5.3.1) |
| somebody reads the audit trail | Audit Log Used (A.5.3.2) |
| somebody takes a result's image off the box | Export (A.5.3.4) |
| a file comes by upload or through the watch folder | Import (A.5.3.5) |
| somebody sees, or answers to, a result and its image | DICOM Instances Accessed (A.5.3.6) |
| images come, or objects made of results go, by C-STORE or STOW-RS | DICOM Instances Transferred (A.5.3.7) |
| somebody sees a list of results | Query (A.5.3.10) |
| accounts change; a role or a node is refused; the trail had a gap or was shortened | Security Alert (A.5.3.11) |
| the whole box is backed up, restored or reset | Security Alert (A.5.3.11) |
| signing in, failing to, being locked out, signing out | User Authentication (A.5.3.12) |

C-STORE and STOW-RS stay within the clinic's security domain: transfers. A file that a person brings, or that lies in a
folder, comes from nobody knows where: an import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

from edge.config_reporting import Destination
from edge.identity import Identity
from edge.records import StoredResult
from edge.store.audit.message import AuditMessage, AuditObject, AuditSource, Code, Outcome, Participant, utc

OWN_SCHEME = "99SCANSIDE"

_PERSON, _SYSTEM = 1, 2
_PATIENT, _REPORT, _SECURITY_RESOURCE = 1, 3, 13
_DESTINATION = Code("110152", "DCM", "Destination Role ID")
_SOURCE = Code("110153", "DCM", "Source Role ID")
_DESTINATION_MEDIA = Code("110154", "DCM", "Destination Media")
_SOURCE_MEDIA = Code("110155", "DCM", "Source Media")
_APPLICATION = Code("110150", "DCM", "Application")
_URI_MEDIA = Code("110037", "DCM", "URI")
_URI = Code("12", "RFC-3881", "URI")
_SEARCH = Code("10", "RFC-3881", "Search Criteria")
_PATIENT_NUMBER = Code("2", "RFC-3881", "Patient Number")
_STUDY_UID = Code("110180", "DCM", "Study Instance UID")
_NODE_ID = Code("110182", "DCM", "Node ID")
_AUTHENTICATION = Code("110114", "DCM", "User Authentication")
_LOGIN = Code("110122", "DCM", "Login")
_LOGOUT = Code("110123", "DCM", "Logout")
_ACCESSED = Code("110103", "DCM", "DICOM Instances Accessed")
_TRANSFERRED = Code("110104", "DCM", "DICOM Instances Transferred")
_EXPORT = Code("110106", "DCM", "Export")
_IMPORT = Code("110107", "DCM", "Import")
_WHOLE_BOX = {
    "backup": "Backup of the whole box begun",
    "restore": "Whole box restored from a backup",
    "factory-reset": "Factory reset begun",
}
_ALERT = Code("110113", "DCM", "Security Alert")


class Person(NamedTuple):
    """Who acts: an account of the page and the address that it acts from (empty at the box itself)."""

    name: str
    address: str = ""


class Received(NamedTuple):
    """What a message tells of an instance that came; empty where the instance does not say it."""

    patient_id: str
    new: bool
    study_uid: str
    sop_class_uid: str

    @classmethod
    def of(cls, identity: Identity, *, new: bool) -> Received:
        """Of an instance; `new` unless the store had it already."""
        return cls(identity.patient_id, new, identity.study_instance_uid, identity.sop_class_uid)


def application(source: AuditSource, *, starts: bool, ae_titles: Sequence[str] = ()) -> AuditMessage:
    """A service starts, or stops in good order."""
    kind = Code("110120", "DCM", "Application Start") if starts else Code("110121", "DCM", "Application Stop")
    process = Participant(source.process, requestor=False, role=_APPLICATION, ae_titles=tuple(ae_titles))
    return AuditMessage(Code("110100", "DCM", "Application Activity"), "E", (process,), (kind,))


def signed_in(source: AuditSource, who: Person) -> AuditMessage:
    """A right name and password, from a person."""
    return _authentication(source, who, _LOGIN)


def sign_in_refused(source: AuditSource, who: Person, why: str) -> AuditMessage:
    """A wrong name, password or code; `who.name` is what was tried."""
    return _authentication(source, who, _LOGIN, Outcome.MINOR_FAILURE, why)


def sign_in_locked(source: AuditSource, who: Person, seconds: float) -> AuditMessage:
    """The failure after which nothing is tried for a while."""
    return _authentication(source, who, _LOGIN, Outcome.MAJOR_FAILURE, f"too many failures: locked for {seconds:.0f} s")


def signed_out(source: AuditSource, who: Person) -> AuditMessage:
    """A session that its person ended."""
    return _authentication(source, who, _LOGOUT)


def listed(source: AuditSource, who: Person, path: str, query: str) -> AuditMessage:
    """Somebody sees a list of results; `query` is the request as it came, path included."""
    about = AuditObject(path, _SEARCH, _SYSTEM, _REPORT, query=query)
    person = _person(who, role=_SOURCE)
    return AuditMessage(
        Code("110112", "DCM", "Query"), "E", (person, _process(source, role=_DESTINATION)), objects=(about,)
    )


def viewed(source: AuditSource, who: Person, stored: StoredResult) -> AuditMessage:
    """Somebody sees a result, and its image as well where there is one."""
    return AuditMessage(_ACCESSED, "R", (_person(who), _process(source)), objects=_of(stored))


def acknowledged(source: AuditSource, who: Person, stored: StoredResult, answer: str, *, stands: bool) -> AuditMessage:
    """Somebody answers to a result; `stands` is False when another answer was there before."""
    kind = Code(f"acknowledge-{answer}", OWN_SCHEME, f"Result acknowledged: {answer}")
    outcome, why = (Outcome.SUCCESS, "") if stands else (Outcome.MINOR_FAILURE, "acknowledged before")
    people = (_person(who), _process(source))
    return AuditMessage(_ACCESSED, "U", people, (kind,), outcome, why, _of(stored))


def exported(source: AuditSource, who: Person, stored: StoredResult, medium: str) -> AuditMessage:
    """Somebody takes a result's image off the box, without identifiers; `medium` is where it goes."""
    media = Participant(medium, requestor=False, role=_DESTINATION_MEDIA, media=_URI_MEDIA)
    people = (_person(who, role=_SOURCE), _process(source, role=_SOURCE), media)
    return AuditMessage(_EXPORT, "R", people, objects=_of(stored))


def imported(source: AuditSource, who: Person | None, received: Counter[Received], medium: str) -> AuditMessage:
    """Files that a person uploads, or that the watch folder (`who` is None) takes in; `medium` is where they lay."""
    media = Participant(
        medium, requestor=False, role=_SOURCE_MEDIA, address=who.address if who else "", media=_URI_MEDIA
    )
    process = _process(source, role=_DESTINATION, requestor=who is None)
    people = (_person(who, role=_DESTINATION),) if who else ()
    return AuditMessage(_IMPORT, "C", (*people, process, media), objects=_objects(received))


def transferred(
    source: AuditSource, sender: Participant, received: Counter[Received], ae_title: str = ""
) -> list[AuditMessage]:
    """Images came from `sender`: a message for each patient, and one more for those that were here already."""
    receiver = _process(source, role=_DESTINATION, ae_titles=(ae_title,) if ae_title else ())
    groups: dict[tuple[str, bool], Counter[Received]] = {}
    for one, count in received.items():
        groups.setdefault((one.patient_id, one.new), Counter())[one] = count
    return [
        AuditMessage(_TRANSFERRED, "C" if new else "R", (sender, receiver), objects=_objects(group))
        for (_, new), group in groups.items()
    ]


def delivered(source: AuditSource, sent: Counter[Received], to: Destination) -> list[AuditMessage]:
    """Objects that this box made went to a PACS: a message for each patient."""
    host, ae_title = to.url or to.host, "" if to.url else to.called_ae_title
    receiver = Participant(
        host,
        requestor=False,
        role=_DESTINATION,
        address="" if to.url else to.host,
        ae_titles=(ae_title,) if ae_title else (),
    )
    sender = _process(source, role=_SOURCE, requestor=True)
    groups: dict[str, Counter[Received]] = {}
    for one, count in sent.items():
        groups.setdefault(one.patient_id, Counter())[one] = count
    return [AuditMessage(_TRANSFERRED, "R", (sender, receiver), objects=_objects(each)) for each in groups.values()]


def modality(ae_title: str, host: str) -> Participant:
    """Who sends by C-STORE, for `transferred`."""
    return Participant(host, requestor=True, role=_SOURCE, address=host, ae_titles=(ae_title,))


def program(who: Person) -> Participant:
    """Who sends by STOW-RS, for `transferred`."""
    return _person(who, role=_SOURCE)


def restricted(source: AuditSource, who: Person, what: str, why: str = "not for this role") -> AuditMessage:
    """Somebody asks for what is not for their role or token; `what` is the route."""
    kind = Code("110132", "DCM", "Use of Restricted Function")
    about = _alert_object(what, _URI, f"refused: {why}")
    return _alert(source, kind, Outcome.MINOR_FAILURE, about, _person(who, requestor=False))


def node_refused(source: AuditSource, host: str, why: str) -> AuditMessage:
    """A sender that may not associate, or with which there is no TLS."""
    kind = Code("110126", "DCM", "Node Authentication")
    return _alert(source, kind, Outcome.MINOR_FAILURE, _alert_object(host, _NODE_ID, why))


def account_changed(source: AuditSource, who: Person, account: str, what: str) -> AuditMessage:
    """An account is added or removed, gets another password, a token for it is made or revoked, a session is ended."""
    kind = Code("110137", "DCM", "User Security Attributes Changed")
    about = _alert_object(f"/accounts/{account}", _URI, what)
    return _alert(source, kind, Outcome.SUCCESS, about, _person(who, requestor=False))


def ordered(source: AuditSource, who: Person, what: str) -> AuditMessage:
    """A manager's page orders something of boxes, or stops an order; `what` and of which."""
    kind = Code("110131", "DCM", "Software Configuration")
    about = _alert_object("/orders", _URI, what)
    return _alert(source, kind, Outcome.SUCCESS, about, _person(who, requestor=False))


def whole_box(
    source: AuditSource, who: Person, what: Literal["backup", "restore", "factory-reset"], uri: str
) -> AuditMessage:
    """All that the box holds goes into a file, comes out of one, or is destroyed; `uri` is the file's or folder's."""
    about = _alert_object(uri, _URI, _WHOLE_BOX[what])
    return _alert(
        source,
        Code(what, OWN_SCHEME, _WHOLE_BOX[what]),
        Outcome.SUCCESS,
        about,
        _person(who, requestor=False),
    )


def trail_used(source: AuditSource, user: str, uri: str) -> AuditMessage:
    """A user of the operating system reads the trail."""
    about = AuditObject(uri, _URI, _SYSTEM, _SECURITY_RESOURCE, name="Security Audit Log")
    people = (Participant(user, requestor=True), _process(source))
    return AuditMessage(Code("110101", "DCM", "Audit Log Used"), "R", people, objects=(about,))


def recording_resumed(source: AuditSource, missed: int, since: float) -> AuditMessage:
    """The trail can be written again; `missed` messages since a time (seconds since the epoch) are not in it."""
    kind = Code("110134", "DCM", "Audit Recording Started")
    words = f"{missed} audit messages since {utc(since)} could not be written"
    return _alert(source, kind, Outcome.SERIOUS_FAILURE, _alert_object("/audit", _URI, words))


def records_retired(source: AuditSource, number: int, days: int) -> AuditMessage:
    """Records up to `number`, older than `days` days, leave the trail."""
    kind = Code("records-retired", OWN_SCHEME, "Audit Records Retired")
    words = f"records up to {number}, older than {days} days, are removed (audit.days)"
    return _alert(source, kind, Outcome.SUCCESS, _alert_object("/audit", _URI, words))


def _authentication(
    source: AuditSource, who: Person, kind: Code, outcome: Outcome = Outcome.SUCCESS, why: str = ""
) -> AuditMessage:
    return AuditMessage(_AUTHENTICATION, "E", (_person(who), _process(source)), (kind,), outcome, why)


def _alert(
    source: AuditSource, kind: Code, outcome: Outcome, about: AuditObject, performer: Participant | None = None
) -> AuditMessage:
    people = (_process(source, requestor=performer is None), *((performer,) if performer else ()))
    return AuditMessage(_ALERT, "E", people, (kind,), outcome, objects=(about,))


def _alert_object(subject: str, id_type: Code, words: str) -> AuditObject:
    return AuditObject(subject, id_type, _SYSTEM, _SECURITY_RESOURCE, details=(("Alert Description", words),))


def _person(who: Person, role: Code | None = None, *, requestor: bool = True) -> Participant:
    return Participant(who.name, requestor, role, who.address, is_account=True)


def _process(
    source: AuditSource, role: Code | None = None, *, requestor: bool = False, ae_titles: tuple[str, ...] = ()
) -> Participant:
    return Participant(source.process, requestor, role, ae_titles=ae_titles)


def _of(stored: StoredResult) -> tuple[AuditObject, ...]:
    subject = stored.subject
    study = _study_object(subject.study_instance_uid or "", details=(("result", stored.id),))
    return (study, _patient_object(subject.patient_id or ""))


def _objects(received: Counter[Received]) -> tuple[AuditObject, ...]:
    studies: dict[str, Counter[str]] = {}
    for one, count in received.items():
        studies.setdefault(one.study_uid, Counter())[one.sop_class_uid] += count
    patients = dict.fromkeys(one.patient_id for one in received)
    return (
        *(_study_object(uid, tuple(sop_classes.items())) for uid, sop_classes in studies.items()),
        *(_patient_object(patient_id) for patient_id in patients),
    )


def _study_object(
    uid: str, sop_classes: tuple[tuple[str, int], ...] = (), details: tuple[tuple[str, str], ...] = ()
) -> AuditObject:
    return AuditObject(uid, _STUDY_UID, _SYSTEM, _REPORT, details=details, sop_classes=sop_classes)


def _patient_object(patient_id: str) -> AuditObject:
    return AuditObject(patient_id, _PATIENT_NUMBER, _PERSON, _PATIENT)
