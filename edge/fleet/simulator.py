"""`scanside fleet simulate`: many boxes in one process, each on the very link that a real box has.

One thread drives all connections over one selector; only what blocks in connecting runs in threads of its own, as on a
box. What is not acknowledged, or not settled, is sent again, as from a box's outbox; here it is in memory.
"""

from __future__ import annotations

import heapq
import json
import resource
import selectors
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from edge import events
from edge.config import Mqtt
from edge.device.signals import stop_on_signals
from edge.errors import UsageError
from edge.events import emit
from edge.fleet.traffic import SimulatedBox
from edge.store.outbox import LIFE
from edge.sync.link import Acknowledged, Link, Opened, Outgoing
from edge.sync.retry import FAILURE, Attempt, Ending, Protocol, is_taken, next_attempt
from edge.sync.settling import Settling

CONNECTING_AT_ONCE = 200
REPORT_EVERY = 5.0
AGAIN_AFTER = 5.0
"""Seconds until what the broker gave to nobody is sent again."""


_FILES_A_BOX = 3
_OTHER_FILES = 64
_DAY = 86400.0


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What is simulated.

    Attributes:
        boxes: How many.
        seed: The same seed, the same fleet with the same images.
        studies_per_hour: Patients of each box.
        health_seconds: Between two health messages of a box.
        failing: The first so many boxes have no inference service and a disk that fills.
        outages_per_day: How often each box's network fails.
        storm_seconds: How often all of them lose their connections at once; None for never.
        seconds: When it stops making messages, waits for the last acknowledgements and ends; None for never.
    """

    boxes: int
    seed: int
    studies_per_hour: float = 12.0
    health_seconds: float = 60.0
    failing: int = 0
    outages_per_day: float = 2.0
    storm_seconds: float | None = None
    seconds: float | None = None


@dataclass
class Tally:
    """What has happened so far: summaries made and acknowledged, messages acknowledged, connections, refusals."""

    boxes: int = 0
    connected: int = 0
    most_connected: int = 0
    connections: int = 0
    summaries: int = 0
    summaries_delivered: int = 0
    delivered: int = 0
    refused: int = 0


def simulate(mqtt: Mqtt, scenario: Scenario, report: Path | None = None) -> int:
    """Run the scenario until it ends, or SIGTERM or SIGINT; exit status 1 when something made was not delivered.

    Args:
        mqtt: The broker, as a box is told of it.
        scenario: See there.
        report: Where the tally is written as JSON, at the end.
    """
    _allow_files(scenario.boxes)
    fleet = Fleet(mqtt, scenario)
    stopping = stop_on_signals(fleet.wake)
    while not stopping.is_set() and not fleet.over:
        fleet.turn()
    fleet.close()
    if report:
        report.write_text(json.dumps(asdict(fleet.tally)), encoding="ascii")
    json.dump(asdict(fleet.tally), sys.stdout)
    sys.stdout.write("\n")
    return 0 if scenario.seconds is None or fleet.tally.summaries == fleet.tally.summaries_delivered else 1


@dataclass(eq=False)
class _Station:
    """A box and its connection."""

    number: int
    box: SimulatedBox
    link: Link
    attempt: Attempt
    connected: bool = False
    outage_until: float = 0.0
    watched: socket.socket | None = None
    watched_for: int = 0
    first: deque[Outgoing] = field(default_factory=deque)
    unsent: deque[Outgoing] = field(default_factory=deque)
    in_flight: dict[int, Outgoing] = field(default_factory=dict)
    settling: Settling[Outgoing] = field(default_factory=Settling)
    owed: list[Outgoing] = field(default_factory=list)
    made: int = 0
    behind_since: float | None = None


class Fleet:
    """All boxes, turn by turn, in one thread."""

    def __init__(self, mqtt: Mqtt, scenario: Scenario) -> None:
        """Nothing is connected yet."""
        self._scenario = scenario
        self._selector = selectors.DefaultSelector()
        self._reached: deque[int] = deque()
        self._reader, self._waker = socket.socketpair()
        self._reader.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._reader, selectors.EVENT_READ, None)
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._turns = 0
        self._opening = 0
        self._start = time.monotonic()
        self._made_all = False
        self.tally = Tally(boxes=scenario.boxes)
        self._stations = [self._new_station(mqtt, number) for number in range(scenario.boxes)]
        for station in self._stations:
            self._prepare(station)
        if scenario.storm_seconds:
            self._at(scenario.storm_seconds, self._storm)
        self._at(REPORT_EVERY, self._report)

    @property
    def over(self) -> bool:
        """Whether the scenario's time is up and all summaries are acknowledged."""
        seconds = self._scenario.seconds
        self._made_all = seconds is not None and time.monotonic() - self._start >= seconds
        return self._made_all and self.tally.summaries == self.tally.summaries_delivered

    def wake(self) -> None:
        """End the sleep of `turn`; from any thread."""
        try:
            self._waker.send(b"\0")
        except OSError:
            return  # it is awake, or has ended

    def turn(self) -> None:
        """Do what is due, then wait for what happens."""
        now = time.monotonic()
        while self._due and self._due[0][0] <= now:
            heapq.heappop(self._due)[2]()
        wait = min(0.2, max(0.0, self._due[0][0] - time.monotonic())) if self._due else 0.2
        for key, _ in self._selector.select(wait):
            if key.data is None:
                self._reader.recv(65536)
            else:
                self._poll(self._stations[key.data])
        while self._reached:
            self._opening -= 1
            self._poll(self._stations[self._reached.popleft()])

    def close(self) -> None:
        """All boxes leave in good order."""
        for station in self._stations:
            if station.connected:
                topic, payload = station.box.state("stopping", time.time())
                station.link.publish(Outgoing(topic, payload, retain=True))
            station.link.close()
        self._selector.close()
        self._reader.close()

    def _new_station(self, mqtt: Mqtt, number: int) -> _Station:
        scenario = self._scenario
        box = SimulatedBox(number, scenario.seed, failing=number < scenario.failing)

        def reached() -> None:
            self._reached.append(number)
            self.wake()

        link = Link(mqtt, f"scanside.{box.site}.{box.box}", reached)
        return _Station(number, box, link, Attempt(Protocol.MQTT_5, 0.0, 0))

    def _prepare(self, station: _Station) -> None:
        box, scenario = station.box, self._scenario
        self._at(box.jitter() * min(10.0, scenario.boxes / 500), lambda: self._open(station))
        self._at(box.jitter() * scenario.health_seconds, lambda: self._health(station))
        self._day_before(station)
        if scenario.studies_per_hour > 0 and not box.failing:
            self._at(box.until_next_study(scenario.studies_per_hour), lambda: self._study(station))
        if scenario.outages_per_day > 0:
            mean = _DAY / scenario.outages_per_day
            self._at(box.until_outage(mean), lambda: self._outage(station, mean))

    def _at(self, seconds: float, action: Callable[[], None]) -> None:
        self._turns += 1
        heapq.heappush(self._due, (time.monotonic() + seconds, self._turns, action))

    def _open(self, station: _Station) -> None:
        wait = station.outage_until - time.monotonic()
        if wait > 0 or self._opening >= CONNECTING_AT_ONCE:
            self._at(max(wait, 0.05), lambda: self._open(station))
            return
        self._opening += 1
        station.box.new_session()
        topic, payload = station.box.state("lost", time.time())
        station.link.open(station.attempt.protocol, Outgoing(topic, payload, retain=True))

    def _health(self, station: _Station) -> None:
        self._at(self._scenario.health_seconds, lambda: self._health(station))
        if station.connected and not self._made_all:
            self._say_health(station)
            self._send(station)
        self._poll(station)  # keeps the connection alive

    def _say_health(self, station: _Station) -> None:
        waiting = len(station.unsent) + len(station.in_flight)
        since = station.behind_since
        oldest = int(time.monotonic() - since) if waiting and since is not None else 0 if waiting else None
        topic, payload = station.box.health(time.time(), waiting, oldest)
        expiry = max(60, round(3 * self._scenario.health_seconds))
        station.first.append(Outgoing(topic, payload, expiry=expiry))

    def _day_before(self, station: _Station) -> None:
        """A day is over: its counts are said once the broker has taken them, on however many connections."""
        self._at(_DAY - time.time() % _DAY + station.box.jitter(), lambda: self._day_before(station))
        topic, payload = station.box.day_before(time.time())
        counts = Outgoing(topic, payload, expiry=round(LIFE))
        station.owed.append(counts)
        if station.connected:
            station.first.append(counts)

    def _study(self, station: _Station) -> None:
        if self._made_all:
            return
        self._at(station.box.until_next_study(self._scenario.studies_per_hour), lambda: self._study(station))
        for topic, payload in station.box.study(time.time()):
            station.unsent.append(Outgoing(topic, payload, expiry=round(LIFE), row=station.made))
            station.made += 1
            self.tally.summaries += 1
        if station.behind_since is None:
            station.behind_since = time.monotonic()
        self._send(station)

    def _outage(self, station: _Station, mean: float) -> None:
        self._at(station.box.until_outage(mean), lambda: self._outage(station, mean))
        station.outage_until = time.monotonic() + station.box.outage_seconds()
        self._break(station)

    def _storm(self) -> None:
        self._at(self._scenario.storm_seconds or 0.0, self._storm)
        for station in self._stations:
            self._break(station)

    def _break(self, station: _Station) -> None:
        """The connection ends without a word: the broker will say `lost`."""
        if station.connected and station.watched is not None:
            station.watched.shutdown(socket.SHUT_RDWR)

    def _poll(self, station: _Station) -> None:
        for happened in station.link.poll():
            if isinstance(happened, Opened):
                self._up(station, happened.protocol)
            elif isinstance(happened, Acknowledged):
                self._acknowledged(station, happened)
            elif isinstance(happened, Ending):
                self._down(station, happened)
        self._watch(station)
        self._send(station)

    def _up(self, station: _Station, protocol: Protocol) -> None:
        station.connected = True
        self.tally.connections += 1
        self.tally.connected += 1
        self.tally.most_connected = max(self.tally.most_connected, self.tally.connected)
        station.first.extend(Outgoing(*said, retain=True) for said in station.box.birth(time.time(), protocol))
        self._say_health(station)
        said = (station.box.audit_head(time.time()), station.box.errors(time.time()))
        station.first.extend(Outgoing(*one, expiry=round(LIFE)) for one in said)
        station.first.extend(station.owed)

    def _down(self, station: _Station, ending: Ending) -> None:
        self.tally.connected -= station.connected
        station.connected = False
        station.first.clear()
        station.unsent.extendleft(reversed(station.in_flight.values()))
        station.in_flight.clear()
        again = station.settling.broken()
        station.unsent.extendleft(reversed(again))
        self.tally.summaries_delivered -= len(again)
        station.attempt = next_attempt(station.attempt.protocol, ending, station.attempt.failures, station.box.jitter())
        self._at(station.attempt.delay, lambda: self._open(station))

    def _acknowledged(self, station: _Station, acknowledged: Acknowledged) -> None:
        message = acknowledged.message
        if message.row is not None:
            station.in_flight.pop(message.row, None)
        self.tally.refused += acknowledged.code >= FAILURE
        if message.row is not None and not is_taken(acknowledged.code):
            self._at(AGAIN_AFTER, lambda: self._again(station, message))
            return
        if message.row is not None:
            station.settling.add(message, time.monotonic())
        if message in station.owed:
            station.owed.remove(message)
        self.tally.delivered += 1
        self.tally.summaries_delivered += message.row is not None
        if not station.unsent and not station.in_flight:
            station.behind_since = None

    def _again(self, station: _Station, message: Outgoing) -> None:
        station.unsent.append(message)
        self._send(station)

    def _send(self, station: _Station) -> None:
        if not station.connected:
            return
        while station.link.room > 0 and (station.first or station.unsent):
            message = station.first.popleft() if station.first else station.unsent.popleft()
            station.link.publish(message)
            if message.row is not None:
                station.in_flight[message.row] = message
        self._watch(station)

    def _watch(self, station: _Station) -> None:
        """Have the selector wait for what the link waits for."""
        readers, writers = station.link.waits_for()
        sock = readers[0] if readers else None
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if writers else 0)
        if sock is station.watched and (sock is None or wanted == station.watched_for):
            return
        if station.watched is not None and sock is not station.watched:
            self._selector.unregister(station.watched)
            station.watched = None
        if sock is not None:
            change = self._selector.modify if station.watched is sock else self._selector.register
            change(sock, wanted, station.number)
        station.watched, station.watched_for = sock, wanted

    def _report(self) -> None:
        self._at(REPORT_EVERY, self._report)
        tally = self.tally
        emit(
            events.FLEET_SIMULATED,
            connected=tally.connected,
            boxes=tally.boxes,
            delivered=tally.delivered,
            waiting=tally.summaries - tally.summaries_delivered,
        )


def _allow_files(boxes: int) -> None:
    """Raises `UsageError`: the system allows fewer open files than the connections need."""
    needed = boxes * _FILES_A_BOX + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        most = (hard - _OTHER_FILES) // _FILES_A_BOX
        raise UsageError(
            f"--boxes {boxes}: {needed} open files are needed and {hard} allowed: at most {most} boxes here"
        )
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
