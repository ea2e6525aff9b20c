"""A record of the audit trail as a line that a person reads: when, who, from where, what, about what.

In plain words of the reader's language; `scanside audit export` has the standard's own.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as NoBase64
from xml.etree import ElementTree

from edge.records import Record
from edge.store.audit import AuditRecord
from edge.web.languages import gettext, listed, mark
from edge.web.retelling import retold
from edge.web.words import id_end, plain

_OUTCOMES = {"0": "", "4": mark("refused or failed"), "8": mark("failed"), "12": mark("failed, and locked")}
_WHAT = {
    "110120": mark("Service started"),
    "110121": mark("Service stopped"),
    "110122": mark("Signed in"),
    "110123": mark("Signed out"),
    "110101": mark("Audit trail read"),
    "110103": mark("Result and image seen"),
    "110104": mark("Images received"),
    "110106": mark("Image taken off the box"),
    "110107": mark("Image brought by hand or folder"),
    "110112": mark("List of results seen"),
    "110126": mark("Sender refused"),
    "110132": mark("Not allowed"),
    "110134": mark("Audit trail resumed after a gap"),
    "110137": mark("Account, session or token changed"),
    "acknowledge-agree": mark("Result answered: agrees"),
    "acknowledge-disagree": mark("Result answered: disagrees"),
    "acknowledge-unsure": mark("Result answered: unsure"),
    "acknowledge-repeated": mark("Result answered: image repeated"),
    "records-retired": mark("Old audit records removed"),
    "backup": mark("Backup of the whole box begun"),
    "restore": mark("Whole box restored from a backup"),
    "factory-reset": mark("Factory reset begun"),
}
"""What happened, by the code that says it most precisely (`edge/store/audit/actions.py`)."""

_DETAILS = (
    mark("refused: not for this role"),
    mark("refused: not in the token's scopes"),
    mark("created, role %(role)s"),
    mark("created with the first-boot code, role %(role)s"),
    mark("password changed"),
    mark("removed"),
    mark("a session ended by hand"),
    mark("API token made: %(scopes)s"),
    mark("API token revoked: %(token)s"),
    mark("%(count)s audit messages since %(time)s could not be written"),
    mark("records up to %(number)s, older than %(days)s days, are removed (audit.days)"),
    *_WHAT.values(),
)
"""What is written down with it, as far as it is the box's own words."""

_UNKNOWN = mark("unknown")
_PATIENT = "1"
_LONGEST = 120
"""Characters of what the box itself has written down."""


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
        unreadable = gettext("This record does not open: it was not sealed by this box.")
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
        what=listed(_what(kind) for kind in kinds),
        outcome=gettext(_OUTCOMES.get(event.get("EventOutcomeIndicator", "") if event is not None else "", _UNKNOWN)),
        about=tuple(filter(None, map(_about, root.findall("ParticipantObjectIdentification")))),
    )


def _what(kind: ElementTree.Element) -> str:
    known = _WHAT.get(kind.get("csd-code", ""))
    return gettext(known) if known else plain(kind.get("originalText", ""))


def _about(element: ElementTree.Element) -> str:
    subject = element.get("ParticipantObjectID", "")
    if element.get("ParticipantObjectTypeCode") == _PATIENT:
        end = id_end(subject)
        return gettext("patient %(end)s", end=end) if end and subject != "<none>" else ""
    details = [_text(detail.get("value", "")) for detail in element.findall("ParticipantObjectDetail")]
    kind = element.find("ParticipantObjectIDTypeCode")
    if kind is not None and kind.get("csd-code") == "110180":  # a study: its UID is the patient's, the result is ours
        return gettext("result %(id)s", id=details[0]) if details else ""
    words = (plain(subject), *(plain(retold(detail, _DETAILS), _LONGEST) for detail in details))
    return ": ".join(part for part in words if part and part != "<none>")


def _text(value: str) -> str:
    try:
        return b64decode(value).decode(errors="replace")
    except (NoBase64, ValueError):
        return ""
