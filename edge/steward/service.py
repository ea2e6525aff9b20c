"""The steward: executes the orders that `sync` has taken in and may not execute itself, one after the other.

It has no network. It looks at each signature for itself, so that whoever gets hold of `sync` can order nothing.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from edge import events, reasons, settings
from edge.config import Config
from edge.config_file import try_settings
from edge.config_section import ConfigError
from edge.device.health import HealthFile, State
from edge.device.signals import stop_on_signals
from edge.events import emit
from edge.messages import commands
from edge.messages.commands import Command, Configure, Line, OperatingPoint, Order, Refusal, Restart, SelfTest, Status
from edge.messages.topics import Channel, Topic
from edge.signature import public_keys
from edge.steward import processes
from edge.steward.plan import BACK_WITHIN, MOST_ATTEMPTS, Act, Next, Step, decide, elapsed
from edge.store import Damaged, Doorbell, Machine, hold_lock, ring
from edge.store.orders import STEWARDS, Now, Ordered, Orders

_BUSY_EVERY = 0.2
_LOOK_EVERY = 1.0
_POINT = "inference.operating_point"


def serve(config: Config, config_file: Path) -> int:
    """Execute orders until SIGTERM or SIGINT; one that is being executed goes on at the next start.

    Raises:
        ConfigError: The configuration names no keys of a fleet.
        AlreadyRunning: Another steward works on this state folder.
    """
    if config.mqtt is None or config.mqtt.command_keys is None:
        raise ConfigError("mqtt.command_keys: missing: the steward obeys a fleet, name its keys or do not start it")
    stopping = stop_on_signals(partial(ring, config.state_dir, "steward"))
    hold_lock(config.state_dir, "steward")
    bell, health = Doorbell(config.state_dir, "steward"), HealthFile(config.state_dir, "steward")
    steward = Steward(config, config_file, config.mqtt.command_keys)
    status, trouble = 0, ""
    while not stopping.is_set():
        try:
            busy = steward.turn()
            trouble = ""
        except Damaged:
            status = 1
            break
        except (OSError, sqlite3.Error) as error:  # a full or failing disk: the order goes on when it is well
            if not trouble:
                emit(events.ORDERS_FAILED, error=error)
            busy, trouble = False, reasons.ORDERS_NOT_KEPT
        health.report(State.DEGRADED if trouble else State.UP, trouble)
        bell.wait(_BUSY_EVERY if busy else _LOOK_EVERY)
    health.report(State.DOWN, reasons.STOPPED)
    steward.close()
    bell.close()
    return status


class Steward:
    """The orders of one box, turn by turn, in one thread."""

    def __init__(
        self,
        config: Config,
        config_file: Path,
        keys: Path,
        machine: Machine | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """Go on from what an earlier one has left."""
        self._config = config
        self._config_file = config_file
        self._keys = keys
        self._machine = machine or Machine()
        self._wall = wall
        self._orders = Orders(config.state_dir)
        self._begun: str | None = None
        self._test: subprocess.Popen[str] | None = None

    def turn(self) -> bool:
        """Do the next thing for the oldest order; whether there is one.

        Raises:
            OSError, sqlite3.Error: The disk failed.
            Damaged: The orders' file has to be repaired, which the next start does.
        """
        waiting = self._orders.open(STEWARDS)
        if not waiting:
            self._leave_no_trial()
            return False
        ordered = waiting[0]
        verdict = self._order_of(ordered)
        if isinstance(verdict, Refusal):
            self._end(ordered, Status.FAILED, verdict.value)
            return True
        if self._begun != ordered.id:
            self._stop_test()
            self._orders.begin(ordered.id, self._now())
            self._begun = ordered.id
            ordered = self._orders.get(ordered.id) or ordered
        work = verdict.work
        if isinstance(work, Restart):
            self._restart(ordered, work, verdict.timeout_seconds)
        elif isinstance(work, Configure | OperatingPoint):
            self._configure(ordered, work, verdict.timeout_seconds)
        elif isinstance(work, SelfTest):
            self._self_test(ordered, verdict.timeout_seconds)
        else:
            self._end(ordered, Status.FAILED, Refusal.CANNOT.value)
        return True

    def close(self) -> None:
        """Leave everything as it is noted."""
        self._stop_test()
        self._orders.close()

    def _order_of(self, ordered: Ordered) -> Order | Refusal:
        command = Command(
            order=ordered.text, signature=ordered.signature, status="init", reason="", ts=commands.time(0.0), lines=()
        )
        keys = public_keys(self._keys)
        site, box = self._config.site, self._config.box
        address = Topic(site=site, box=box, channel=Channel.COMMAND, name=ordered.operation, id=ordered.id)
        # Whether it came in time was judged when it was taken; what was begun is brought to an end.
        began = ordered.status != Status.INIT
        now = 0.0 if began else max(self._wall(), self._orders.floor())
        synchronised = not began and self._machine.synchronised()
        since = 0.0 if began else self._orders.since()
        return commands.check(command, address, keys, now, synchronised=synchronised, since=since)

    def _restart(self, ordered: Ordered, work: Restart, limit: float) -> None:
        if ordered.attempts > MOST_ATTEMPTS:
            self._end(ordered, Status.FAILED, "interrupted too often")
            return
        step = _step_of(ordered) or self._note(ordered, "ahead", (work.service,))
        following = self._follow(step, limit)
        if following.act is Act.DONE:
            self._end(ordered, Status.SUCCESSFUL)
        elif following.act is Act.GIVE_UP:
            self._end(ordered, Status.FAILED, f"{work.service} did not come up in time")

    def _configure(self, ordered: Ordered, work: Configure | OperatingPoint, limit: float) -> None:
        step = _step_of(ordered)
        if step is None:
            step = self._begin_settings(ordered, work)
            if step is None:
                return
        if step.phase == "back":
            self._go_back(ordered, step)
            return
        following = self._follow(step, limit) if ordered.attempts <= MOST_ATTEMPTS else Next(Act.GIVE_UP)
        if following.act is Act.DONE:
            settings.write(self._config.state_dir, settings.Standing(settings=self._standing().settings))
            emit(events.SETTINGS_STAND, version=work.version)
            self._end(ordered, Status.SUCCESSFUL)
        elif following.act is Act.GIVE_UP:
            before = self._base()
            settings.write(self._config.state_dir, settings.Standing(settings=before))
            emit(events.SETTINGS_BACK, version=before.version)
            self._note(ordered, "back", tuple(step.leaders))

    def _begin_settings(self, ordered: Ordered, work: Configure | OperatingPoint) -> Step | None:
        """Try the ordered settings; None when they are refused."""
        base = self._base()
        values: dict[str, settings.Value]
        if isinstance(work, OperatingPoint):
            values = {**base.values, _POINT: work.name}
        else:
            values = {setting.key: setting.value for setting in work.settings}
        if work.version <= base.version:
            self._end(ordered, Status.FAILED, f"version {base.version} is in force and this one not newer")
            return None
        try:
            try_settings(self._config_file, values)
        except ConfigError:
            self._end(ordered, Status.FAILED, "a setting is not one that a fleet may make or breaks its rule")
            return None
        wanted = settings.Settings(version=work.version, values=values)
        names = tuple(name for name in settings.affected(base, wanted) if name in self._look())
        settings.write(self._config.state_dir, settings.Standing(settings=wanted, state="trying", before=base))
        emit(events.SETTINGS_TRIED, version=work.version, services=", ".join(names) or "none")
        return self._note(ordered, "ahead", names)

    def _go_back(self, ordered: Ordered, step: Step) -> None:
        following = self._follow(step, BACK_WITHIN)
        if following.act is Act.DONE:
            self._end(ordered, Status.FAILED, "the box did not come up with it and went back to the settings before")
        elif following.act is Act.GIVE_UP:
            self._end(ordered, Status.FAILED, f"went back to the settings before and {following.whom[0]} is not up")

    def _self_test(self, ordered: Ordered, limit: float) -> None:
        """`scanside doctor` in a process of its own: what fails in it harms nobody."""
        if ordered.attempts > MOST_ATTEMPTS:
            self._end(ordered, Status.FAILED, "interrupted too often")
            return
        if self._test is None:
            command = [sys.executable, "-m", "edge.cli", "doctor", "--config", str(self._config_file)]
            self._test = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        now = self._now()
        if self._test.poll() is None:
            if now.uptime - ordered.since >= limit:
                self._end(ordered, Status.FAILED, "timed out")
            return
        assert self._test.stdout is not None  # noqa: S101 - it was made with a pipe
        lines = checks(self._test.stdout.read())
        bad = sum(not line.well for line in lines)
        if bad or not lines:
            reason = (
                f"found something in {bad} of {len(lines)} checks" if lines else "the self-test ended without an answer"
            )
            self._end(ordered, Status.FAILED, reason, lines)
        else:
            self._end(ordered, Status.SUCCESSFUL, lines=lines)

    def _note(self, ordered: Ordered, phase: str, names: tuple[str, ...]) -> Step:
        """Write down which processes are to end, before any is asked to."""
        seen, now = self._look(), self._now()
        leaders = {name: seen[name].leader if name in seen else "" for name in names}
        step = msgspec.convert({"phase": phase, "leaders": leaders, "boot": now.boot, "since": now.uptime}, Step)
        self._orders.note(ordered.id, msgspec.json.encode(step))
        return step

    def _follow(self, step: Step, limit: float) -> Next:
        """Do what brings the services to their next processes."""
        now = self._now()
        following = decide(step.leaders, self._look(), elapsed(step, now.boot, now.uptime), limit)
        if following.act in (Act.ASK, Act.KILL):
            for leader in following.whom:
                processes.end(leader, signal.SIGKILL if following.act is Act.KILL else signal.SIGTERM)
        return following

    def _leave_no_trial(self) -> None:
        """Settings that are tried for an order that nobody knows any more go back to those before."""
        standing = self._standing()
        if standing.state == "trying":
            before = self._base()
            settings.write(self._config.state_dir, settings.Standing(settings=before))
            emit(events.SETTINGS_BACK, version=before.version)
            seen = self._look()
            for name in settings.affected(standing.settings, before):
                if name in seen and seen[name].leader:
                    processes.end(seen[name].leader, signal.SIGTERM)

    def _end(self, ordered: Ordered, status: Status, reason: str = "", lines: tuple[Line, ...] = ()) -> None:
        self._stop_test()
        self._begun = None
        if self._orders.end(ordered.id, status, self._wall(), reason, lines):
            emit(events.ORDER_ENDED, order=ordered.id, operation=ordered.operation, status=status.value, reason=reason)

    def _stop_test(self) -> None:
        if self._test:
            self._test.kill()
            self._test.communicate()
            self._test = None

    def _standing(self) -> settings.Standing:
        return settings.read(self._config.state_dir)

    def _base(self) -> settings.Settings:
        """What stood before whatever is being tried."""
        standing = self._standing()
        return standing.before or settings.Settings() if standing.state == "trying" else standing.settings

    def _look(self) -> dict[str, processes.Seen]:
        return processes.look(self._config.state_dir, self._machine.boot_id())

    def _now(self) -> Now:
        return Now(self._wall(), self._machine.boot_id(), self._machine.uptime())


def checks(said: str) -> tuple[Line, ...]:
    """What `scanside doctor` said, without what it found: a path or a name stays on the box."""
    lines = []
    for text in said.splitlines():
        word, _, rest = text.partition(" ")
        name, colon, _ = rest.strip().partition(": ")
        if word in ("ok", "BAD") and colon:
            lines.append(Line(name=name[:80], well=word == "ok", text="", count=1))
    return tuple(lines)


def _step_of(ordered: Ordered) -> Step | None:
    return msgspec.json.decode(ordered.step, type=Step | None)
