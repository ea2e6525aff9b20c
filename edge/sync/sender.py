"""Sends the outbox's messages over the link, and strikes out what the broker has acknowledged."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from edge import events, reasons
from edge.config import Config, Mqtt
from edge.device.heap import tidy
from edge.events import emit
from edge.messages.aggregate import Aggregate
from edge.messages.topics import Channel, Topic, parse
from edge.records import Summary
from edge.store import Damaged, Outbox, OutboxMessage
from edge.store.outbox import Class, Depth, class_of
from edge.sync.drain import Allowance, Drain, corrected, message_expiry
from edge.sync.link import Acknowledged, Link, Outgoing
from edge.sync.settling import Settling

AGAIN_AFTER = 5.0
"""Seconds until an outbox that failed is tried again."""

KEEP_EVERY = 60.0
"""Seconds between two looks for what has outlived its class, and for memory that is free."""


class Sender:
    """The way from the outbox to the link: findings first, then telemetry, each oldest first."""

    def __init__(self, outbox: Outbox, link: Link, config: Config, mqtt: Mqtt) -> None:
        """Nothing is sent before `connected`."""
        self._outbox = outbox
        self._link = link
        self._config = config
        self._says_hour = mqtt.summary_hour
        self._drains = {kind: Drain() for kind in Class}
        self._allowance = Allowance(mqtt.messages_per_second)
        self._in_flight: dict[int, str] = {}
        self._delivered: list[int] = []
        self._settling: Settling[tuple[str, str, bytes]] = Settling()
        self._again_at = 0.0
        self._keep_at = 0.0
        self._reported: set[int] = set()
        self.trouble = ""
        """Why the outbox cannot be used; empty while it can."""

    def connected(self) -> None:
        """A new connection: begin with the oldest message; what a killed broker may have forgotten is put back."""
        self._in_flight.clear()
        self._start_over()
        self._reported.clear()
        if again := self._settling.broken():
            with self._using_outbox():
                self._strike_out()
                self._outbox.put_back(again)

    def send(self) -> None:
        """Strike out what is delivered, then publish as many waiting messages as the link has room for."""
        now = time.monotonic()
        if now < self._again_at:
            return
        with self._using_outbox():
            self._strike_out()
            self._keep(now)
            for kind, drain in self._drains.items():
                room = min(self._link.room, self._allowance.left(now))
                after, limit = drain.wanted(room, now)
                if limit:
                    for message in drain.choose(self._outbox.waiting(after, limit, kind), room):
                        self._publish(message, drain)

    def due(self) -> float:
        """When the rate lets messages go again, on `time.monotonic()`; infinite while it holds nothing back."""
        wait = self._allowance.wait()
        return time.monotonic() + wait if wait else float("inf")

    def acknowledged(self, acknowledged: Acknowledged) -> None:
        """The broker took one of the outbox's messages, or refused it."""
        message, row, now = acknowledged.message, acknowledged.message.row, time.monotonic()
        if row is None or row not in self._in_flight:
            return
        kind = self._in_flight.pop(row)
        drain = self._drains[class_of(kind)]
        if drain.acknowledged(row, acknowledged.code, now, random.random()):  # noqa: S311 - spreads load
            self._delivered.append(row)
            self._settling.add((parse(message.topic).id, kind, message.payload), now)

    def depth(self) -> Depth | None:
        """What waits; None while the outbox cannot be used."""
        if time.monotonic() >= self._again_at:
            with self._using_outbox():
                self._strike_out()
                return self._outbox.depth()
        return None

    def close(self) -> None:
        """Strike out what is delivered, and close the outbox."""
        with self._using_outbox():
            self._strike_out()
            self._outbox.remember()
        self._outbox.close()

    def _keep(self, now: float) -> None:
        if now >= self._keep_at:
            self._keep_at = now + KEEP_EVERY
            self._outbox.drop_old()
            self._outbox.remember()
            tidy()  # what a burst of messages took

    def _strike_out(self) -> None:
        if self._delivered:
            self._outbox.remove(self._delivered)
            self._delivered.clear()

    def _publish(self, message: OutboxMessage, drain: Drain) -> None:
        outgoing = self._address(message)
        if outgoing is None:
            drain.skip(message.number)
            return
        self._link.publish(outgoing)
        self._allowance.used(1)
        self._in_flight[message.number] = message.kind
        drain.sent(message.number)

    def _address(self, message: OutboxMessage) -> Outgoing | None:
        """The message as it goes out; None when it is not what may leave the box: it stays, and the log says so."""
        try:
            topic, payload = self._fit(message)
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            if message.number not in self._reported:
                self._reported.add(message.number)
                emit(events.MESSAGE_UNFIT, number=message.number, error=type(error).__name__)
            return None
        expiry = message_expiry(self._outbox.now().lifetime - message.put_at)
        return Outgoing(str(topic), payload, expiry=expiry, row=message.number)

    def _fit(self, message: OutboxMessage) -> tuple[Topic, bytes]:
        """Where to and how it leaves. Raises `KeyError`, `ValueError`, `MsgspecError`: it may not."""
        if message.kind == "summary":
            summary = msgspec.json.decode(message.body, type=Summary)
            topic = self._topic(Channel.FINDING, "image", summary.message_id)
            return topic, msgspec.json.encode(self._as_it_leaves(message, summary))
        if message.kind == "aggregate":
            aggregate = msgspec.json.decode(message.body, type=Aggregate)
            return self._topic(Channel.MEASUREMENT, "aggregate", aggregate.message_id), message.body
        raise KeyError(message.kind)

    def _as_it_leaves(self, message: OutboxMessage, summary: Summary) -> Summary:
        """With the hour that was meant, if that can be known by now, or without; the same at each repetition."""
        if summary.clock == "uncertain" and not message.sent:
            right = corrected(summary, message.put_at, self._outbox.boot, self._outbox.now())
            if right != summary:
                self._outbox.correct(message.number, msgspec.json.encode(right))
                summary = right
            else:
                self._outbox.mark_sent(message.number)
        return summary if self._says_hour else msgspec.structs.replace(summary, hour=None)

    def _topic(self, channel: Channel, name: str, message_id: str) -> Topic:
        site, box = self._config.site, self._config.box
        return Topic(site=site, box=box, service="inference", channel=channel, name=name, id=message_id)

    def _start_over(self) -> None:
        for drain in self._drains.values():
            drain.start_over()

    @contextmanager
    def _using_outbox(self) -> Iterator[None]:
        """A file that fails is left alone for a while; then what is still in it is sent, from the oldest on.

        Raises:
            Damaged: It has to be repaired, which the next start does.
        """
        try:
            yield
            self.trouble = ""
        except Damaged:
            raise
        except sqlite3.Error as error:
            if not self.trouble:
                emit(events.OUTBOX_FAILED, error=error, delay=AGAIN_AFTER)
            self.trouble = reasons.OUTBOX_UNUSABLE
            self._again_at = time.monotonic() + AGAIN_AFTER
            self._start_over()
