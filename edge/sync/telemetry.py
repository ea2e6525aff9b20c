"""What the box says about itself, made from what its services say in their health files. Pure.

It is an allow-list like the summary: figures by name, words only where they are plain words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args, get_type_hints

import msgspec

from edge.device import health, vitals
from edge.device.drift import Drifted
from edge.device.troubles import Trouble
from edge.messages import catalogue, types
from edge.messages.topics import is_identifier
from edge.records import Record
from edge.store.outbox import Depth
from edge.sync.retry import Protocol

_MODEL_FIELDS = types.Model.__struct_fields__

_STATISTICS = frozenset(get_args(get_type_hints(types.Drift)["statistic"]))

_REASON = re.compile(r"([a-z][a-z0-9 -]{0,79})?")

_LATEST = 253402300799  # the last second of the year 9999, the last that RFC 3339 can say

_Message = TypeVar("_Message", bound=Record)


def state(word: Literal["ready", "stopping", "lost"], session: str, now: float) -> types.State:
    """The box's state on this connection."""
    return types.State(state=word, session=session, ts=time(now))


def about(
    session: str,
    software: str,
    protocol: Protocol,
    accounts: Mapping[str, health.Health],
    capabilities: tuple[str, ...] = (),
) -> types.About:
    """The birth message."""
    served = accounts["inference"].models if "inference" in accounts else ()
    checked = (_checked(types.Model, {field: getattr(model, field) for field in _MODEL_FIELDS}) for model in served)
    return types.About(
        session=session,
        software=software,
        protocol=protocol.value,
        models=tuple(model for model in checked if model),
        schemas=catalogue.schema_ids(),
        capabilities=capabilities,
    )


def service(account: health.Health) -> types.ServiceState:
    """How one service is."""
    reason = account.reason if _REASON.fullmatch(account.reason) else "unlisted"
    return types.ServiceState(
        service=account.service, state=account.state.value, reason=reason, since=time(account.since)
    )


def figures(
    *,
    session: str,
    seq: int,
    accounts: Mapping[str, health.Health],
    box: vitals.Vitals,
    outbox: Depth | None,
    uptime: float,
    now: float,
    synchronised: bool,
    certificate_days: float | None,
) -> types.Health:
    """The box's figures.

    Args:
        session: The connection.
        seq: How many of these it has said before.
        accounts: What each service says.
        box: Disk, memory, load, temperature.
        outbox: What waits there; None when that is not known.
        uptime: Seconds since the box was switched on.
        now: Seconds since the epoch.
        synchronised: Whether that is known to be right.
        certificate_days: Until the box's certificate ends; None without one.
    """
    details = accounts["inference"].details if "inference" in accounts else {}
    return types.Health(
        ts=time(now),
        session=session,
        seq=seq,
        uptime_seconds=int(uptime),
        services=tuple(service(accounts[name]) for name in sorted(accounts)),
        queue=_waiting(details.get("queue_depth"), details.get("oldest_uptime"), uptime),
        latency=_checked(types.Latency, {name: details.get(name) for name in types.Latency.__struct_fields__}),
        outbox=types.Waiting(depth=outbox.rows, oldest_seconds=None if outbox.oldest is None else int(outbox.oldest))
        if outbox
        else None,
        dropped=outbox.dropped if outbox else None,
        delivered=outbox.delivered if outbox else None,
        disk=types.Disk(total_bytes=box.disk_total, free_bytes=box.disk_free, used=box.disk_used_share),
        memory_available_bytes=box.memory_available,
        load=box.load_1min,
        temperature_celsius=box.temperature_celsius,
        throttled=box.throttled,
        clock="right" if synchronised else "uncertain",
        certificate_days=None if certificate_days is None else int(certificate_days),
        drift=tuple(_drift(one) for account in accounts.values() for one in account.drift),
    )


def _drift(one: Drifted) -> types.Drift:
    statistic = one.statistic.partition(" of ")[0]
    model = one.model.partition(" ")[0] or None
    return types.Drift(
        statistic=statistic if statistic in _STATISTICS else "unlisted",  # type: ignore[arg-type]
        model=model if model is None or is_identifier(model) else "unlisted",
        index=max(0.0, one.index),
        images=one.images,
        since=time(one.since),
    )


def audit_head(session: str, accounts: Mapping[str, health.Health], now: float) -> types.AuditHead | None:
    """How far the audit trail goes, as the service says that shows it to people; None before its first record."""
    details = accounts["web"].details if "web" in accounts else {}
    digest = f"sha256:{details.get('audit_digest')}"
    head = {"number": details.get("audit_number"), "digest": digest}
    return _checked(types.AuditHead, {"ts": time(now), "session": session, **head})


def errors(session: str, troubles: Iterable[Trouble], now: float) -> types.Events:
    """What went wrong, by number and service."""
    counts = (
        _checked(
            types.EventCount,
            {"service": one.service, "number": one.number, "count": one.count, "since": time(one.first_at)},
        )
        for one in troubles
    )
    return types.Events(ts=time(now), session=session, events=tuple(count for count in counts if count))


def time(now: float) -> datetime:
    """Seconds since the epoch as messages carry them."""
    return datetime.fromtimestamp(int(max(0, min(now, _LATEST))), UTC)


def _waiting(depth: object, since: object, uptime: float) -> types.Waiting | None:
    oldest = max(0, int(uptime - since)) if isinstance(since, float | int) else None
    return _checked(types.Waiting, {"depth": depth, "oldest_seconds": oldest})


def _checked(kind: type[_Message], fields: dict[str, Any]) -> _Message | None:
    """The record when the fields keep its rules, else None: a service that says something else says nothing."""
    try:
        return msgspec.convert(fields, kind)
    except msgspec.ValidationError:
        return None
