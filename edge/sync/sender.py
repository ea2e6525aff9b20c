"""Sends the outbox's messages over the link, and strikes out what the broker has acknowledged."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from edge import events
from edge.events import emit
from edge.messages.topics import Channel, Topic, parse
from edge.records import Summary
from edge.store import Damaged, Outbox, OutboxMessage
from edge.sync.drain import Drain, message_expiry
from edge.sync.link import Acknowledged, Link, Outgoing
from edge.sync.settling import Settling

AGAIN_AFTER = 5.0
"""Seconds until an outbox that failed is tried again."""


_KINDS = {"summary": Summary}


class Sender:
    """The way from the outbox to the link."""

    def __init__(self, outbox: Outbox, link: Link, site: str, box: str) -> None:
        """Nothing is sent before `connected`."""
        self._outbox = outbox
        self._link = link
        self._site = site
        self._box = box
        self._drain = Drain()
        self._settling: Settling[tuple[str, str, bytes]] = Settling()
        self._again_at = 0.0
        self._reported: set[int] = set()
        self.trouble = ""
        """Why the outbox cannot be used; empty while it can."""

    def connected(self) -> None:
        """A new connection: begin with the oldest message; what a killed broker may have forgotten is put again."""
        self._drain.start_over()
        self._reported.clear()
        if again := self._settling.broken(time.monotonic()):
            with self._using_outbox():
                self._outbox.put(again)

    def send(self) -> None:
        """Publish as many waiting messages as the link has room for."""
        now = time.monotonic()
        if now < self._again_at:
            return
        room = self._link.room
        after, limit = self._drain.wanted(room, now)
        if not limit:
            return
        with self._using_outbox():
            for message in self._drain.choose(self._outbox.waiting(after, limit), room):
                outgoing = self._address(message)
                if outgoing is None:
                    self._drain.skip(message.number)
                else:
                    self._link.publish(outgoing)
                    self._drain.sent(message.number)

    def acknowledged(self, acknowledged: Acknowledged) -> None:
        """The broker took one of the outbox's messages, or refused it."""
        message, row, now = acknowledged.message, acknowledged.message.row, time.monotonic()
        if row is None:
            return
        if self._drain.acknowledged(row, acknowledged.code, now, random.random()):  # noqa: S311 - spreads load
            self._settling.add((parse(message.topic).id, "summary", message.payload), now)
            with self._using_outbox():
                self._outbox.remove(row)

    def depth(self) -> tuple[int, float | None] | None:
        """How many messages wait, and since when the oldest does; None while the outbox cannot be used."""
        if time.monotonic() >= self._again_at:
            with self._using_outbox():
                return self._outbox.depth()
        return None

    def close(self) -> None:
        """Close the outbox."""
        self._outbox.close()

    def _address(self, message: OutboxMessage) -> Outgoing | None:
        """The message as it goes out; None when it is not what may leave the box: it stays, and the log says so."""
        try:
            summary = msgspec.json.decode(message.body, type=_KINDS[message.kind])
            topic = self._topic(summary.message_id)
        except (KeyError, ValueError, msgspec.MsgspecError) as error:
            if message.number not in self._reported:
                self._reported.add(message.number)
                emit(events.MESSAGE_UNFIT, number=message.number, error=type(error).__name__)
            return None
        expiry = message_expiry(message.created_at, time.time())
        return Outgoing(str(topic), message.body, expiry=expiry, row=message.number)

    def _topic(self, message_id: str) -> Topic:
        return Topic(
            site=self._site, box=self._box, service="inference", channel=Channel.FINDING, name="image", id=message_id
        )

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
            self.trouble = "the outbox cannot be used"
            self._again_at = time.monotonic() + AGAIN_AFTER
            self._drain.start_over()
