"""Orders of the fleet: taken in when they may be obeyed, refused with a reason otherwise, and what became of each said.

What the link itself can do is done here; all else is the steward's, who reads the same file and looks at each
signature for himself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import get_args

import msgspec

from edge import events
from edge.config import Config
from edge.device.troubles import read_troubles
from edge.events import emit
from edge.messages import commands
from edge.messages.commands import Capability, Command, HealthCheck, LogExcerpt, Order, Refusal, Status
from edge.messages.topics import UNUSED, Channel, Topic, TopicError, parse
from edge.settings import SETTABLE
from edge.signature import public_keys
from edge.store.machine import Machine
from edge.store.orders import STEWARDS, Now, Ordered, Orders
from edge.sync.excerpt import excerpt
from edge.sync.link import Acknowledged, Link, Outgoing, Received
from edge.sync.retry import FAILURE

OWN = ("health-check", "log-excerpt")
"""Operations that need nothing but what `sync` has."""

GRACE = 60.0
"""Seconds beyond its time limit after which an order is given up for whoever should have executed it."""

_MOST_REFUSALS = 50


def overdue(ordered: Ordered, limit: float, now: Now) -> str:
    """Why an order that has not ended is to be given up, for whoever should execute it is not there; empty when not.

    Args:
        ordered: As it stands.
        limit: Its own time limit in seconds.
        now: This moment. In another boot than the order's, what was lived of this boot counts.
    """
    lived = now.uptime - ordered.since if ordered.boot == now.boot else now.uptime
    if lived <= limit + GRACE:
        return ""
    return "nobody on this box took it up" if ordered.status == Status.INIT else "timed out"


class Commands:
    """What is ordered of this box over one link."""

    def __init__(self, orders: Orders, link: Link, config: Config, machine: Machine, wall: Callable[[], float]) -> None:
        """`machine` and `wall` say what time it is."""
        self._orders = orders
        self._link = link
        self._config = config
        self._machine = machine
        self._wall = wall
        self._refusals: deque[Outgoing] = deque(maxlen=_MOST_REFUSALS)
        self._saying: dict[str, tuple[str, str]] = {}
        self._floor = orders.floor()

    def connected(self) -> None:
        """A new connection: what was in flight was not said; what is retained comes again."""
        self._saying.clear()
        self._refusals.clear()

    def received(self, received: Received) -> None:
        """Take an order, or refuse it; acknowledge it after it is on the disk. Nothing that comes raises."""
        try:
            address = parse(received.topic)
        except TopicError:
            address = None
        if address and address.channel is Channel.COMMAND and address.id != UNUSED and received.payload:
            self._judge(address, received.payload)
        self._link.acknowledge(received.packet)

    def turn(self, say_health: Callable[[], None]) -> None:
        """Execute what is ours, give up what nobody executes, and say what is new."""
        for ordered in self._orders.open(OWN):
            self._execute(ordered, say_health)
        for ordered in self._orders.open(STEWARDS):
            order = commands.read_order(ordered.text)
            limit = order.timeout_seconds if isinstance(order, Order) else 0.0
            if reason := overdue(ordered, limit, self._now()):
                self._end(ordered, Status.FAILED, reason)
        self._say()

    def acknowledged(self, acknowledged: Acknowledged) -> None:
        """The broker has a document, or refused it: then it is said again on the next connection."""
        said = self._saying.get(acknowledged.message.topic)
        if said and acknowledged.code < FAILURE:
            del self._saying[acknowledged.message.topic]
            self._orders.said(*said)

    def capabilities(self, *, steward: bool) -> list[tuple[Topic, Capability | None]]:
        """Each operation's topic, with what the box can do; None for what it cannot do now."""
        choices = {"restart": _services(self._config), "configure": tuple(sorted(SETTABLE))}
        return [
            (
                self._topic(name, UNUSED),
                Capability(operation=name, choices=choices.get(name, ())) if steward or name in OWN else None,
            )
            for name in sorted(commands.OPERATIONS)
        ]

    def close(self) -> None:
        """Close the orders' file."""
        self._orders.close()

    def _judge(self, address: Topic, payload: bytes) -> None:
        known = self._orders.get(address.id)
        command = commands.read(payload)
        if known:
            if known.status != Status.INIT and not (isinstance(command, Command) and command.status == known.status):
                self._orders.said(known.id, "")
            return
        if isinstance(command, Refusal):
            self._refuse(address, None, command)
        elif command.status == "init":
            verdict = self._take(command, address)
            if verdict:
                self._refuse(address, command, verdict)
        elif command.status == "executing":
            self._refuse(address, command, "this box knows nothing of it any more")

    def _take(self, command: Command, address: Topic) -> str:
        """Why an order is refused; empty when it was taken."""
        now = self._now()
        judged_at = max(now.wall, self._floor)
        mqtt = self._config.mqtt
        keys = public_keys(mqtt.command_keys if mqtt else None)
        order = commands.check(
            command,
            address,
            keys,
            judged_at,
            synchronised=self._machine.synchronised(),
            since=self._orders.since(),
        )
        if isinstance(order, Refusal):
            return order.value
        if not self._orders.take(order, command.signature, command.order, now):
            return "too many orders within a week"
        self._floor = max(self._floor, order.issued_at.timestamp())
        emit(events.ORDER_TAKEN, order=order.id, operation=address.name)
        return ""

    def _execute(self, ordered: Ordered, say_health: Callable[[], None]) -> None:
        order = commands.read_order(ordered.text)
        if not self._orders.begin(ordered.id, self._now()):
            return
        if isinstance(order, Order) and isinstance(order.work, HealthCheck):
            say_health()
            self._end(ordered, Status.SUCCESSFUL)
        elif isinstance(order, Order) and isinstance(order.work, LogExcerpt):
            lines = excerpt(read_troubles(self._config.state_dir), order.work.most)
            self._end(ordered, Status.SUCCESSFUL, lines=lines)
        else:
            self._end(ordered, Status.FAILED, Refusal.INVALID.value)

    def _end(self, ordered: Ordered, status: Status, reason: str = "", lines: Iterable[commands.Line] = ()) -> None:
        if self._orders.end(ordered.id, status, self._wall(), reason, lines):
            emit(events.ORDER_ENDED, order=ordered.id, operation=ordered.operation, status=status.value, reason=reason)

    def _refuse(self, address: Topic, command: Command | None, reason: str) -> None:
        """Answer on the order's own topic; nothing of what could not be read is repeated."""
        emit(events.ORDER_REFUSED, reason=reason)
        answer = Command(
            order=command.order if command else "",
            signature=command.signature if command else "",
            status="failed",
            reason=reason,
            ts=commands.time(self._wall()),
            lines=(),
        )
        self._refusals.append(Outgoing(str(address), msgspec.json.encode(answer), retain=True))

    def _say(self) -> None:
        while self._refusals and self._link.room:
            self._link.publish(self._refusals.popleft())
        if not self._link.room:
            return
        for ordered in self._orders.unsaid():
            topic = str(self._topic(ordered.operation, ordered.id))
            if not self._link.room or topic in self._saying:
                continue
            self._saying[topic] = (ordered.id, ordered.status)
            self._link.publish(Outgoing(topic, msgspec.json.encode(_document(ordered)), retain=True))

    def _topic(self, operation: str, order_id: str) -> Topic:
        site, box = self._config.site, self._config.box
        return Topic(site=site, box=box, channel=Channel.COMMAND, name=operation, id=order_id)

    def _now(self) -> Now:
        return Now(self._wall(), self._machine.boot_id(), self._machine.uptime())


def subscription(config: Config) -> str | None:
    """What a box hears; nothing where it obeys nobody."""
    if config.mqtt is None or config.mqtt.command_keys is None:
        return None
    return f"scanside/1/{config.site}/{config.box}/-/{Channel.COMMAND}/+/+"


def _services(config: Config) -> tuple[str, ...]:
    """Those that can be ordered to start anew: all but the steward, who does it."""
    return tuple(sorted(name for name in config.services if name in get_args(commands.ServiceName)))


def _document(ordered: Ordered) -> Command:
    return Command(
        order=ordered.text,
        signature=ordered.signature,
        status=Status(ordered.status).value,
        reason=ordered.reason,
        ts=commands.time(ordered.changed),
        lines=ordered.lines,
    )
