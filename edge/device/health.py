"""How each service is doing: one small file each, written by the service, read by the page and the fleet link.

A file says nothing about patients. One that was not renewed for `STALE_AFTER` seconds says that its service is gone,
whatever stands in it: old news is never shown as present.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

import msgspec

from edge import events, reasons
from edge.device.backoff import LONGEST_DELAY, RESET_AFTER, backoff, next_failures
from edge.device.drift import Drifted
from edge.device.notify import Notifier
from edge.events import emit
from edge.modes import make_folder
from edge.records import Record

Figure = str | int | float | bool | None
RENEW_EVERY = 2.0
STALE_AFTER = 10.0
TOLD_FROM = 3
"""Ends in a row from which on the page tells of them, until the service has lived for `RESET_AFTER` seconds."""


class State(StrEnum):
    """How a service is: the words of the fleet's health messages too."""

    STARTING = "starting"
    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


class ModelInService(Record, frozen=True, kw_only=True):
    """A model as the inference service says that it runs it.

    Attributes:
        digest: SHA-256 of its bundle.yaml.
        experimental: It was measured on too little to rely on.
        median_ms: Milliseconds of one pass when it was loaded.
    """

    id: str
    version: str
    digest: str
    engine: str
    experimental: bool
    median_ms: float


class Health(Record, frozen=True, kw_only=True):
    """One service's own account.

    Attributes:
        service: `intake`, `inference`, `web`, `sync`.
        state: How it is; `reason` says why when it is not `up`.
        since: When it entered this state, seconds since the epoch.
        updated_at: When it last said so.
        pid: Its process.
        models: What it answers with; the inference service has some.
        drift: What has moved away from what it was; the web service, which counts the answers, says so.
        details: Figures of its own (`queue_depth`, `p95_ms`, ...).
        started_at: When its process started.
        failures: Ends in a row before this process that nobody had asked for.
    """

    service: str
    state: State
    reason: str = ""
    since: float
    updated_at: float
    pid: int
    models: tuple[ModelInService, ...] = ()
    drift: tuple[Drifted, ...] = ()
    details: dict[str, Figure] = msgspec.field(default_factory=dict)
    started_at: float = 0.0
    failures: int = 0


class HealthFile:
    """Where one service writes its account."""

    def __init__(self, state_dir: Path, service: str, clock: Callable[[], float] = time.time) -> None:
        """Begin as `starting`."""
        self._path = _folder(state_dir) / f"{service}.json"
        self._clock = clock
        self._notifier = Notifier()
        self._unwritten = False
        now = clock()
        self._health = Health(
            service=service,
            state=State.STARTING,
            since=now,
            updated_at=0.0,
            pid=os.getpid(),
            started_at=now,
            failures=_failures(self._path),
        )
        self.report(State.STARTING)
        with suppress(OSError):  # not there, or a disk that can only be read: the account itself tells of that
            _begun(self._path).unlink()

    def due(self) -> bool:
        """Whether the account wants renewing: figures that cost something need not be gathered before."""
        return not 0 <= self._clock() - self._health.updated_at < RENEW_EVERY

    def list_models(self, models: tuple[ModelInService, ...]) -> None:
        """Name the models in service, in every later report until others are named."""
        self._health = msgspec.structs.replace(self._health, models=models)

    def list_drift(self, drift: tuple[Drifted, ...]) -> None:
        """Name the drift alarms that stand, in every later report until others are named."""
        self._health = msgspec.structs.replace(self._health, drift=drift)

    def report(self, state: State, reason: str = "", **details: Figure) -> None:
        """Say how the service is. Written at once when the state changes, otherwise every `RENEW_EVERY` seconds.

        To be called by the main loop, once it has come round: systemd is told as well, and ends a service that no
        longer says anything.
        """
        now = self._clock()
        changed = (state, reason) != (self._health.state, self._health.reason)
        if not changed and not self.due():
            return
        since = now if changed else self._health.since
        self._health = msgspec.structs.replace(
            self._health, state=state, reason=reason, since=since, updated_at=now, details=details
        )
        self._notifier.progress(words(self._health), ready=is_working(state))
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_bytes(msgspec.json.encode(self._health))
            temporary.replace(self._path)
        except OSError as error:  # a full disk must not stop the service: its last account goes stale, which is seen
            if not self._unwritten:
                emit(events.HEALTH_UNWRITTEN, service=self._health.service, error=error.strerror)
            self._unwritten = True
        else:
            self._unwritten = False


def is_working(state: State) -> bool:
    """Whether a service in this state does what it is for, be it not all of it."""
    return state in (State.UP, State.DEGRADED)


def words(health: Health) -> str:
    """State and reason in one line."""
    return f"{health.state}: {health.reason}" if health.reason else health.state.value


def read_health(state_dir: Path, now: float) -> dict[str, Health]:
    """Every service's account by its name; one that is stale (or from the future) reads as `down`."""
    accounts = {}
    for path in sorted(_folder(state_dir).glob("*.json")):
        try:
            health = msgspec.json.decode(path.read_bytes(), type=Health)
        except (OSError, msgspec.DecodeError):
            continue  # removed or damaged meanwhile: the service writes it anew within seconds
        if not -STALE_AFTER <= now - health.updated_at <= STALE_AFTER:
            health = msgspec.structs.replace(
                health, state=State.DOWN, reason=reasons.NO_SIGN_OF_LIFE, since=health.updated_at
            )
        accounts[health.service] = health
    return accounts


def with_its_ends(health: Health, now: float) -> Health:
    """An account as a person is to read it: of one that ended again and again, and is up, it says that as well."""
    if health.state is not State.UP or health.failures < TOLD_FROM or now - health.started_at >= RESET_AFTER:
        return health
    reason = reasons.SERVICE_RUNS_AGAIN.format(service=health.service, count=health.failures)
    return msgspec.structs.replace(health, state=State.DEGRADED, reason=reason)


def held_back(state_dir: Path, service: str) -> float:
    """Seconds that a service's process should wait before it begins: longer after each end in a row.

    To be asked once by each process: those that end before they have an account of their own (`HealthFile`) count too.
    """
    path = _folder(state_dir) / f"{service}.json"
    begun = _begun(path)
    try:
        before = int(begun.read_text(encoding="ascii"))
    except (OSError, ValueError):
        before = 0
    with suppress(OSError):  # on a full disk it waits less, and begins all the same
        begun.write_text(f"{before + 1}\n", encoding="ascii")
    return backoff(max(before, _failures(path)), LONGEST_DELAY)


def _begun(path: Path) -> Path:
    """Where it stands how many processes have begun since the last that had an account."""
    return path.with_suffix(".begun")


def _failures(path: Path) -> int:
    """Ends in a row, with that of the process which wrote this account, that nobody had asked for."""
    try:
        before = msgspec.json.decode(path.read_bytes(), type=Health)
    except (OSError, msgspec.DecodeError):
        return 0
    if before.state is State.DOWN and before.reason == reasons.STOPPED:
        return 0
    return next_failures(before.failures, before.updated_at - before.started_at)


def _folder(state_dir: Path) -> Path:
    folder = state_dir / "health"
    make_folder(folder)
    return folder
