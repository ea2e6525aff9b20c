"""The judge of the fault programme finds each kind of loss and of doubling, and nothing where there is none."""

from __future__ import annotations

import msgspec
import pytest

from edge.records import Priority, Status, Summary
from tests.system.faults.ledger import Held, Seen, judge

ONE, TWO = Held("r1", "1.1"), Held("r2", "1.2")
FINE = Seen(frozenset(("1.1", "1.2")), (ONE, TWO), (TWO, ONE), {"r1": {b'{"a": 1}'}, "r2": {b"2"}})


def _summary(status: Status, latency_ms: int) -> bytes:
    summary = Summary(
        message_id="r1",
        hour="2026-11-25T19",
        status=status,
        reason=None,
        priority=Priority.ROUTINE,
        findings=(),
        quality=(),
        model=None,
        latency_ms=latency_ms,
    )
    return msgspec.json.encode(summary)


CASES: dict[str, tuple[Seen, list[str], list[str]]] = {
    "nothing": (FINE, [], []),
    "accepted and never answered": (
        FINE._replace(accepted=frozenset(("1.1", "1.2", "1.3"))),
        ["1.3: no result in the store", "1.3: no result in the HTTP API"],
        [],
    ),
    "not on the page": (
        FINE._replace(api=(ONE,)),
        ["1.2: no result in the HTTP API"],
        ["r2: in one of store and API alone"],
    ),
    "not heard of": (FINE._replace(messages={"r1": {b'{"a": 1}'}}), ["r2: no message about the result"], []),
    "a message of the outage": (FINE._replace(other_messages={"m"}), ["m: the message never came"], []),
    "a spoilt file": (FINE._replace(unreadable={"1.1"}), ["1.1: the spool does not hold what was sent"], []),
    "answered twice": (
        FINE._replace(store=(ONE, TWO, Held("r3", "1.1")), api=(ONE, TWO, Held("r3", "1.1"))),
        ["r3: no message about the result"],
        ["1.1: twice in the store by its sop_instance_uid", "1.1: twice in the HTTP API by its sop_instance_uid"],
    ),
    "two results, one shown": (
        FINE._replace(store=(ONE, TWO, Held("r3", "1.1")), messages={**FINE.messages, "r3": {b"3"}}),
        [],
        [
            "1.1: twice in the store by its sop_instance_uid",
            "r3: in one of store and API alone",
        ],
    ),
    "never accepted": (
        FINE._replace(accepted=frozenset(("1.1",))),
        [],
        ["1.2: in the store, though never accepted", "1.2: in the HTTP API, though never accepted"],
    ),
    "a message of nothing": (
        FINE._replace(messages={**FINE.messages, "r9": {b"9"}}),
        [],
        ["r9: a message without a result"],
    ),
    "another body": (
        FINE._replace(messages={**FINE.messages, "r1": {b'{"a": 1}', b'{"a": 2}'}}),
        [],
        ['r1: messages of one id that differ in a: {"a": 1} and {"a": 2}'],
    ),
    "another writing": (
        FINE._replace(messages={**FINE.messages, "r1": {b'{"a": 1}', b'{"a":1}'}}),
        [],
        ["r1: messages of one id that differ in bytes: {} and {}"],
    ),
}

AGAIN: dict[str, tuple[Seen, list[str], list[str]]] = {
    f"{what}, {'a repeated' if repeated else 'any other'} result": (
        FINE._replace(messages={**FINE.messages, "r1": bodies}, repeated={"r1"} if repeated else set()),
        [],
        [f"r1: messages of one id that differ in {differing}"] if differing else [],
    )
    for what, bodies, repeated, differing in (
        ("later", {_summary(Status.CLEAR, 10), _summary(Status.CLEAR, 99)}, True, ""),
        (
            "later",
            {_summary(Status.CLEAR, 10), _summary(Status.CLEAR, 99)},
            False,
            'latency_ms: {"latency_ms": 10} and {"latency_ms": 99}',
        ),
        (
            "another answer",
            {_summary(Status.CLEAR, 10), _summary(Status.FLAGGED, 10)},
            True,
            'status: {"status": "clear"} and {"status": "flagged"}',
        ),
    )
}


@pytest.mark.parametrize(("seen", "lost", "doubled"), (CASES | AGAIN).values(), ids=CASES | AGAIN)
def test_judge(seen: Seen, lost: list[str], doubled: list[str]) -> None:
    assert judge(seen) == (tuple(lost), tuple(doubled))
