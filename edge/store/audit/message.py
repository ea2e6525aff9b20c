"""DICOM audit messages as XML (PS3.15 A.5.1.1, which descends from RFC 3881): the parts of one, and how it is written.

Names of elements and attributes, and their order, are the schema's. What an action of this box is as a message stands
in `actions.py`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import UTC, datetime
from enum import IntEnum
from ipaddress import ip_address
from typing import NamedTuple
from xml.etree import ElementTree

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST = 1024
"""What a stranger wrote is cut here: names, titles and UIDs are shorter."""

NOT_KNOWN = "<none>"
"""Stands for an id that the schema asks for and nobody stated, such as the Patient ID of a photographed film."""


class Code(NamedTuple):
    """A coded value (CodedValueType): `DCM` codes are those of PS3.16 annex D."""

    value: str
    scheme: str
    meaning: str


class Outcome(IntEnum):
    """EventOutcomeIndicator (table A.5.2-1)."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


class Participant(NamedTuple):
    """An ActiveParticipant: a person, a process, or a medium.

    Attributes:
        user_id: As A.5.2.1 asks: an account of this box, a process as the logs call it, or where the data come from.
        requestor: Whether the event began with this one; at most one participant of a message.
        role: RoleIDCode.
        address: NetworkAccessPointID, an IP address or a name; empty when there is none.
        ae_titles: The AE titles under which a DICOM application took part (A.5.2.2).
        media: MediaType, of a medium.
        is_account: Whether `user_id` is an account, and so becomes `name@box.site`.
    """

    user_id: str
    requestor: bool
    role: Code | None = None
    address: str = ""
    ae_titles: tuple[str, ...] = ()
    media: Code | None = None
    is_account: bool = False


class AuditObject(NamedTuple):
    """A ParticipantObjectIdentification: a study, a patient, a query, an account.

    Attributes:
        id: ParticipantObjectID; `NOT_KNOWN` when empty.
        id_type: ParticipantObjectIDTypeCode: what kind of id that is.
        kind: ParticipantObjectTypeCode: 1 a person, 2 a system object.
        role: ParticipantObjectTypeCodeRole (A.5.1.2.2).
        name: ParticipantObjectName.
        query: ParticipantObjectQuery, in place of the name.
        details: Pairs of type and value (ParticipantObjectDetail).
        sop_classes: SOP Class UIDs, each with a number of instances.
    """

    id: str
    id_type: Code
    kind: int
    role: int
    name: str = ""
    query: str | None = None
    details: tuple[tuple[str, str], ...] = ()
    sop_classes: tuple[tuple[str, int], ...] = ()


class AuditMessage(NamedTuple):
    """One audit message, but for when and by whom it is reported.

    Attributes:
        event: EventID.
        action: EventActionCode: C, R, U, D or E.
        participants: Who or what took part, one at least.
        types: EventTypeCode.
        outcome: How it went.
        description: EventOutcomeDescription; none when empty.
        objects: What it was about.
    """

    event: Code
    action: str
    participants: tuple[Participant, ...]
    types: tuple[Code, ...] = ()
    outcome: Outcome = Outcome.SUCCESS
    description: str = ""
    objects: tuple[AuditObject, ...] = ()


class AuditSource(NamedTuple):
    """What reports: this box's site and name, and one of its services (or `cli`)."""

    site: str
    box: str
    service: str

    @property
    def process(self) -> str:
        """The process as its unit and the logs name it."""
        return f"scanside-{self.service}"


def to_xml(message: AuditMessage, source: AuditSource, at: float) -> str:
    """The message in one line, without an XML declaration: it is UTF-8 wherever it goes.

    Args:
        message: What happened.
        source: What reports it.
        at: When, seconds since the epoch; written in UTC.
    """
    root = ElementTree.Element("AuditMessage")
    event = _add(
        root,
        "EventIdentification",
        EventActionCode=message.action,
        EventDateTime=utc(at),
        EventOutcomeIndicator=str(int(message.outcome)),
    )
    _add_code(event, "EventID", message.event)
    for code in message.types:
        _add_code(event, "EventTypeCode", code)
    if message.description:
        _add(event, "EventOutcomeDescription").text = _clean(message.description)
    for participant in message.participants:
        _add_participant(root, participant, source)
    reporter = _add(root, "AuditSourceIdentification", AuditEnterpriseSiteID=source.site, AuditSourceID=source.box)
    # A.5.1.2.1: 3 is a web server's process, 4 an application server's.
    _add(reporter, "AuditSourceTypeCode", **{"csd-code": "3" if source.service == "web" else "4"})
    for about in message.objects:
        _add_object(root, about)
    return ElementTree.tostring(root, encoding="unicode")


def utc(at: float) -> str:
    """Seconds since the epoch as xsd:dateTime and RFC 3339 write them, in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _add_participant(root: ElementTree.Element, participant: Participant, source: AuditSource) -> None:
    user_id = participant.user_id or NOT_KNOWN
    attributes = {"UserID": f"{user_id}@{source.box}.{source.site}" if participant.is_account else user_id}
    if participant.ae_titles:
        attributes["AlternativeUserID"] = "AETITLES=" + ";".join(participant.ae_titles)
    attributes["UserIsRequestor"] = "true" if participant.requestor else "false"
    if participant.address:
        attributes["NetworkAccessPointID"] = participant.address
        attributes["NetworkAccessPointTypeCode"] = "2" if _is_ip(participant.address) else "1"
    element = _add(root, "ActiveParticipant", **attributes)
    if participant.role:
        _add_code(element, "RoleIDCode", participant.role)
    if participant.media:
        _add_code(_add(element, "MediaIdentifier"), "MediaType", participant.media)


def _add_object(root: ElementTree.Element, about: AuditObject) -> None:
    element = _add(
        root,
        "ParticipantObjectIdentification",
        ParticipantObjectID=about.id or NOT_KNOWN,
        ParticipantObjectTypeCode=str(about.kind),
        ParticipantObjectTypeCodeRole=str(about.role),
    )
    _add_code(element, "ParticipantObjectIDTypeCode", about.id_type)
    if about.query is None:
        _add(element, "ParticipantObjectName").text = _clean(about.name)
    else:
        _add(element, "ParticipantObjectQuery").text = _base64(about.query)
    for kind, value in about.details:
        _add(element, "ParticipantObjectDetail", type=kind, value=_base64(value))
    if about.sop_classes:
        description = _add(element, "ParticipantObjectDescription")
        for uid, count in about.sop_classes:
            _add(description, "SOPClass", UID=uid, NumberOfInstances=str(count))


def _add_code(above: ElementTree.Element, name: str, code: Code) -> None:
    _add(above, name, **{"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning})


def _add(above: ElementTree.Element, name: str, **attributes: str) -> ElementTree.Element:
    cleaned = {key: _clean(value) for key, value in attributes.items()}
    return ElementTree.SubElement(above, name, {key: value for key, value in cleaned.items() if key != "UID" or value})


def _clean(text: str) -> str:
    """Text as XML 1.0 may hold it (2.2), in one line; only a query, which is in base64, is kept as it was."""
    return " ".join(_NOT_IN_XML.sub("?", text).split())[:_LONGEST]


def _base64(text: str) -> str:
    return b64encode(text.encode("utf-8", "replace")).decode("ascii")


def _is_ip(address: str) -> bool:
    try:
        ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return True
