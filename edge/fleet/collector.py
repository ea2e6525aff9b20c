"""`scanside fleet collect`: what boxes say goes into the database, and only what is committed there is acknowledged.

So the broker repeats what a collector that was killed had not committed, and the message ids tell what it had.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

import sqlalchemy as sql

from edge import events
from edge.device.signals import stop_on_signals
from edge.events import emit
from edge.fleet import upkeep
from edge.fleet.database import open_database
from edge.fleet.reading import Apart, read
from edge.fleet.settings import FleetConfig
from edge.fleet.subscription import Delivered, Opened, Subscription
from edge.fleet.writing import Arrival, Writer
from edge.sync.retry import Attempt, Ending, Protocol, next_attempt

EVALUATE_EVERY = 5.0
REMOVE_EVERY = 3600.0
AGAIN_AFTER = 1.0
LONGEST_DELAY = 5.0
"""Seconds between two attempts to connect, at most: collectors are few, and all boxes wait for them."""

BATCH = 500
"""Messages in one transaction at most: a page or another collector need not wait long for the database."""

GATHER = 0.1
"""Seconds that a message may wait for others of its transaction, as each transaction waits for the disk."""

_IDLE = 0.5


@dataclass
class Pending:
    """Messages of the present connection that are not committed yet, in order, and when they are to be.

    Attributes:
        failing: The database did not take them: it is asked again at `commit_at`, and not before.
    """

    arrivals: list[tuple[int, Arrival | None]] = field(default_factory=list)
    commit_at: float = 0.0
    failing: bool = False

    def due(self, now: float) -> bool:
        """Whether to commit now."""
        enough = len(self.arrivals) >= BATCH and not self.failing
        return bool(self.arrivals) and (enough or now >= self.commit_at)


def serve(config: FleetConfig) -> int:
    """Collect until SIGTERM or SIGINT; the exit status.

    Raises:
        ScansideError: The database cannot be opened.
    """
    if config.database is None:
        config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    stopping = stop_on_signals(lambda: None)
    engine = open_database(config.database_url)
    keeper = threading.Thread(target=_keep, args=(config, engine, collector := Collector(config, engine), stopping))
    keeper.start()
    try:
        while not stopping.is_set():
            collector.turn()
        collector.close()
    finally:
        stopping.set()
        keeper.join()
        engine.dispose()
    return 0


class Collector:
    """The collector, turn by turn, in one thread."""

    def __init__(self, config: FleetConfig, engine: sql.Engine) -> None:
        """Not connected yet: the first turn begins to."""
        self._mqtt = config.mqtt
        client_id = ".".join(name for name in ("scanside.fleet", config.group, config.collector) if name)
        self._subscription = Subscription(config.mqtt, client_id, config.group)
        self._writer = Writer(engine)
        self._pending = Pending()
        self._attempt = Attempt(Protocol.MQTT_5, 0.0, 0)
        self._attempt_at: float | None = 0.0
        self._told_down = False

    @property
    def connected(self) -> bool:
        """Whether messages come in."""
        return self._subscription.connected

    def turn(self) -> None:
        """Take in what has come, and commit what is there."""
        now = time.monotonic()
        if self._attempt_at is not None:
            if now < self._attempt_at:
                time.sleep(min(_IDLE, self._attempt_at - now))
                return
            self._attempt_at = None
            self._pending = Pending()
            if failed := self._subscription.open(self._attempt.protocol):
                self._down(failed)
                return
        pending = self._pending
        wait = 0.0 if pending.due(now) else pending.commit_at - now if pending.arrivals else _IDLE
        for happened in self._subscription.poll(min(wait, _IDLE), BATCH):
            if isinstance(happened, Delivered):
                self._take(happened)
            elif isinstance(happened, Opened):
                self._up(happened)
            else:
                self._down(happened)
                return
        if pending.due(time.monotonic()):
            self._commit()

    def close(self) -> None:
        """Commit what has come, and leave."""
        while self._pending.arrivals and not self._pending.failing:
            self._commit()
        self._subscription.close()

    def _take(self, delivered: Delivered) -> None:
        said = read(delivered.topic, delivered.payload)
        arrival = Arrival(said, time.time(), delivered.live) if said else None
        if not self._pending.arrivals:
            self._pending.commit_at = time.monotonic() + GATHER
        self._pending.arrivals.append((delivered.packet, arrival))

    def _commit(self) -> None:
        pending = self._pending
        batch = pending.arrivals[:BATCH]
        try:
            written = self._writer.write([arrival for _, arrival in batch if arrival])
        except sql.exc.SQLAlchemyError as error:
            if not pending.failing:
                emit(events.FLEET_DATABASE_FAILED, error=type(error).__name__, delay=AGAIN_AFTER)
            pending.failing, pending.commit_at = True, time.monotonic() + AGAIN_AFTER
            return
        pending.failing = False
        del pending.arrivals[: len(batch)]
        self._subscription.acknowledge([packet for packet, _ in batch])
        if written.apart:
            whys = sorted({arrival.said.why for _, arrival in batch if arrival and isinstance(arrival.said, Apart)})
            emit(events.FLEET_KEPT_APART, count=written.apart, reasons=", ".join(whys) or "refused by the database")

    def _up(self, opened: Opened) -> None:
        self._told_down = False
        mqtt = self._mqtt
        kept = "kept by the broker" if opened.session_present else "new"
        emit(events.FLEET_COLLECTING, host=mqtt.host, port=mqtt.port, protocol=opened.protocol, session=kept)

    def _down(self, ending: Ending) -> None:
        self._attempt = next_attempt(self._attempt.protocol, ending, self._attempt.failures, random.random())  # noqa: S311 - spreads load
        self._attempt_at = time.monotonic() + min(LONGEST_DELAY, self._attempt.delay)
        if not self._told_down and self._attempt.protocol is Protocol.MQTT_5:
            self._told_down = True
            emit(events.FLEET_LINK_DOWN, host=self._mqtt.host, port=self._mqtt.port, error=ending.error)


def _keep(config: FleetConfig, engine: sql.Engine, collector: Collector, stopping: threading.Event) -> None:
    """Evaluate the alarms and remove what is old, beside the collector: neither waits for the other."""
    rules, interval = config.rules(), float(config.mqtt.health_interval_seconds)
    remove_at = 0.0
    while not stopping.wait(EVALUATE_EVERY):
        try:
            upkeep.say_alive(engine, config.collector, time.time(), connected=collector.connected)
            for box_id, rule, stands in upkeep.evaluate(engine, rules, time.time(), interval, config.models):
                word = "cleared" if stands.cleared_at else "raised"
                emit(events.FLEET_ALARM, rule=rule.name, box=box_id, word=word)
            if time.monotonic() >= remove_at:
                remove_at = time.monotonic() + REMOVE_EVERY
                upkeep.remove_old(engine, time.time(), config.health_days, config.summary_days)
        except sql.exc.SQLAlchemyError as error:
            emit(events.FLEET_DATABASE_FAILED, error=type(error).__name__, delay=EVALUATE_EVERY)
