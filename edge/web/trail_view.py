"""A record of the audit trail as a line that a person reads: when, who, from where, what, about what. Pure."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from xml.etree import ElementTree

from edge.records import Record
from edge.store.audit import AuditRecord
from edge.web.words import id_end, plain

_OUTCOMES = {"0": "", "4": "refused or failed", "8": "failed", "12": "failed, and locked"}
_PATIENT = "1"


class TrailLine(Record, frozen=True, kw_only=True):
    """One record. `outcome` is empty for what went well; `about` never holds more of a patient's id than its end."""

    number: int
    at: float
    who: str
    address: str
    what: str
    outcome: str
    about: tuple[str, ...]


def line_of(record: AuditRecord) -> TrailLine:
    """The line of a record; of one that does not open, that it does not."""
    if record.xml is None:
        unreadable = "This record does not open: it was not sealed by this box."
        return TrailLine(number=record.number, at=record.at, who="", address="", what=unreadable, outcome="", about=())
    root = ElementTree.fromstring(record.xml)  # noqa: S314 - written, and authenticated, by this box
    event = root.find("EventIdentification")
    people = root.findall("ActiveParticipant")
    person = next((one for one in people if one.get("NetworkAccessPointID") or "@" in one.get("UserID", "")), None)
    person = person if person is not None else next(iter(people), None)
    kinds = event.findall("EventTypeCode") or event.findall("EventID") if event is not None else []
    return TrailLine(
        number=record.number,
        at=record.at,
        who=plain(person.get("UserID", "").partition("@")[0]) if person is not None else "",
        address=plain(person.get("NetworkAccessPointID", "")) if person is not None else "",
        what=", ".join(plain(kind.get("originalText", "")) for kind in kinds),
        outcome=_OUTCOMES.get(event.get("EventOutcomeIndicator", "") if event is not None else "", "unknown"),
        about=tuple(filter(None, map(_about, root.findall("ParticipantObjectIdentification")))),
    )


def _about(element: ElementTree.Element) -> str:
    subject = element.get("ParticipantObjectID", "")
    if element.get("ParticipantObjectTypeCode") == _PATIENT:
        end = id_end(subject)
        return f"patient {end}" if end and subject != "<none>" else ""
    details = [_text(detail.get("value", "")) for detail in element.findall("ParticipantObjectDetail")]
    kind = element.find("ParticipantObjectIDTypeCode")
    if kind is not None and kind.get("csd-code") == "110180":  # a study: its UID is the patient's, the result is ours
        return f"result {details[0]}" if details else ""
    return ": ".join(plain(part) for part in (subject, *details) if part and part != "<none>")


def _text(value: str) -> str:
    try:
        return b64decode(value).decode(errors="replace")
    except (NoBase64, ValueError):
        return ""
