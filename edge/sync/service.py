"""The sync service: keeps the link to the fleet's broker, sends what waits in the outbox, says how the box is.

It opens `outbox/`, `health/` and `doorbells/` under the state folder and nothing else there: it has no way to a
patient's data, and no key to it.
"""

from __future__ import annotations

import gc
import random
import select
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from edge import __version__, events, reasons
from edge.config import Config, Mqtt
from edge.config_section import ConfigError
from edge.device.certificates import ExpiryWatch
from edge.device.health import HealthFile, State, read_health
from edge.device.signals import stop_on_signals
from edge.events import emit
from edge.messages.topics import is_identifier, parse
from edge.settings import read
from edge.store import Damaged, Doorbell, Machine, Outbox, ring
from edge.store.orders import Orders
from edge.sync.announcer import Announcer
from edge.sync.commands import Commands, subscription
from edge.sync.link import Acknowledged, Link, NotSubscribed, Opened, Received
from edge.sync.retry import FAILURE, Attempt, Ending, Protocol, next_attempt
from edge.sync.sender import Sender

LOOK_EVERY = 1.0
STOP_WITHIN = 1.0


def serve(config: Config) -> int:
    """Send until SIGTERM or SIGINT, then say `stopping` and go; what is not delivered stays in the outbox.

    Raises:
        ConfigError: The configuration names no broker.
    """
    if config.mqtt is None:
        raise ConfigError("mqtt: missing: the sync service needs a broker, add the section or do not start the service")
    stopping = stop_on_signals(partial(ring, config.state_dir, "sync"))
    bell = Doorbell(config.state_dir, "sync")
    sync = Sync(config, config.mqtt, bell)
    gc.freeze()
    while not stopping.is_set():
        sync.turn()
        sync.sleep()
    sync.finish()
    bell.close()
    return 0


class Sync:
    """The service, turn by turn, in one thread."""

    def __init__(self, config: Config, mqtt: Mqtt, bell: Doorbell) -> None:
        """Not connected yet: the first turn begins to."""
        self._state_dir = config.state_dir
        self._mqtt = mqtt
        self._bell = bell
        self._health = HealthFile(config.state_dir, "sync")
        client_id, heard = f"scanside.{config.site}.{config.box}", subscription(config)
        self._link = Link(mqtt, client_id, lambda: ring(config.state_dir, "sync"), subscription=heard)
        self._commands = Commands(Orders(config.state_dir), self._link, config, Machine(), time.time) if heard else None
        self._sender = Sender(Outbox(config.state_dir), self._link, config, mqtt)
        software = __version__
        self._announcer = Announcer(config, self._link, software, mqtt.health_interval_seconds)
        self._attempt = Attempt(Protocol.MQTT_5, 0.0, 0)
        self._attempt_at: float | None = 0.0
        self._connected = False
        self._session = ""
        self._trouble = reasons.NOT_CONNECTED
        self._told: set[object] = set()
        self._certificate = ExpiryWatch(mqtt.certificate_file, time.time)
        self._look_at = 0.0
        self._commands_due = True

    def turn(self) -> None:
        """Take in what has happened, then do what is due."""
        self._take_in()
        if self._attempt_at is not None and time.monotonic() >= self._attempt_at:
            self._attempt_at = None
            self._session = uuid.uuid4().hex
            self._link.open(self._attempt.protocol, self._announcer.will(self._session))
        if time.monotonic() >= self._look_at:
            self._look()
        if self._commands and self._connected and self._commands_due:
            self._commands_due = False
            with self._using_orders():
                self._commands.turn(self._announcer.say_again)
        self._sender.send()

    def sleep(self) -> None:
        """Wait for the link, for the doorbell, or until something is due."""
        readers, writers = self._link.waits_for()
        due = min(self._look_at, self._sender.due(), *((self._attempt_at,) if self._attempt_at is not None else ()))
        select.select([self._bell, *readers], writers, [], max(0.0, due - time.monotonic()))
        self._commands_due |= self._bell.wait(0)

    def finish(self) -> None:
        """Say `stopping`, wait a moment for acknowledgements, and close everything."""
        deadline, said = time.monotonic() + STOP_WITHIN, False
        while self._connected and time.monotonic() < deadline:
            said = said or self._announcer.say_stopping()
            if said and not self._link.unacknowledged:
                break
            select.select(*self._link.waits_for(), [], deadline - time.monotonic())
            self._take_in()
        self._link.close()
        depth = self._sender.depth()
        emit(events.SYNC_STOPPED, waiting=depth.rows if depth else "an unknown number of")
        self._sender.close()
        if self._commands:
            self._commands.close()
        self._health.report(State.DOWN, reasons.STOPPED)

    def _take_in(self) -> None:
        for happened in self._link.poll():
            if isinstance(happened, Opened):
                self._up(happened)
            elif isinstance(happened, Acknowledged):
                self._acknowledged(happened)
            elif isinstance(happened, Ending):
                self._down(happened)
            elif self._commands and isinstance(happened, Received):
                self._commands_due = True
                with self._using_orders():
                    self._commands.received(happened)
            elif isinstance(happened, NotSubscribed):
                self._tell_once(events.NO_ORDERS, reason=happened.reason)

    def _up(self, opened: Opened) -> None:
        self._connected = True
        self._trouble = ""
        self._told.clear()
        self._announcer.connected(opened.protocol)
        self._sender.connected()
        if self._commands:
            self._commands.connected()
        self._look_at = 0.0
        depth = self._sender.depth()
        emit(
            events.LINK_UP,
            host=self._mqtt.host,
            port=self._mqtt.port,
            protocol=opened.protocol,
            session=self._session,
            waiting=depth.rows if depth else "an unknown number of",
        )
        if opened.protocol is Protocol.MQTT_3_1_1:
            emit(events.OLD_PROTOCOL)

    def _acknowledged(self, acknowledged: Acknowledged) -> None:
        self._sender.acknowledged(acknowledged)
        if self._commands:
            with self._using_orders():
                self._commands.acknowledged(acknowledged)
        self._announcer.acknowledged(acknowledged)
        if acknowledged.code >= FAILURE:
            topic = parse(acknowledged.message.topic)
            topics = f"{topic.service}/{topic.channel}/{topic.name}"
            self._tell_once(events.MESSAGE_REFUSED, topics=topics, reason=acknowledged.reason, code=acknowledged.code)

    def _down(self, ending: Ending) -> None:
        self._connected = False
        self._trouble = reasons.BROKER_UNREACHABLE if ending.code is None else reasons.BROKER_REFUSES
        self._attempt = next_attempt(self._attempt.protocol, ending, self._attempt.failures, random.random())  # noqa: S311 - spreads load
        self._attempt_at = time.monotonic() + self._attempt.delay
        if self._attempt.protocol is Protocol.MQTT_5:
            self._tell_once(events.LINK_DOWN, host=self._mqtt.host, port=self._mqtt.port, error=ending.error)

    def _look(self) -> None:
        """Once a second: renew our own account, read the others', and say what is new."""
        self._look_at = time.monotonic() + LOOK_EVERY
        self._commands_due = True
        self._certificate.look()
        depth = self._sender.depth()
        trouble = self._trouble or self._sender.trouble or (reasons.OUTBOX_FULL if depth and depth.full else "")
        state = State.DEGRADED if trouble else State.UP
        self._health.report(state, trouble, protocol=self._attempt.protocol, outbox_depth=depth.rows if depth else None)
        if self._connected:
            accounts = read_health(self._state_dir, time.time())
            steward = "steward" in accounts and accounts["steward"].state is State.UP
            can = self._commands.capabilities(steward=steward) if self._commands else []
            able = tuple(topic.name for topic, capability in can if capability)
            named = {name: accounts[name] for name in accounts if is_identifier(name)}
            self._announcer.speak(named, depth, self._certificate.days, able)
            if self._commands:
                self._announcer.tell(can, read(self._state_dir))

    @contextmanager
    def _using_orders(self) -> Iterator[None]:
        """What the disk does not take is not acknowledged, and comes again. Raises `Damaged`: it must be repaired."""
        try:
            yield
        except Damaged:
            raise
        except sqlite3.Error as error:
            self._tell_once(events.ORDERS_FAILED, error=str(error))  # two errors are never equal, their words are

    def _tell_once(self, event: events.Event, **fields: object) -> None:
        """Log the same thing once until the next connection."""
        key = (event.number, *fields.values())
        if key not in self._told:
            self._told.add(key)
            emit(event, **fields)
