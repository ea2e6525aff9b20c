"""`scanside fleet dispatch`: hands out what the page orders, signed with the fleet's key, and takes the boxes' answers.

A process of its own, so that the page has no key and the collectors cannot write at the broker. What goes out is in the
database before: one that is killed sends it again, and a box takes an order once.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sql

from edge import events
from edge.config_section import ConfigError
from edge.device.signals import stop_on_signals
from edge.events import emit
from edge.fleet import ordering
from edge.fleet.collector import LONGEST_DELAY
from edge.fleet.database import open_database
from edge.fleet.ordering import Publication
from edge.fleet.settings import FleetConfig
from edge.fleet.subscription import Delivered, Opened, Subscription
from edge.messages.commands import Command, read
from edge.messages.topics import ROOT, UNUSED, VERSION, Channel, TopicError, parse
from edge.signature import KeyUnusable, private_key
from edge.sync.retry import Attempt, Ending, Protocol, next_attempt

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

COMMANDS = (f"{ROOT}/{VERSION}/+/+/-/cmd/+/+",)
LOOK_EVERY = 1.0
SETTLE = 2.0
"""Seconds on a new connection for the documents that the broker has retained, before unanswered ones are sent again."""


def serve(config: FleetConfig) -> int:
    """Dispatch until SIGTERM or SIGINT; the exit status.

    Raises:
        ScansideError: There is no key, it cannot be used, or the database cannot be opened.
    """
    key = read_key(config.commands.key_file)
    stopping = stop_on_signals(lambda: None)
    engine = open_database(config.database_url)
    dispatcher = Dispatcher(config, engine, key)
    while not stopping.is_set():
        dispatcher.turn()
    dispatcher.close()
    engine.dispose()
    return 0


def read_key(file: Path | None) -> Ed25519PrivateKey:
    """The fleet's private key (PEM, Ed25519). Raises `ConfigError`."""
    if file is None:
        raise ConfigError("commands.key_file: missing: orders must be signed, give the fleet's private key")
    try:
        return private_key(file)
    except KeyUnusable as error:
        raise ConfigError(f"commands.key_file {error}") from error


class Dispatcher:
    """The dispatcher, turn by turn, in one thread."""

    def __init__(self, config: FleetConfig, engine: sql.Engine, key: Ed25519PrivateKey) -> None:
        """Not connected yet: the first turn begins to."""
        self._mqtt = config.commands.mqtt or config.mqtt
        self._engine = engine
        self._key = key
        self._subscription = Subscription(self._mqtt, "scanside.fleet.dispatcher", None, (), COMMANDS)
        self._attempt = Attempt(Protocol.MQTT_5, 0.0, 0)
        self._attempt_at: float | None = 0.0
        self._look_at = 0.0
        self._again = False
        self._failing = False

    def turn(self) -> None:
        """Take answers, and hand out what is due."""
        now = time.monotonic()
        if self._attempt_at is not None:
            if now < self._attempt_at:
                time.sleep(min(0.5, self._attempt_at - now))
                return
            self._attempt_at = None
            if failed := self._subscription.open(self._attempt.protocol):
                self._down(failed)
                return
        for happened in self._subscription.poll(max(0.0, min(0.5, self._look_at - now))):
            if isinstance(happened, Delivered):
                self._using_database(partial(self._take, happened))
            elif isinstance(happened, Opened):
                emit(events.FLEET_DISPATCHING, host=self._mqtt.host, port=self._mqtt.port)
                self._look_at, self._again = time.monotonic() + SETTLE, True
            else:
                self._down(happened)
                return
        if self._subscription.connected and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_EVERY
            self._using_database(self._look)

    def close(self) -> None:
        """Leave."""
        self._subscription.close()

    def _look(self) -> None:
        if self._again:
            self._publish(ordering.unanswered(self._engine))
            self._again = False
        self._publish(ordering.hand_out(self._engine, self._key, time.time()))

    def _take(self, delivered: Delivered) -> None:
        try:
            address = parse(delivered.topic)
        except TopicError:
            address = None
        if address and address.channel is Channel.COMMAND and address.id != UNUSED and delivered.payload:
            answer = read(delivered.payload)
            if isinstance(answer, Command):
                clearing = ordering.take(self._engine, address.id, answer, delivered.topic)
                self._publish([clearing] if clearing else [])
        self._subscription.acknowledge([delivered.packet])

    def _publish(self, publications: list[Publication]) -> None:
        for one in publications:
            self._subscription.publish(one.topic, one.payload)

    def _using_database(self, work: Callable[[], None]) -> None:
        try:
            work()
        except sql.exc.SQLAlchemyError as error:  # not acknowledged: it comes again with the next connection
            if not self._failing:
                emit(events.FLEET_DATABASE_FAILED, error=type(error).__name__, delay=LOOK_EVERY)
            self._failing = True
            self._subscription.close()
            self._attempt_at = time.monotonic() + LOOK_EVERY
        else:
            self._failing = False

    def _down(self, ending: Ending) -> None:
        self._attempt = next_attempt(self._attempt.protocol, ending, self._attempt.failures, random.random())  # noqa: S311 - spreads load
        self._attempt_at = time.monotonic() + min(LONGEST_DELAY, self._attempt.delay)
        emit(events.FLEET_LINK_DOWN, host=self._mqtt.host, port=self._mqtt.port, error=ending.error)
