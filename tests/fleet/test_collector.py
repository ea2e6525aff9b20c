"""A real Mosquitto over mutual TLS, collectors and simulated boxes as processes of their own, and kill -9 for them."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import sqlalchemy as sql
import yaml
from paho.mqtt import publish

from edge.fleet import database as db
from edge.fleet import queries
from edge.fleet.database import open_database
from edge.fleet.standing import Condition, condition
from tests.fleet.boxes import addressed, health, state, summary, topic
from tests.running import RunningProgram, scanside
from tests.sync.conftest import Mosquitto, mosquitto
from tests.system.conftest import await_until

__all__ = ["mosquitto"]


class Manager:
    """Collectors over one database, and boxes that talk to the same broker."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.folder = folder
        self.broker = broker
        self._running: list[RunningProgram] = []
        self.database = open_database(f"sqlite:///{folder}/fleet.sqlite")

    def collector(self, name: str = "collector-1", group: str | None = None) -> RunningProgram:
        """Start a collector and wait until it collects; those of one group share the work."""
        mqtt = {**self.broker.section(name), "health_interval_seconds": 2}
        file = self.folder / f"{name}.yaml"
        document = {"mqtt": mqtt, "state_dir": str(self.folder), "collector": name, "group": group}
        file.write_text(yaml.safe_dump(document))
        program = RunningProgram(scanside("fleet", "collect", "--config", str(file)))
        self._running.append(program)
        program.wait_for("SC900")
        return program

    def boxes(self, *options: str) -> RunningProgram:
        """Start simulated boxes; their tally is written when they end."""
        report, to, way = str(self.folder / "tally.json"), f"127.0.0.1:{self.broker.port}", self.broker.section()
        fixed = ["--to", to, "--report", report, "--seed", "7", "--health-seconds", "2", "--ca", str(way["ca_file"])]
        fixed += ["--certificate", str(way["certificate_file"]), "--key", str(way["key_file"])]
        program = RunningProgram(scanside("fleet", "simulate", *fixed, *options))
        self._running.append(program)
        return program

    def tally(self) -> Any:
        return json.loads((self.folder / "tally.json").read_text())

    def count(self, table: sql.Table = db.summaries) -> int:
        with self.database.connect() as connection:
            return int(connection.execute(sql.select(sql.func.count()).select_from(table)).scalar_one())

    def has(self, summaries: int) -> bool:
        return self.count() >= summaries

    def results(self) -> int:
        """What the counts a day add up to."""
        with self.database.connect() as connection:
            return int(
                connection.execute(sql.select(sql.func.coalesce(sql.func.sum(db.days.c.results), 0))).scalar_one()
            )

    def conditions(self, now: float, interval: float = 60) -> list[Condition]:
        with self.database.connect() as connection:
            return [condition(facts, now, interval) for facts in queries.facts(connection, now)]

    def publish(self, address: str, payload: bytes, *, retain: bool = False) -> None:
        way: Any = {"tls": self.broker.context(), "protocol": paho.MQTTv5}
        publish.single(address, payload, 1, retain, "127.0.0.1", self.broker.port, **way)

    def close(self) -> None:
        for program in self._running:
            program.__exit__()
        self.database.dispose()


@pytest.fixture
def manager(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Manager]:
    mosquitto.start()
    made = Manager(tmp_path, mosquitto)
    yield made
    made.close()


def test_killed_collectors_lose_nothing_and_count_nothing_twice(manager: Manager) -> None:
    killed = manager.collector("collector-1", "shared")
    other = manager.collector("collector-2", "shared")
    boxes = manager.boxes("--boxes", "30", "--studies-per-hour", "18000", "--outages-per-day", "0", "--seconds", "6")
    for enough in (100, 200):
        await_until(partial(manager.has, enough), "summaries in the database")
        killed.stop(signal.SIGKILL)
        killed = manager.collector("collector-1", "shared")
    assert boxes.process.wait(90) == 0
    made = manager.tally()["summaries"]
    assert made > 300
    await_until(lambda: manager.count() >= made, "every summary in the database")
    assert (manager.count(), manager.results()) == (made, made)
    assert other.stop() == 0
    assert killed.stop() == 0


def test_a_broker_that_is_restarted_loses_nothing(manager: Manager) -> None:
    manager.collector()
    boxes = manager.boxes("--boxes", "10", "--studies-per-hour", "18000", "--seconds", "5")
    await_until(lambda: manager.count() > 30, "summaries in the database")
    manager.broker.stop()
    manager.broker.start()
    assert boxes.process.wait(90) == 0
    made = manager.tally()["summaries"]
    await_until(lambda: manager.count() >= made, "every summary in the database")
    assert (manager.count(), manager.results()) == (made, made)


@pytest.mark.parametrize("group", [None, "shared"])
def test_a_broker_that_is_killed_loses_nothing(manager: Manager, group: str | None) -> None:
    """It has made no snapshot: with the messages it forgets every session, and shared subscriptions in any case."""
    manager.collector(group=group)
    boxes = manager.boxes("--boxes", "10", "--studies-per-hour", "18000", "--outages-per-day", "0", "--seconds", "6")
    for enough in (50, 100):
        await_until(partial(manager.has, enough), "summaries in the database")
        manager.broker.kill()
        manager.broker.start()
    assert boxes.process.wait(90) == 0
    made = manager.tally()["summaries"]
    await_until(lambda: manager.count() >= made, "every summary in the database")
    assert (manager.count(), manager.results()) == (made, made)


def test_a_collector_that_comes_late_learns_of_boxes_from_what_is_retained(manager: Manager) -> None:
    manager.publish(*addressed(state()), retain=True)
    manager.collector()
    await_until(lambda: manager.count(db.boxes) == 1, "the box")
    assert manager.conditions(0.0) == [Condition.NEVER]


def test_what_comes_while_no_collector_runs_waits_at_the_broker(manager: Manager) -> None:
    assert manager.collector().stop() == 0
    for _ in range(3):
        manager.publish(*addressed(summary()))
    manager.collector()
    await_until(lambda: manager.count() == 3, "what waited")


def test_a_message_that_is_none_is_kept_apart_and_holds_up_no_other(manager: Manager) -> None:
    collector = manager.collector()
    manager.publish(topic("box-1", "-/m/health/-"), b"\xff\x00")
    manager.publish(topic("box-1", "-/status/state/-"), b'{"schema": "scanside.state/9"}')
    manager.publish(*addressed(health()))
    await_until(lambda: manager.count(db.health) == 1, "the message behind")
    collector.wait_for("SC902")
    with manager.database.connect() as connection:
        counts, _ = queries.apart(connection)
    assert counts == {"not JSON": 1, "schema not known here": 1}
    assert collector.stop() == 0


def test_a_will_makes_a_box_lost_and_its_return_running(manager: Manager) -> None:
    manager.collector()
    boxes = manager.boxes("--boxes", "2", "--studies-per-hour", "0", "--outages-per-day", "0")
    now = await_until(lambda: _all_heard(manager), "two boxes heard")
    assert manager.conditions(now) == [Condition.RUNNING] * 2
    assert boxes.stop() == 0
    await_until(lambda: manager.conditions(now) == [Condition.STOPPED] * 2, "two boxes that left on purpose")
    manager.boxes("--boxes", "2", "--studies-per-hour", "0")
    await_until(lambda: manager.conditions(now) == [Condition.RUNNING] * 2, "two boxes that came back")


def _all_heard(manager: Manager) -> float | None:
    with manager.database.connect() as connection:
        heard = [facts.heard_at for facts in queries.facts(connection, 0.0)]
    return max(at for at in heard if at) if len(heard) == 2 and all(heard) else None
