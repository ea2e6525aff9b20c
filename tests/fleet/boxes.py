"""What boxes say, for tests: valid messages under valid topics."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec

from edge.messages.aggregate import Aggregate, Category, split
from edge.messages.commands import Reported, Setting
from edge.messages.topics import Channel, Topic
from edge.messages.types import About, AuditHead, Disk, EventCount, Events, Health, Model, ServiceState, State, Waiting
from edge.records import ModelUsed, Priority, Reason, Status, Summary

NOW = 1_764_104_400.0  # 2025-11-25T21:00:00Z
SESSION, OTHER_SESSION = "0" * 31 + "1", "0" * 31 + "2"
DIGEST = "sha256:" + "0" * 64


def topic(box: str, tail: str, site: str = "clinic") -> str:
    return f"scanside/1/{site}/{box}/{tail}"


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(int(seconds), UTC)


def state(word: Any = "ready", session: str = SESSION) -> State:
    return State(state=word, session=session, ts=moment(NOW))


def about(*capabilities: str) -> About:
    model = Model(id="cxr-pneumonia", version="1.0.0", digest=DIGEST, engine="openvino")
    known = About(session=SESSION, software="0.1.0", protocol="5", models=(model,), schemas=(), capabilities=())
    return msgspec.structs.replace(known, capabilities=capabilities)


def service(name: str = "inference", word: Any = "up", reason: str = "") -> ServiceState:
    return ServiceState(service=name, state=word, reason=reason, since=moment(NOW))


def health(seq: int = 0, session: str = SESSION, ts: float = NOW, **changes: Any) -> Health:
    message = Health(
        ts=moment(ts),
        session=session,
        seq=seq,
        uptime_seconds=60,
        services=(),
        queue=Waiting(depth=0, oldest_seconds=None),
        latency=None,
        outbox=Waiting(depth=0, oldest_seconds=None),
        disk=Disk(total_bytes=100, free_bytes=50, used=0.5),
        memory_available_bytes=None,
        load=0.5,
        temperature_celsius=50.0,
        clock="right",
    )
    return msgspec.structs.replace(message, **changes)


def summary(status: Status = Status.CLEAR, hour: str = "2025-11-25T20", **changes: Any) -> Summary:
    refused = status is Status.NOT_ANALYSED
    model = ModelUsed(id="cxr-pneumonia", version="1.0.0", digest=DIGEST, engine="openvino", precision="int8")
    message = Summary(
        message_id=uuid.uuid4().hex,
        hour=hour,
        status=status,
        reason=Reason.UNDER_AGE if refused else None,
        priority=Priority.ROUTINE,
        findings=(),
        quality=(),
        model=None if refused else model,
        latency_ms=120,
    )
    return msgspec.structs.replace(message, **changes)


def audit_head(number: int, digest: str = "0f" * 32, ts: float = NOW) -> AuditHead:
    return AuditHead(ts=moment(ts), session=SESSION, number=number, digest=f"sha256:{digest}")


def errors(*numbers: int) -> Events:
    counts = (EventCount(service="intake", number=number, count=7, since=moment(NOW)) for number in numbers)
    return Events(ts=moment(NOW), session=SESSION, events=tuple(counts))


def aggregate(day: str = "2025-11-25", **answers: int) -> Aggregate:
    """Counts of answers, and of scores as many as are flagged; the remainders stay at the box."""
    counts = {Category("answers", name): count for name, count in answers.items()}
    counts[Category("scores", "0.9", "cxr-pneumonia", "1.0.0", "SCT:233604007")] = answers.get("flagged", 0)
    return Aggregate(message_id=uuid.uuid4().hex, day=day, clock="right", histograms=split(counts)[0])


def reported(version: int = 7, **values: Any) -> Reported:
    """Settings of the section `inference`."""
    settings = tuple(Setting(key=f"inference.{name}", value=value) for name, value in values.items())
    return Reported(version=version, state="standing", settings=settings)


def addressed(message: Any, box: str = "box-1", site: str = "clinic") -> tuple[str, bytes]:
    """Topic and payload, as the contract puts them."""
    levels: dict[type, dict[str, Any]] = {
        State: {"channel": Channel.STATUS, "name": "state"},
        About: {"channel": Channel.STATUS, "name": "about"},
        Health: {"channel": Channel.MEASUREMENT, "name": "health"},
        ServiceState: {"channel": Channel.STATUS, "name": "health"},
        Events: {"channel": Channel.MEASUREMENT, "name": "events"},
        AuditHead: {"channel": Channel.MEASUREMENT, "name": "audit"},
        Reported: {"channel": Channel.SHADOW, "name": "reported"},
        Summary: {"channel": Channel.FINDING, "name": "image", "service": "inference"},
        Aggregate: {"channel": Channel.MEASUREMENT, "name": "aggregate", "service": "inference"},
    }
    given = dict(levels[type(message)])
    if isinstance(message, ServiceState):
        given["service"] = message.service
    if isinstance(message, Summary | Aggregate):
        given["id"] = message.message_id
    return str(Topic(site=site, box=box, **given)), msgspec.json.encode(message)
