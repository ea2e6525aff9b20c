"""What a box says about itself, each message a frozen record. `catalogue.py` lists these and all others."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

import msgspec

from edge.records import Record

Time = Annotated[datetime, msgspec.Meta(tz=True, description="RFC 3339, UTC, whole seconds.")]
Session = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", description="Random, a new one for each connection.")]
Reason = Annotated[
    str,
    msgspec.Meta(
        pattern="^([a-z][a-z0-9 -]{0,79})?$",
        description="Plain words; empty when there is nothing to say, `unlisted` when only the box's own page says it.",
    ),
]
Identifier = Annotated[str, msgspec.Meta(pattern="^[a-z0-9]([a-z0-9-]{0,62}[a-z0-9])?$")]
Version = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z.+-]{1,40}$")]
Digest = Annotated[str, msgspec.Meta(pattern="^sha256:[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0)]
Seconds = Annotated[int, msgspec.Meta(ge=0, description="Whole seconds.")]
Milliseconds = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class State(Record, frozen=True, kw_only=True):
    """Whether the box is there. `lost` is its will: the broker says it when the connection broke.

    Attributes:
        session: The connection that it is about: a late `lost` of an older one counts for nothing.
        ts: When it was said; in `lost`, when that connection was opened.
    """

    schema: Literal["scanside.state/1"] = "scanside.state/1"
    state: Literal["ready", "stopping", "lost"]
    session: Session
    ts: Time


class Model(Record, frozen=True, kw_only=True):
    """A model that the box serves; `digest` is the SHA-256 of its bundle.yaml."""

    id: Identifier
    version: Version
    digest: Digest
    engine: Identifier


class About(Record, frozen=True, kw_only=True):
    """The birth: what the box is and can do.

    Attributes:
        session: The connection that it was said on.
        software: Version of Scanside.
        protocol: The MQTT version of this connection; on `3.1.1` nothing expires and refusals stay unseen.
        models: What it serves; empty until its inference service has loaded one.
        schemas: The messages that it sends and takes, with their versions.
        capabilities: The operations that it can be ordered to do now.
    """

    schema: Literal["scanside.about/1"] = "scanside.about/1"
    session: Session
    software: Version
    protocol: Literal["5", "3.1.1"]
    models: tuple[Model, ...]
    schemas: tuple[str, ...]
    capabilities: tuple[str, ...]


class ServiceState(Record, frozen=True, kw_only=True):
    """How one service of the box is, since when, and why when it is not `up`."""

    schema: Literal["scanside.service/1"] = "scanside.service/1"
    service: Identifier
    state: Literal["starting", "up", "degraded", "down"]
    reason: Reason
    since: Time


class EventCount(Record, frozen=True, kw_only=True):
    """How often a service has logged one kind of error.

    Attributes:
        service: Whose.
        number: Of the catalogue (`edge/events.py`): 505 is SC505.
        count: Since `since`; it only grows, until `since` changes.
        since: When the first of them came.
    """

    service: Identifier
    number: Count
    count: Count
    since: Time


class Events(Record, frozen=True, kw_only=True):
    """The errors that a box remembers, by their numbers: no word of them.

    Attributes:
        ts: When it was said.
        session: The connection that it was said on.
        events: The newest kinds of each service, 20 at most.
    """

    schema: Literal["scanside.events/1"] = "scanside.events/1"
    ts: Time
    session: Session
    events: tuple[EventCount, ...]


class AuditHead(Record, frozen=True, kw_only=True):
    """How far the box's audit trail goes: what it loses up to there, a manager can tell from then on.

    Attributes:
        ts: When it was said.
        session: The connection that it was said on.
        number: Of the newest record; it only grows.
        digest: The chain's at that record (`edge/store/audit/chain.py`): of it and of all before.
    """

    schema: Literal["scanside.audit/1"] = "scanside.audit/1"
    ts: Time
    session: Session
    number: Annotated[int, msgspec.Meta(ge=1)]
    digest: Digest


class Waiting(Record, frozen=True, kw_only=True):
    """A queue: how many wait, and for how long the oldest has; None when nothing waits."""

    depth: Count
    oldest_seconds: Seconds | None


class Latency(Record, frozen=True, kw_only=True):
    """Milliseconds from accepted to committed over the last images, as percentiles."""

    p50_ms: Milliseconds
    p95_ms: Milliseconds
    p99_ms: Milliseconds


class Disk(Record, frozen=True, kw_only=True):
    """The disk under the box's state: bytes, and the share in use."""

    total_bytes: Count
    free_bytes: Count
    used: Share


class Drift(Record, frozen=True, kw_only=True):
    """Something about what the box sees or answers that is not as it was: an alarm of its drift watch.

    Attributes:
        statistic: What is counted.
        model: Of which model; None for all images, `unlisted` for one whose name has not the form of one.
        index: The population stability index over the last images.
        images: Over how many.
        since: When the alarm was raised.
    """

    statistic: Literal["answers", "scores", "quality", "refusals", "familiarity", "view", "age", "unlisted"]
    model: Identifier | None
    index: Annotated[float, msgspec.Meta(ge=0)]
    images: Count
    since: Time


class Health(Record, frozen=True, kw_only=True):
    """The box's figures at one moment. None where it cannot tell (yet).

    Attributes:
        ts: The moment.
        session: The connection that it was said on.
        seq: Which health message of this connection it is, from 0: a number that never comes tells of a lost one.
        uptime_seconds: Since the box was switched on.
        services: Each service by its name.
        queue: Images without a result.
        latency: Over the last images.
        outbox: Messages that the broker has not acknowledged; None while the outbox's file cannot be used.
        dropped: Messages of telemetry that the box had no room to keep, since its outbox was made; None likewise.
        delivered: Summaries that a broker has acknowledged, likewise: how many a manager should have.
        disk: Under the state folder.
        memory_available_bytes: What programs can still get.
        load: Processes that want the CPU, over one minute.
        temperature_celsius: The hottest sensor.
        throttled: How often heat slowed the processor down since the box was switched on.
        clock: Whether something keeps the box's clock right.
        drift: What is not as it was, oldest first; empty while everything is, or while too little was seen.
        certificate_days: Until the certificate ends by which the broker knows the box; None without one.
    """

    schema: Literal["scanside.health/3"] = "scanside.health/3"
    ts: Time
    session: Session
    seq: Count
    uptime_seconds: Seconds
    services: tuple[ServiceState, ...]
    queue: Waiting | None
    latency: Latency | None
    outbox: Waiting | None
    dropped: Count | None = None
    delivered: Count | None = None
    disk: Disk
    memory_available_bytes: Count | None
    load: Annotated[float, msgspec.Meta(ge=0)]
    temperature_celsius: float | None
    throttled: Count | None = None
    clock: Literal["right", "uncertain"] = "uncertain"
    certificate_days: int | None = None
    drift: tuple[Drift, ...] = ()
