"""Every message of the contract by the name of its schema, which is generated from the record (`schemas.py`)."""

from __future__ import annotations

import msgspec

from edge.messages.aggregate import Aggregate
from edge.messages.commands import Capability, Command, Order, Reported
from edge.messages.types import About, AuditHead, Events, Health, ServiceState, State
from edge.records import Record, Summary

MESSAGES: dict[str, type[Record]] = {
    "state": State,
    "about": About,
    "service": ServiceState,
    "health": Health,
    "events": Events,
    "audit": AuditHead,
    "summary": Summary,
    "aggregate": Aggregate,
    "capability": Capability,
    "command": Command,
    "order": Order,
    "reported": Reported,
}
"""`order` is what a command carries signed; all others are payloads of their own."""


def schema_ids() -> tuple[str, ...]:
    """`scanside.state/1` and so on, of every message."""
    return tuple(sorted(msgspec.structs.fields(message)[0].default for message in MESSAGES.values()))
