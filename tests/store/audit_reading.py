"""Audit messages read back: in a few words for tables, and held to the standard's schema by libxml2."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from collections.abc import Callable, Iterable
from pathlib import Path
from xml.etree import ElementTree

SCHEMA = Path(__file__).parent / "audit_message.rng"


def in_words(xml: str) -> str:
    """Event, action and outcome; who took part (`*` the requestor, roles in brackets); what it was about."""
    root = ElementTree.fromstring(xml)
    event = root.find("EventIdentification")
    assert event is not None
    names = [code.attrib["originalText"] for code in event if code.tag != "EventOutcomeDescription"]
    said = event.findtext("EventOutcomeDescription")
    head = f"{': '.join(names)} {event.attrib['EventActionCode']} {event.attrib['EventOutcomeIndicator']}"
    people = ", ".join(map(_participant, root.findall("ActiveParticipant")))
    about = [_object(found) for found in root.findall("ParticipantObjectIdentification")]
    return " | ".join([head + (f" ({said})" if said else ""), people, *about])


def assert_valid(messages: Iterable[str], folder: Path, program: Callable[[str], str]) -> None:
    """Each is valid against PS3.15 A.5.1.1's schema."""
    files = []
    for number, xml in enumerate(messages):
        files.append(folder / f"{number}.xml")
        files[-1].write_text(xml, encoding="utf-8")
    assert files
    command = [program("xmllint"), "--noout", "--relaxng", str(SCHEMA), *map(str, files)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _participant(found: ElementTree.Element) -> str:
    text = found.attrib["UserID"] + ("*" if found.attrib["UserIsRequestor"] == "true" else "")
    text += "".join(f" [{role.attrib['originalText']}]" for role in found.findall("RoleIDCode"))
    text += "".join(
        f" {found.attrib[name]}" for name in ("AlternativeUserID", "NetworkAccessPointID") if name in found.attrib
    )
    media = found.find("MediaIdentifier/MediaType")
    return text + (f" on {media.attrib['originalText']}" if media is not None else "")


def _object(found: ElementTree.Element) -> str:
    code = found.find("ParticipantObjectIDTypeCode")
    assert code is not None
    kind, role = found.attrib["ParticipantObjectTypeCode"], found.attrib["ParticipantObjectTypeCodeRole"]
    text = f"{code.attrib['originalText']} {kind}/{role} {found.attrib['ParticipantObjectID']}"
    if name := found.findtext("ParticipantObjectName"):
        text += f" '{name}'"
    if query := found.findtext("ParticipantObjectQuery"):
        text += f" ?{b64decode(query).decode()}"
    for detail in found.findall("ParticipantObjectDetail"):
        text += f" {detail.attrib['type']}={b64decode(detail.attrib['value']).decode()}"
    for sop in found.findall("ParticipantObjectDescription/SOPClass"):
        text += f" {sop.attrib['NumberOfInstances']}x{sop.attrib.get('UID', '')}"
    return text
