"""`scanside run`: starts the services as processes and keeps them alive.

Each runs in a process group of its own under `setpriv --pdeathsig KILL` (util-linux): when the supervisor dies,
however it dies, the kernel ends them at once, and none survives to fight its successor over ports. That needs nothing
from the services and no code between fork and exec. SIGKILL is safe: what was accepted is on the disk (DESIGN rule 1).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from edge import __version__, events, reasons
from edge.config import Config
from edge.device.backoff import LONGEST_DELAY, RESET_AFTER, backoff, next_failures
from edge.device.health import Figure, Health, HealthFile, State, is_working, read_health
from edge.device.signals import Signals
from edge.errors import ScansideError
from edge.events import emit
from edge.store.lock import hold_lock

STOP_WITHIN = 4.0
"""Seconds that services have to stop by themselves."""

_LOOK_EVERY = 1.0
_LOOK_EVERY_AT_START = 0.1
_NOT_AWAITED = frozenset({"sync", "steward", "audit", "reporting"})
_Process = subprocess.Popen[bytes]


class ApplianceError(ScansideError):
    """The supervisor cannot work here."""


class Standing(NamedTuple):
    """How one service stands, as far as its supervisor knows.

    Attributes:
        running: Its process lives.
        ready: It has said that it works: it is `up`, or `degraded`.
        failures: Ends in a row, 0 once it has lived for `RESET_AFTER` seconds.
    """

    running: bool
    ready: bool
    failures: int


@dataclass
class Service:
    """A supervised process: its name, the factory of a new one, and what became of those before."""

    name: str
    start: Callable[[], _Process]
    process: _Process | None = None
    started_at: float = 0.0
    started_time: float = 0.0
    start_due: float = 0.0
    failures: int = 0
    restarts: int = 0

    def tend(self, now: float) -> None:
        """Start it when it is due; when it has ended, decide when to start it again. `now` is of a monotonic clock."""
        if self.process is None:
            if now >= self.start_due:
                self._start(now)
        elif (status := _end_of(self.process)) is not None:
            self._ended(_words(status), now)

    def standing(self, now: float, account: Health | None) -> Standing:
        """How it stands; `account` is its health file, which counts only when this very process has written it."""
        running = self.process is not None
        says = account.state if account is not None and account.updated_at >= self.started_time else None
        failures = 0 if running and now - self.started_at >= RESET_AFTER else self.failures
        return Standing(running, running and says is not None and is_working(says), failures)

    def _start(self, now: float) -> None:
        self.started_at, self.started_time = now, time.time()
        try:
            self.process = self.start()
        except OSError as error:  # no memory or no process left: later there may be
            self._ended(error.strerror or type(error).__name__, now)
            return
        emit(events.SERVICE_STARTED, service=self.name, pid=self.process.pid)

    def _ended(self, status: str, now: float) -> None:
        self.process = None
        self.restarts += 1
        self.failures, delay = next_restart(self.failures, now - self.started_at)
        self.start_due = now + delay
        emit(events.SERVICE_DIED, service=self.name, status=status, delay=delay)


def run(config: Config, command: Sequence[str]) -> int:
    """Run the appliance until SIGTERM or SIGINT: every service as `command` with the service's name added.

    Returns:
        0 after an orderly stop, which takes at most 5 seconds.

    Raises:
        AlreadyRunning: Another appliance works on this state folder.
        ApplianceError: A program that it needs is missing.
    """
    signals = Signals(signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ApplianceError("setpriv: not found, and services must end with their supervisor: install util-linux")
    hold_lock(config.state_dir, "appliance")
    names = ", ".join(config.services)
    emit(events.STARTING, version=__version__, services=names, state_dir=config.state_dir)
    services = [
        Service(name, partial(_start_process, [setpriv, "--pdeathsig", "KILL", *command, name]))
        for name in config.services
    ]
    health = HealthFile(config.state_dir, "appliance")
    received = _supervise(config, services, signals, health)
    emit(events.STOPPING, signal=received.name)
    _stop(services, signals)
    health.report(State.DOWN, reasons.STOPPED)
    emit(events.STOPPED)
    return 0


def next_restart(failures: int, lived: float) -> tuple[int, float]:
    """Decide how to go on after a service's end.

    Args:
        failures: Its ends in a row before this one.
        lived: Seconds from its start to this end.

    Returns:
        Its ends in a row with this one, and the seconds to wait before it is started again.
    """
    failures = next_failures(failures, lived)
    return failures, backoff(failures, LONGEST_DELAY)


def judge(standings: Mapping[str, Standing]) -> tuple[State, str]:
    """The appliance's own state, and why it is not `up`.

    A service that ended is trouble until its successor has lived for `RESET_AFTER` seconds. `sync`, `audit`
    and `reporting` are not waited for: images are answered all the same without fleet, audit repository and PACS.
    """
    for name, standing in standings.items():
        if standing.failures:
            said = reasons.SERVICE_RUNS_AGAIN if standing.running else reasons.SERVICE_WAITS
            return State.DEGRADED, said.format(service=name, count=standing.failures)
    waiting = [name for name, standing in standings.items() if not standing.ready and name not in _NOT_AWAITED]
    return (State.STARTING, reasons.WAITING_FOR.format(services=", ".join(waiting))) if waiting else (State.UP, "")


def _supervise(config: Config, services: Sequence[Service], signals: Signals, health: HealthFile) -> signal.Signals:
    """Keep the services alive until a signal says to stop: that signal."""
    begun = time.monotonic()
    ready = False
    while True:
        now = time.monotonic()
        for service in services:
            service.tend(now)
        accounts = read_health(config.state_dir, time.time())
        standings = {service.name: service.standing(now, accounts.get(service.name)) for service in services}
        if not ready and all(standings[name].ready for name in standings if name not in _NOT_AWAITED):
            ready = True
            emit(events.READY, seconds=now - begun)
        details: dict[str, Figure] = {f"{service.name}_restarts": service.restarts for service in services}
        state, reason = judge(standings)
        health.report(state, reason, **details)
        received = signals.wait(_LOOK_EVERY if ready else _LOOK_EVERY_AT_START) - {signal.SIGCHLD}
        if received:
            return min(received)


def _stop(services: Sequence[Service], signals: Signals) -> None:
    """Ask all to stop, and end those that do not."""
    running = [(service.name, service.process) for service in services if service.process]
    for _, process in running:
        os.kill(process.pid, signal.SIGTERM)  # not reaped yet, so the number is still this process's
    deadline = time.monotonic() + STOP_WITHIN
    while running := [(name, process) for name, process in running if _end_of(process) is None]:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        signals.wait(left)
    for name, process in running:
        emit(events.SERVICE_KILLED, service=name, seconds=STOP_WITHIN)
        os.killpg(process.pid, signal.SIGKILL)
    for _, process in running:
        with suppress(subprocess.TimeoutExpired):  # one that hangs in the kernel cannot be waited for
            process.wait(0.5)


def _start_process(command: Sequence[str]) -> _Process:
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0)


def _end_of(process: _Process) -> int | None:
    """The exit status of a process that has ended, after ending what it left behind; None while it runs."""
    if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        return None
    # Workers that outlive their master hold its port. Until it is reaped, its number cannot be another group's.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _words(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else str(status)
