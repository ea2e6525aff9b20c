"""Every message is read or kept apart with its reason; nothing raises."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.fleet.reading import LARGEST, Apart, Said, Why, read
from edge.messages.types import Waiting
from edge.records import Status
from tests.fleet.boxes import (
    about,
    addressed,
    aggregate,
    audit_head,
    errors,
    health,
    reported,
    service,
    state,
    summary,
    topic,
)

MESSAGES = [state(), about(), service(), health(), summary(), summary(Status.NOT_ANALYSED)]
MESSAGES += [errors(206), audit_head(7), aggregate(flagged=7), reported(threads=2)]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_what_a_box_says_is_read(message: Any) -> None:
    assert read(*addressed(message)) == Said("clinic", "box-1", message)


def test_an_empty_message_withdraws_and_says_nothing() -> None:
    assert read(topic("box-1", "-/status/state/-"), b"") is None


def _with(message: Any, **fields: object) -> bytes:
    return json.dumps(json.loads(msgspec.json.encode(message)) | fields).encode()


GOOD = summary(message_id="0123456789abcdef0123456789abcdef")
FIND = f"inference/find/image/{GOOD.message_id}"
COUNTS = msgspec.structs.replace(aggregate(flagged=7), message_id="fedcba9876543210fedcba9876543210")
SUM = f"inference/m/aggregate/{COUNTS.message_id}"


@pytest.mark.parametrize(
    ("tail", "payload", "why"),
    [
        ("-/status/state", _with(state()), Why.TOPIC),
        ("-/status/other/-", _with(state()), Why.TOPIC),
        ("-/cmd/restart/1", _with(state()), Why.TOPIC),
        ("-/status/health/-", _with(service()), Why.TOPIC),
        ("-/status/state/-", b"x" * (LARGEST + 1), Why.TOO_LARGE),
        ("-/status/state/-", b"\xff\x00", Why.NOT_JSON),
        ("-/status/state/-", b'{"schema": "scanside.state/1"', Why.NOT_JSON),
        ("-/status/state/-", b"[" * 60000, Why.INVALID),
        ("-/status/state/-", b"[1]", Why.INVALID),
        ("-/status/state/-", _with(state(), schema="scanside.state/2"), Why.UNKNOWN_SCHEMA),
        ("-/m/health/-", _with(health(), schema="scanside.health/1"), Why.UNKNOWN_SCHEMA),
        ("-/status/state/-", _with(state(), state="asleep"), Why.INVALID),
        ("-/status/state/-", _with(state(), patient="x"), Why.INVALID),
        ("-/m/health/-", _with(health(), seq=-1), Why.INVALID),
        ("-/m/health/-", _with(health(queue=Waiting(depth=1 << 60, oldest_seconds=1))), Why.INVALID),
        ("-/m/health/-", _with(health(), uptime_seconds=10**40), Why.INVALID),
        ("intake/status/health/-", _with(service("inference")), Why.FOREIGN),
        ("inference/find/image/other", _with(GOOD), Why.FOREIGN),
        ("inference/m/aggregate/other", _with(COUNTS), Why.FOREIGN),
        (SUM, _with(COUNTS, day="2025-02-30"), Why.INVALID),
        (SUM, msgspec.json.encode(COUNTS).replace(b'"0.9"', b'"high"'), Why.INVALID),
        (SUM, msgspec.json.encode(COUNTS).replace(b'"images":5', b'"images":4'), Why.INVALID),
        ("-/m/audit/-", _with(audit_head(7), number=1 << 60), Why.INVALID),
        ("-/m/audit/7", _with(audit_head(7)), Why.TOPIC),
        (FIND, _with(GOOD, hour="2025-13-01T00"), Why.INVALID),
        (FIND, _with(GOOD, hour="yesterday"), Why.INVALID),
        (FIND, _with(GOOD, quality=["a\u0000b"]), Why.INVALID),
        (FIND, _with(GOOD, quality=["Doe, Jane"]), Why.INVALID),
        (FIND, _with(GOOD, latency_ms=-1), Why.INVALID),
    ],
)
def test_what_is_no_message_of_ours_is_kept_apart(tail: str, payload: bytes, why: Why) -> None:
    address = topic("box-1", tail)
    assert read(address, payload) == Apart(address, payload[:LARGEST], why)


@given(
    st.text() | st.sampled_from([addressed(message)[0] for message in MESSAGES]),
    st.binary() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()),
)
def test_whatever_comes_it_is_read_or_kept_apart(address: str, payload: bytes) -> None:
    assert isinstance(read(address, payload), Said | Apart) or not payload


@given(
    message=st.sampled_from(MESSAGES),
    key=st.integers(0, 20),
    value=st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text()),
)
def test_a_message_with_one_value_changed_is_read_or_kept_apart(message: Any, key: int, value: object) -> None:
    fields = json.loads(msgspec.json.encode(message))
    fields[list(fields)[key % len(fields)]] = value
    assert isinstance(read(addressed(message)[0], json.dumps(fields).encode()), Said | Apart)
