"""Says over the link how the box is: its will, its birth, the state of each service, and health at intervals."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping

import msgspec

from edge.config import Config
from edge.device.health import Health
from edge.device.troubles import read_troubles
from edge.device.vitals import read_vitals
from edge.messages.commands import Reported, Setting
from edge.messages.topics import UNUSED, Channel, Topic
from edge.messages.types import State
from edge.records import Record
from edge.settings import Standing
from edge.store.machine import synchronised, uptime
from edge.store.outbox import LIFE, Depth
from edge.sync import telemetry
from edge.sync.link import Acknowledged, Link, Outgoing
from edge.sync.retry import FAILURE, Protocol

AUDIT_EVERY = 3600.0
"""Seconds, at least, between two words on one connection about how far the audit trail goes."""


class Announcer:
    """What was said on the present connection, and what is to be said next."""

    def __init__(self, config: Config, link: Link, software: str, health_interval: float) -> None:
        """`software` is Scanside's version; `health_interval` in seconds."""
        self._config = config
        self._link = link
        self._software = software
        self._health_interval = health_interval
        self._session = ""
        self._protocol = Protocol.MQTT_5
        self._state: State | None = None
        self._said: dict[str, bytes] = {}
        self._told: tuple[tuple[str, int, int], ...] = ()
        self._head: int | None = None
        self._head_at = 0.0
        self._refused: set[str] = set()
        self._health_at = 0.0
        self._healths = 0

    def will(self, session: str) -> Outgoing:
        """What the broker is to say when the connection that is about to be opened breaks."""
        self._session = session
        return self._retained(UNUSED, "state", telemetry.state("lost", session, time.time()))

    def connected(self, protocol: Protocol) -> None:
        """A new connection: everything is to be said anew."""
        self._protocol = protocol
        self._said.clear()
        self._told = ()
        self._head, self._head_at = None, 0.0
        self._refused.clear()
        self._state = telemetry.state("ready", self._session, time.time())
        self._health_at = 0.0
        self._healths = 0

    def speak(
        self,
        accounts: Mapping[str, Health],
        outbox: Depth | None,
        certificate_days: float | None = None,
        capabilities: tuple[str, ...] = (),
    ) -> None:
        """Say what is new, as far as the link has room: state and birth first, then the services, then health."""
        if self._state:
            self._say(self._retained(UNUSED, "state", self._state))
        birth = telemetry.about(self._session, self._software, self._protocol, accounts, capabilities)
        self._say(self._retained(UNUSED, "about", birth))
        for name in sorted(accounts):
            self._say(self._retained(name, "health", telemetry.service(accounts[name])))
        if time.monotonic() >= self._health_at and self._link.room:
            # The second comes after a random part of the interval: boxes that came back together drift apart.
            part = random.random() if self._healths == 0 else 1.0  # noqa: S311 - spreads load
            self._health_at = time.monotonic() + part * self._health_interval
            self._link.publish(self._health(accounts, outbox, certificate_days))
            self._healths += 1
            self._say_events()
            while self._refused:
                self._said.pop(self._refused.pop(), None)
        if time.monotonic() >= self._head_at:
            self._say_audit(accounts)

    def say_again(self) -> None:
        """Let all be said anew, and health at once."""
        self._said.clear()
        self._health_at = 0.0

    def tell(self, capabilities: Iterable[tuple[Topic, Record | None]], standing: Standing) -> None:
        """Say what the box can be ordered to do, and which settings of the fleet's it has."""
        for topic, capability in capabilities:
            payload = msgspec.json.encode(capability) if capability else b""
            self._say(Outgoing(str(topic), payload, retain=True))
        values = (Setting(key=key, value=value) for key, value in sorted(standing.settings.values.items()))
        reported = Reported(version=standing.settings.version, state=standing.state, settings=tuple(values))
        site, box = self._config.site, self._config.box
        topic = Topic(site=site, box=box, channel=Channel.SHADOW, name="reported")
        self._say(Outgoing(str(topic), msgspec.json.encode(reported), retain=True))

    def say_stopping(self) -> bool:
        """Say that the box leaves on purpose; False when there is no room yet."""
        self._state = telemetry.state("stopping", self._session, time.time())
        return self._say(self._retained(UNUSED, "state", self._state))

    def acknowledged(self, acknowledged: Acknowledged) -> None:
        """What the broker refused is said again with the next health."""
        if acknowledged.code >= FAILURE:
            self._refused.add(acknowledged.message.topic)

    def _health(self, accounts: Mapping[str, Health], outbox: Depth | None, certificate_days: float | None) -> Outgoing:
        message = telemetry.figures(
            session=self._session,
            seq=self._healths,
            accounts=accounts,
            box=read_vitals(self._config.state_dir / "outbox"),
            outbox=outbox,
            uptime=uptime(),
            now=time.time(),
            synchronised=synchronised(),
            certificate_days=certificate_days,
        )
        topic = Topic(site=self._config.site, box=self._config.box, channel=Channel.MEASUREMENT, name="health")
        return Outgoing(str(topic), msgspec.json.encode(message), expiry=self._expiry())

    def _say_events(self) -> None:
        """The errors by number, when there are others than those that were said on this connection."""
        troubles = read_troubles(self._config.state_dir)
        told = tuple((one.service, one.number, one.count) for one in troubles)
        if told == self._told or not self._link.room:
            return
        self._told = told
        topic = Topic(site=self._config.site, box=self._config.box, channel=Channel.MEASUREMENT, name="events")
        message = telemetry.errors(self._session, troubles, time.time())
        self._link.publish(Outgoing(str(topic), msgspec.json.encode(message), expiry=self._expiry()))

    def _say_audit(self, accounts: Mapping[str, Health]) -> None:
        """How far the audit trail goes, when it goes further than was said on this connection."""
        head = telemetry.audit_head(self._session, accounts, time.time())
        if head is None or head.number == self._head or not self._link.room:
            return
        self._head, self._head_at = head.number, time.monotonic() + AUDIT_EVERY
        topic = Topic(site=self._config.site, box=self._config.box, channel=Channel.MEASUREMENT, name="audit")
        self._link.publish(Outgoing(str(topic), msgspec.json.encode(head), expiry=round(LIFE)))

    def _expiry(self) -> int:
        return max(60, round(3 * self._health_interval))

    def _retained(self, service: str, name: str, message: Record) -> Outgoing:
        topic = Topic(site=self._config.site, box=self._config.box, service=service, channel=Channel.STATUS, name=name)
        return Outgoing(str(topic), msgspec.json.encode(message), retain=True)

    def _say(self, message: Outgoing) -> bool:
        """Publish what was not said yet on this connection; False when there was no room to."""
        if self._said.get(message.topic) == message.payload:
            return True
        if not self._link.room:
            return False
        self._link.publish(message)
        self._said[message.topic] = message.payload
        return True
