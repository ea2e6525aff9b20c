"""What a message says, or why it is kept apart. Pure, and it never raises, whatever comes."""

from __future__ import annotations

import re
from datetime import date
from enum import StrEnum
from typing import NamedTuple

import msgspec

from edge.messages.aggregate import Aggregate
from edge.messages.commands import Reported
from edge.messages.topics import UNUSED, Channel, Topic, TopicError, parse
from edge.messages.types import About, AuditHead, Events, Health, ServiceState, State
from edge.records import Record, Summary

LARGEST = 64 * 1024
"""Bytes of the largest message: the contract's are below 16 KiB."""

Message = State | About | ServiceState | Health | Events | AuditHead | Reported | Summary | Aggregate

_KINDS: dict[tuple[str, Channel, str], type[Message]] = {
    (UNUSED, Channel.STATUS, "state"): State,
    (UNUSED, Channel.STATUS, "about"): About,
    (UNUSED, Channel.MEASUREMENT, "health"): Health,
    (UNUSED, Channel.MEASUREMENT, "events"): Events,
    (UNUSED, Channel.MEASUREMENT, "audit"): AuditHead,
    (UNUSED, Channel.SHADOW, "reported"): Reported,
    ("inference", Channel.MEASUREMENT, "aggregate"): Aggregate,
    ("inference", Channel.FINDING, "image"): Summary,
}
_BY_ID = (Summary, Aggregate)

_HOUR = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])")
_TENTH = re.compile(r"0\.[0-9]")
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9:._+-]{0,79}")
_MOST = 1 << 53
_UNREADABLE = (msgspec.MsgspecError, RecursionError, ValueError, OverflowError)


class Why(StrEnum):
    """Why a message is kept apart."""

    TOPIC = "topic not in the contract"
    TOO_LARGE = "too large"
    NOT_JSON = "not JSON"
    UNKNOWN_SCHEMA = "schema not known here"
    INVALID = "breaks its schema"
    FOREIGN = "does not belong to its topic"
    UNSTORABLE = "refused by the database"


class Said(NamedTuple):
    """What a box said."""

    site: str
    box: str
    message: Message


class Apart(NamedTuple):
    """A message that is kept apart."""

    topic: str
    payload: bytes
    why: Why


class _Named(msgspec.Struct):
    schema: str


def read(topic: str, payload: bytes) -> Said | Apart | None:
    """What the message says; None for an empty one, with which a retained message is withdrawn (MQTT 5, 3.3.1.3)."""
    if not payload:
        return None
    read_as = _read(topic, payload)
    return read_as if isinstance(read_as, Said) else Apart(topic, payload[:LARGEST], read_as)


def _read(topic: str, payload: bytes) -> Said | Why:
    if len(payload) > LARGEST:
        return Why.TOO_LARGE
    try:
        address = parse(topic)
    except TopicError:
        return Why.TOPIC
    if (kind := _kind(address)) is None:
        return Why.TOPIC
    try:
        message = msgspec.json.decode(payload, type=kind)
    except _UNREADABLE:
        return _why(payload, kind)
    if not _belongs(message, address):
        return Why.FOREIGN
    return Said(address.site, address.box, message) if _storable(message) else Why.INVALID


def _kind(address: Topic) -> type[Message] | None:
    if address.service != UNUSED and (address.channel, address.name) == (Channel.STATUS, "health"):
        kind: type[Message] | None = ServiceState
    else:
        kind = _KINDS.get((address.service, address.channel, address.name))
    return kind if kind in _BY_ID or address.id == UNUSED else None


def _why(payload: bytes, kind: type[Record]) -> Why:
    try:
        named = msgspec.json.decode(payload, type=_Named)
    except msgspec.ValidationError:
        return Why.INVALID
    except _UNREADABLE:
        return Why.NOT_JSON
    return Why.INVALID if named.schema == msgspec.structs.fields(kind)[0].default else Why.UNKNOWN_SCHEMA


def _belongs(message: Message, address: Topic) -> bool:
    if isinstance(message, ServiceState):
        return message.service == address.service
    return not isinstance(message, _BY_ID) or message.message_id == address.id


def _storable(message: Message) -> bool:
    """What the schemas leave open: the form of words in a summary, which days there are, how large a number may be."""
    if isinstance(message, Health):
        waiting = [queue for queue in (message.queue, message.outbox) if queue]
        numbers = [message.seq, message.uptime_seconds, message.disk.total_bytes, message.disk.free_bytes]
        numbers += [figure for queue in waiting for figure in (queue.depth, queue.oldest_seconds or 0)]
        return max(numbers) <= _MOST
    if isinstance(message, Events):
        return all(max(one.number, one.count) <= _MOST for one in message.events)
    if isinstance(message, AuditHead):
        return message.number <= _MOST
    if isinstance(message, Aggregate):
        scores = (one.name for table in message.histograms if table.statistic == "scores" for one in table.bins)
        return _is_day(message.day) and all(_TENTH.fullmatch(name) for name in scores)
    if not isinstance(message, Summary):
        return True
    words = [*message.quality]
    if message.model:
        words += [message.model.id, message.model.version]
    wordy = all(_WORD.fullmatch(word) for word in words)
    return wordy and (message.hour is None or bool(_HOUR.fullmatch(message.hour))) and 0 <= message.latency_ms <= _MOST


def _is_day(text: str) -> bool:
    try:
        return bool(date.fromisoformat(text))
    except ValueError:
        return False
