"""Orders: what a box may obey, and that whatever else comes is refused with its reason."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from edge.messages.commands import (
    AHEAD,
    LARGEST,
    LONGEST_LIFE,
    OPERATIONS,
    Command,
    Configure,
    HealthCheck,
    LogExcerpt,
    OperatingPoint,
    Order,
    Refusal,
    Restart,
    SelfTest,
    Setting,
    Work,
    check,
    read,
    sign,
    topic,
)
from tests.messages.schemas import check as check_schema

KEY = Ed25519PrivateKey.generate()
PEM = KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
OTHER_PEM = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
CURVE_PEM = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
ISSUED = datetime(2026, 11, 26, 12, tzinfo=UTC)
NOW = ISSUED.timestamp()
WORKS: list[Work] = [
    HealthCheck(),
    Restart(service="web"),
    Configure(version=1, settings=(Setting(key="inference.operating_point", value="screening"),)),
    OperatingPoint(version=2, name=None),
    LogExcerpt(most=20),
    SelfTest(),
]


def order(work: Work = WORKS[1], **changed: object) -> Order:
    """A good order, but for what is changed."""
    fields: dict[str, object] = {
        "id": "0123abcd",
        "site": "clinic",
        "box": "box-1",
        "issued_at": ISSUED,
        "not_after": ISSUED + timedelta(hours=1),
        "timeout_seconds": 60,
        "work": work,
    }
    return Order(**(fields | changed))  # type: ignore[arg-type]


def _verdict(command: Command, now: float = NOW, *, synchronised: bool = True, to: Order | None = None) -> object:
    return check(command, topic(to or order()), [PEM], now, synchronised=synchronised)


@pytest.mark.parametrize("work", WORKS, ids=lambda work: type(work).__name__)
def test_what_is_signed_is_read_as_it_was(work: Work) -> None:
    one = order(work)
    payload = msgspec.json.encode(sign(one, KEY, NOW))
    check_schema("command", payload)
    check_schema("order", msgspec.json.encode(one))
    command = read(payload)
    assert isinstance(command, Command)
    assert command.status == "init"
    assert check(command, topic(one), [b"no key", CURVE_PEM, OTHER_PEM, PEM], NOW, synchronised=True) == one


def test_each_operation_has_its_topic() -> None:
    assert {topic(order(work)).name for work in WORKS} == set(OPERATIONS)
    assert str(topic(order())) == "scanside/1/clinic/box-1/-/cmd/restart/0123abcd"


@pytest.mark.parametrize(
    ("changed", "now", "synchronised", "verdict"),
    [
        ({}, NOW, True, None),
        ({}, NOW + 3599, True, None),
        ({}, NOW + 3600, True, Refusal.TOO_LATE),
        ({}, NOW + 3600, False, Refusal.TOO_LATE),
        ({}, NOW - AHEAD, True, None),
        ({}, NOW - AHEAD - 1, True, Refusal.FROM_THE_FUTURE),
        ({}, 0.0, False, None),  # a box without a clock obeys what is newer than all that it has obeyed
        ({"not_after": ISSUED}, NOW, True, Refusal.TOO_LONG),
        ({"not_after": ISSUED - timedelta(days=1)}, NOW, True, Refusal.TOO_LONG),
        ({"not_after": ISSUED + timedelta(seconds=LONGEST_LIFE)}, NOW, True, None),
        ({"not_after": ISSUED + timedelta(seconds=LONGEST_LIFE + 1)}, NOW, True, Refusal.TOO_LONG),
        ({"site": "another"}, NOW, True, Refusal.FOREIGN),
        ({"box": "box-2"}, NOW, True, Refusal.FOREIGN),
        ({"id": "4567"}, NOW, True, Refusal.FOREIGN),
        ({"work": HealthCheck()}, NOW, True, Refusal.FOREIGN),
    ],
)
def test_when_and_by_whom_an_order_is_obeyed(
    changed: dict[str, object], now: float, synchronised: bool, verdict: Refusal | None
) -> None:
    """CMD-EXPIRY-01 CMD-REFUSE-01"""
    one = order(**changed)  # type: ignore[arg-type]
    assert _verdict(sign(one, KEY, NOW), now, synchronised=synchronised) == (verdict or one)


def test_another_key_is_no_key_of_the_fleet() -> None:
    """CMD-SIGN-01"""
    assert _verdict(sign(order(), Ed25519PrivateKey.generate(), NOW)) == Refusal.UNSIGNED
    assert _verdict(msgspec.structs.replace(sign(order(), KEY, NOW), signature="")) == Refusal.UNSIGNED
    assert check(sign(order(), KEY, NOW), topic(order()), [], NOW, synchronised=True) == Refusal.UNSIGNED


@given(st.data())
def test_no_character_of_a_signed_order_can_be_changed(data: st.DataObject) -> None:
    """CMD-SIGN-01"""
    command = sign(order(), KEY, NOW)
    place = data.draw(st.integers(0, len(command.order) - 1))
    other = data.draw(st.characters(codec="ascii").filter(lambda character: character != command.order[place]))
    changed = command.order[:place] + other + command.order[place + 1 :]
    assert _verdict(msgspec.structs.replace(command, order=changed)) == Refusal.UNSIGNED


def _signed_text(text: str) -> Command:
    """Signed by the fleet, whatever it says."""

    document = sign(order(), KEY, NOW)

    signature = base64.b64encode(KEY.sign(b"scanside.order/1\0" + text.encode())).decode()
    return msgspec.structs.replace(document, order=text, signature=signature)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", Refusal.INVALID),
        ("[" * 5000, Refusal.INVALID),
        ("{}", Refusal.INVALID),
        ('{"work":{"operation":"restart"}}', Refusal.INVALID),
        ('{"work":{"operation":"format-disk"}}', Refusal.UNKNOWN_OPERATION),
    ],
)
def test_what_is_signed_and_still_no_order(text: str, verdict: Refusal) -> None:
    assert _verdict(_signed_text(text)) == verdict


def test_an_order_of_another_version_is_not_for_us() -> None:
    text = msgspec.json.encode(order()).decode().replace("scanside.order/1", "scanside.order/2")
    assert _verdict(_signed_text(text)) == Refusal.INVALID


GOOD = msgspec.json.encode(sign(order(), KEY, NOW))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b"null",
        b"\xff",
        b"[" * 9000,
        GOOD[:-1],
        GOOD + b"x",
        GOOD.replace(b'"init"', b'"begun"'),
        b"x" * (LARGEST + 1),
    ],
)
def test_what_is_no_document(payload: bytes) -> None:
    assert read(payload) == Refusal.UNREADABLE


@given(
    st.binary(max_size=400)
    | st.integers(0, len(GOOD) - 1).flatmap(
        lambda n: st.binary(min_size=1, max_size=3).map(lambda b: GOOD[:n] + b + GOOD[n + len(b) :])
    )
)
def test_whatever_comes_it_is_an_answer_and_only_the_signed_order_is_obeyed(payload: bytes) -> None:
    command = read(payload)
    if isinstance(command, Command) and isinstance(verdict := _verdict(command), Order):
        assert verdict == order()


def test_every_reason_can_be_said() -> None:
    for refusal in Refusal:
        answer = Command(order="", signature="", status="failed", reason=refusal.value, ts=ISSUED, lines=())
        check_schema("command", msgspec.json.encode(answer))
