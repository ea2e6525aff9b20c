"""The topic grammar: `scanside/1/<site>/<box>/<service>/<channel>/<name>/<id>`, always eight levels, `-` when unused.

All topics have one depth: one wildcard reads one kind of message of a whole fleet, and to parse is to split on `/`.
"""

from __future__ import annotations

import re
from enum import StrEnum

from edge.records import Record

ROOT = "scanside"
VERSION = "1"
UNUSED = "-"

_IDENTIFIER = re.compile(r"[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?")


class TopicError(ValueError):
    """A topic that the grammar does not know."""


class Channel(StrEnum):
    """What kind of thing a topic carries."""

    STATUS = "status"
    MEASUREMENT = "m"
    FINDING = "find"
    COMMAND = "cmd"
    SHADOW = "shadow"


class Topic(Record, frozen=True, kw_only=True):
    """One topic: valid once it exists. `str(topic)` is its MQTT form.

    Attributes:
        site: The clinic.
        box: The box at the clinic.
        service: The box's service that it comes from; `-` for the box as a whole.
        channel: What kind of thing it carries.
        name: Which one; `-` when the channel says it all.
        id: One message or one request among its kind; `-` for the only one.

    Raises:
        TopicError: A level is not made of a-z, 0-9 and inner `-`, at most 64 characters.
    """

    site: str
    box: str
    service: str = UNUSED
    channel: Channel
    name: str = UNUSED
    id: str = UNUSED

    def __post_init__(self) -> None:
        for level, value in (("site", self.site), ("box", self.box)):
            _check(level, value)
        for level, value in (("service", self.service), ("name", self.name), ("id", self.id)):
            if value != UNUSED:
                _check(level, value)

    def __str__(self) -> str:
        levels = (ROOT, VERSION, self.site, self.box, self.service, self.channel.value, self.name, self.id)
        return "/".join(levels)


def parse(text: str) -> Topic:
    """Read a topic. `str(parse(text)) == text` for each text that it accepts.

    Raises:
        TopicError: It does not follow the grammar.
    """
    levels = text.split("/")
    if len(levels) != 8 or levels[:2] != [ROOT, VERSION]:
        raise TopicError(f"topic {text[:200]!r}: must be {ROOT}/{VERSION}/ and six levels more")
    site, box, service, channel, name, identifier = levels[2:]
    try:
        kind = Channel(channel)
    except ValueError as error:
        known = ", ".join(Channel)
        raise TopicError(f"topic {text[:200]!r}: channel {channel!r} must be one of {known}") from error
    return Topic(site=site, box=box, service=service, channel=kind, name=name, id=identifier)


def is_identifier(text: str) -> bool:
    """Whether a text may stand as a level of a topic: 1 to 64 of a-z, 0-9 and inner `-`."""
    return _IDENTIFIER.fullmatch(text) is not None


def _check(level: str, value: str) -> None:
    if not is_identifier(value):
        raise TopicError(f"{level} {value[:80]!r}: must be 1 to 64 of a-z, 0-9 and inner -")
