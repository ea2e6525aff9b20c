"""Commands: what a fleet orders of a box, signed, and the document in which the box says what became of it.

An order is JSON text; the signature is over that very text, so nothing has to be brought into a canonical form. The
console signs one order for each box (`sign`) and publishes the document, retained, on the order's topic. The box
publishes the whole document anew with each next status; only who ordered clears it, with an empty message.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from edge import signature
from edge.messages.summary import LATEST
from edge.messages.topics import Channel, Topic
from edge.messages.types import Identifier, Reason, Time
from edge.records import Record

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LARGEST = 16 * 1024
"""Bytes of the largest document."""

LONGEST_LIFE = 7 * 86400.0
"""Seconds from `issued_at` to `not_after`, at most: so what a box must remember to take no order twice is bounded."""

AHEAD = 3600.0
"""Seconds that an order's `issued_at` may lie ahead of a box whose clock is right."""

_PURPOSE = "scanside.order/1"
"""Of the signature."""

ServiceName = Literal["intake", "inference", "web", "sync", "audit", "reporting"]
Version = Annotated[int, msgspec.Meta(ge=1, le=(1 << 53) - 1)]
Words = Annotated[str, msgspec.Meta(max_length=200)]
Number = Annotated[int, msgspec.Meta(ge=-(1 << 53) + 1, le=(1 << 53) - 1)]


class HealthCheck(Record, frozen=True, kw_only=True, tag="health-check", tag_field="operation"):
    """Say health now, and say it whole: state, services, figures."""


class Restart(Record, frozen=True, kw_only=True, tag="restart", tag_field="operation"):
    """End one service's process in good order; successful once its next one is up."""

    service: ServiceName


class Setting(Record, frozen=True, kw_only=True):
    """A key of the configuration with dots (`inference.operating_point`) and its value; null stands for absent."""

    key: Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{1,40}(\.[a-z_]{1,40}){0,3}$")]
    value: bool | Number | float | Words | None


class Configure(Record, frozen=True, kw_only=True, tag="configure", tag_field="operation"):
    """Let exactly these settings stand over the box's own file; all others are the file's again.

    Attributes:
        version: Higher than the one in force: the box refuses every other.
        settings: A box takes those keys that its capability lists.
    """

    version: Version
    settings: Annotated[tuple[Setting, ...], msgspec.Meta(max_length=64)]


class OperatingPoint(Record, frozen=True, kw_only=True, tag="operating-point", tag_field="operation"):
    """Use another operating point of the bundles; every other setting stays.

    Attributes:
        version: As in `configure`; one count for both.
        name: One that the box's bundle has; null for each bundle's default.
    """

    version: Version
    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_-]{0,63}$")] | None


class LogExcerpt(Record, frozen=True, kw_only=True, tag="log-excerpt", tag_field="operation"):
    """The newest errors of each service: numbers and words of the catalogue, nothing that a file or sender brought."""

    most: Annotated[int, msgspec.Meta(ge=1, le=50)]


class SelfTest(Record, frozen=True, kw_only=True, tag="self-test", tag_field="operation"):
    """Check everything that can be wrong with the box, its models' answers to golden inputs included."""


Work = HealthCheck | Restart | Configure | OperatingPoint | LogExcerpt | SelfTest
OPERATIONS: dict[str, type[Work]] = {
    kind.__struct_config__.tag: kind  # type: ignore[misc]
    for kind in (HealthCheck, Restart, Configure, OperatingPoint, LogExcerpt, SelfTest)
}
"""Every operation of the contract by its name, which is the topic's `name` too."""


class Order(Record, frozen=True, kw_only=True):
    """What is signed: one piece of work for one box.

    Attributes:
        id: Random; the topic's `id` too. A box takes an id once.
        site: Whose it is; another box refuses it.
        box: Likewise.
        issued_at: When it was signed.
        not_after: From then on it is too late to begin; at most a week after `issued_at`.
        timeout_seconds: How long the box may take from when it begins; then it says `failed`.
        work: What is to be done.
    """

    schema: Literal["scanside.order/1"] = "scanside.order/1"
    id: Identifier
    site: Identifier
    box: Identifier
    issued_at: Time
    not_after: Time
    timeout_seconds: Annotated[int, msgspec.Meta(ge=1, le=3600)]
    work: Work


class Line(Record, frozen=True, kw_only=True):
    """One line of an answer.

    Attributes:
        name: What it is about: an event's number (`SC505`), a check, a service.
        well: Whether that is as it should be.
        text: Plain words out of an allow-list; never a value that an image, a sender or a file brought.
        count: How often, for events; else 1.
    """

    name: Annotated[str, msgspec.Meta(max_length=80)]
    well: bool
    text: Annotated[str, msgspec.Meta(max_length=400)]
    count: Annotated[int, msgspec.Meta(ge=0)]


class Status(StrEnum):
    """How far a command is. The last two are ends."""

    INIT = "init"
    EXECUTING = "executing"
    SUCCESSFUL = "successful"
    FAILED = "failed"


class Command(Record, frozen=True, kw_only=True):
    """The document on `<box>/-/cmd/<operation>/<id>`, retained.

    Attributes:
        order: The order's JSON text, exactly as it was signed; empty where a box refuses what it could not read.
        signature: Ed25519 (RFC 8032) over `scanside.order/1`, a zero byte and `order` in UTF-8, in base64.
        status: `init` is the console's word, all others are the box's.
        reason: Why it failed, else empty.
        ts: When this status was entered, by the clock of who says it.
        lines: The answer, of what has one.
    """

    schema: Literal["scanside.command/1"] = "scanside.command/1"
    order: Annotated[str, msgspec.Meta(max_length=LARGEST)]
    signature: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9+/]{86}==)?$")]
    status: Literal["init", "executing", "successful", "failed"]
    reason: Reason
    ts: Time
    lines: Annotated[tuple[Line, ...], msgspec.Meta(max_length=200)]


class Capability(Record, frozen=True, kw_only=True):
    """On `<box>/-/cmd/<operation>/-`, retained: the box can do this. Cleared, it cannot.

    Attributes:
        operation: One of the contract's.
        choices: What its argument may name: services to restart, settings to configure; empty where it needs none.
    """

    schema: Literal["scanside.capability/1"] = "scanside.capability/1"
    operation: Identifier
    choices: tuple[str, ...]


class Reported(Record, frozen=True, kw_only=True):
    """On `<box>/-/shadow/reported/-`, retained: which of the fleet's settings stand over the box's own file.

    Attributes:
        version: Of the order that made them; 0 where none has.
        state: `trying` until the box has come up with them.
        settings: All of them.
    """

    schema: Literal["scanside.reported/1"] = "scanside.reported/1"
    version: Annotated[int, msgspec.Meta(ge=0)]
    state: Literal["standing", "trying"]
    settings: tuple[Setting, ...]


class Refusal(StrEnum):
    """Why a box does not take a document, in the words of its answer's `reason`."""

    UNREADABLE = "not a command document of the contract"
    UNSIGNED = "not signed by a key of this fleet"
    INVALID = "the order is not one of the contract"
    UNKNOWN_OPERATION = "this box does not know the operation"
    FOREIGN = "for another box or topic"
    TOO_LATE = "too late by its not-after"
    TOO_LONG = "valid for longer than a week or for no time"
    FROM_THE_FUTURE = "issued in the future"
    CANNOT = "this box cannot do that now"


class _Named(msgspec.Struct):
    operation: str


class _Working(msgspec.Struct):
    work: _Named


def topic(order: Order) -> Topic:
    """Where the document of an order is published, retained, with QoS 1."""
    name = _operation(order.work)
    return Topic(site=order.site, box=order.box, channel=Channel.COMMAND, name=name, id=order.id)


def sign(order: Order, key: Ed25519PrivateKey, now: float) -> Command:
    """The document with which a fleet orders: publish it on `topic(order)`.

    Args:
        order: What is to be done; its id must be new.
        key: The fleet's.
        now: Seconds since the epoch.
    """
    text = msgspec.json.encode(order).decode()
    signed = signature.sign(_PURPOSE, text, key)
    return Command(order=text, signature=signed, status="init", reason="", ts=time(now), lines=())


def read(payload: bytes) -> Command | Refusal:
    """A document out of a message, valid by its schema; whether it may be obeyed says `check`. Never raises."""
    if len(payload) > LARGEST:
        return Refusal.UNREADABLE
    try:
        return msgspec.json.decode(payload, type=Command)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        return Refusal.UNREADABLE


def check(
    command: Command, address: Topic, keys: Iterable[bytes], now: float, *, synchronised: bool, since: float = 0.0
) -> Order | Refusal:
    """The order of a document if this is the box that may obey it now, else why not. Never raises.

    Nothing of the order is read before its signature holds.

    Args:
        command: The document.
        address: The topic on which it came, under this box's own name.
        keys: The fleet's public keys, PEM (Ed25519); one that cannot be read counts for nothing.
        now: Seconds since the epoch, by the box's clock, or when the newest order was signed that it has taken,
            whichever is later: a clock that fell back makes no old order young.
        synchronised: Whether that clock is known to be right.
        since: From when on the box knows what it was ordered: what was issued before, it may have obeyed already.
    """
    if not signature.is_signed(_PURPOSE, command.order, command.signature, keys):
        return Refusal.UNSIGNED
    order = read_order(command.order)
    if isinstance(order, Refusal):
        return order
    if str(topic(order)) != str(address):
        return Refusal.FOREIGN
    issued, not_after = order.issued_at.timestamp(), order.not_after.timestamp()
    if not 0 < not_after - issued <= LONGEST_LIFE:
        return Refusal.TOO_LONG
    if synchronised and issued > now + AHEAD:
        return Refusal.FROM_THE_FUTURE
    return Refusal.TOO_LATE if not_after <= now or issued < since else order


def read_order(text: str) -> Order | Refusal:
    """The order out of its text, whose signature has been checked. Never raises."""
    try:
        return msgspec.json.decode(text, type=Order)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        pass
    try:
        named = msgspec.json.decode(text, type=_Working).work.operation
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
        return Refusal.INVALID
    return Refusal.INVALID if named in OPERATIONS else Refusal.UNKNOWN_OPERATION


def _operation(work: Work) -> str:
    return str(type(work).__struct_config__.tag)


def time(now: float) -> datetime:
    """Seconds since the epoch as documents carry them."""
    return datetime.fromtimestamp(int(max(0.0, min(now, LATEST))), UTC)
