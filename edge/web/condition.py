"""How the box is, as the page shows it: services, queue, latencies, disk, temperature and fleet link, in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from edge.device.health import Health, ModelInService, State, read_health, with_its_ends
from edge.device.vitals import Vitals, read_vitals
from edge.records import Record
from edge.store import Store
from edge.web.languages import gettext, listed, mark
from edge.web.retelling import reason

_Kind = TypeVar("_Kind", float, bool)

_MEANING_WHEN_DOWN = {
    "intake": mark("images cannot be received"),
    "inference": mark("images are kept but not analysed"),
    "web": mark("this page is not kept up to date"),
    "sync": mark("summaries wait on this box"),
    "audit": mark("audit messages wait on this box"),
}

_LINK: dict[State, str] = {
    State.UP: mark("connected"),
    State.STARTING: mark("connecting"),
    State.DEGRADED: mark("waiting"),
    State.DOWN: mark("down"),
}


FULL_SOON_HOURS = 48.0
"""A disk that will be full sooner than this is said on every page: the next working day may be too late."""


class Condition(Record, frozen=True, kw_only=True):
    """The box at one moment.

    Attributes:
        as_of: When it was read, seconds since the epoch.
        state: The whole: `down` when images are not received or not analysed, `degraded` when something else is amiss.
        summary: The same in one line.
        queue_depth: Images without a result.
        oldest_received_at: When the oldest of them arrived; None when none waits.
        latency_ms: `p50`, `p95`, `p99` from arrival to committed result; what is not measured yet is missing.
        fleet_link: The link to the fleet's broker in words.
        services: Each service's own account, its reason in the reader's language.
        vitals: Disk, memory, load, temperature; None when they cannot be read.
        hours_until_full: Until no image is taken, as the disk filled in the last hour; None when it does not fill.
        synchronised: Whether something keeps the clock right; None when that is not known.
    """

    as_of: float
    state: State
    summary: str
    queue_depth: int
    oldest_received_at: float | None
    latency_ms: dict[str, float]
    fleet_link: str
    services: tuple[Health, ...]
    vitals: Vitals | None
    hours_until_full: float | None
    synchronised: bool | None


def read_condition(store: Store, state_dir: Path, expected: tuple[str, ...], now: float) -> Condition:
    """Read it now. `expected` are the services that this box runs. Raises `sqlite3.Error` when the store fails."""
    accounts = {name: with_its_ends(account, now) for name, account in read_health(state_dir, now).items()}
    services = tuple(_told(accounts[name]) if name in accounts else _never_started(name, now) for name in expected)
    queue = store.queue()
    try:
        vitals: Vitals | None = read_vitals(state_dir)
    except OSError:
        vitals = None  # the page says that it is unknown
    by_name = {health.service: health for health in services}
    hours_until_full = _detail(by_name.get("intake"), "hours_until_full", float)
    state, summary = judge(services, hours_until_full)
    return Condition(
        as_of=now,
        state=state,
        summary=summary,
        queue_depth=queue.depth,
        oldest_received_at=queue.oldest_received_at,
        latency_ms=latencies(by_name.get("inference")),
        fleet_link=fleet_link(by_name.get("sync")),
        services=services,
        vitals=vitals,
        hours_until_full=hours_until_full,
        synchronised=_detail(by_name.get("intake"), "synchronised", bool),
    )


def judge(services: tuple[Health, ...], hours_until_full: float | None = None) -> tuple[State, str]:
    """The state of the whole and one line that says it, with the reason of each service that is not up."""
    amiss = [health for health in services if health.state is not State.UP]
    full_soon = hours_until_full is not None and hours_until_full < FULL_SOON_HOURS
    if not amiss and not full_soon:
        return State.UP, gettext("Ready")
    essential = [health for health in amiss if health.service in ("intake", "inference")]
    down = [health for health in essential if health.state is not State.DEGRADED]
    said = [_reason(health) for health in down or amiss]
    if full_soon and not down:
        said.append(gettext("the disk will be full in about %(hours)s h", hours=round(hours_until_full or 0.0)))
    reasons = listed(said, ";")
    if not down:
        return State.DEGRADED, gettext("Ready, but %(reasons)s", reasons=reasons)
    starting = all(health.state is State.STARTING for health in down)
    if starting:
        return State.STARTING, gettext("Starting: %(reasons)s", reasons=reasons)
    return State.DOWN, gettext("Not ready: %(reasons)s", reasons=reasons)


def latencies(inference: Health | None) -> dict[str, float]:
    """The percentiles in the inference service's account."""
    details: Mapping[str, object] = inference.details if inference else {}
    found = {percentile: details.get(f"{percentile}_ms") for percentile in ("p50", "p95", "p99")}
    return {percentile: float(value) for percentile, value in found.items() if isinstance(value, int | float)}


def models_of(condition: Condition) -> tuple[ModelInService, ...]:
    """The models in service, from the inference service's own account."""
    return tuple(model for health in condition.services for model in health.models)


def fleet_link(sync: Health | None) -> str:
    """The link to the fleet in words; `sync` is None on a box that stands alone."""
    if sync is None:
        return gettext("none, this box stands alone")
    state = gettext(_LINK[sync.state])
    return f"{state} ({sync.reason})" if sync.reason else state


def glance(condition: Condition) -> tuple[object, ...]:
    """What of it a person would notice: when this changes, open pages are told."""
    vitals = condition.vitals
    return (
        condition.summary,
        condition.queue_depth,
        condition.oldest_received_at,
        tuple(sorted(condition.latency_ms.items())),
        condition.fleet_link,
        tuple((health.service, health.state, health.reason) for health in condition.services),
        vitals and round(vitals.disk_used_share, 2),
        vitals and vitals.temperature_celsius and round(vitals.temperature_celsius / 2),
    )


def _detail(health: Health | None, name: str, kind: type[_Kind]) -> _Kind | None:
    """A figure of a service's account, when it is there and of this kind."""
    value = health.details.get(name) if health else None
    return value if isinstance(value, kind) else None


def _reason(health: Health) -> str:
    meaning = gettext(_MEANING_WHEN_DOWN.get(health.service) or mark("a part of this box does not work"))
    state = gettext("%(service)s is %(state)s", service=health.service, state=gettext(health.state))
    state += f", {health.reason}" if health.reason else ""
    return f"{meaning} ({state})" if health.state is State.DOWN else state


def _told(health: Health) -> Health:
    """A service's account with its reason in the reader's language."""
    return msgspec.structs.replace(health, reason=reason(health.reason))


def _never_started(service: str, now: float) -> Health:
    return Health(
        service=service, state=State.DOWN, reason=gettext("it has not started yet"), since=now, updated_at=now, pid=0
    )
