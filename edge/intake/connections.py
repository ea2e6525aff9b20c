"""The open connections: how many there may be, and which have had their time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from socket import SHUT_RDWR, socket
from threading import Lock
from typing import Any, Protocol

from edge import events
from edge.config import Dicom
from edge.events import emit
from edge.intake.admission import Rejection, Request, decide

_WAITING_FOR_EACH = 2
"""Connections for each association that is allowed: so many more may be on their way in, or being told no."""


class Stage(Enum):
    """What a connection waits for."""

    REQUESTING = auto()  # its sender's A-ASSOCIATE-RQ
    RECEIVING = auto()  # its sender's next bytes
    STORING = auto()  # us: a message is complete and not answered yet; nothing more is read until then
    CLOSING = auto()  # its threads' end


class Incoming(Protocol):
    """An object on its way in."""

    def discard(self) -> None:
        """Remove what came, unless the store has accepted it."""


@dataclass(eq=False)
class Connection:
    """One TCP connection. Seconds are those of the clock of its `Connections`.

    Attributes:
        socket: For hanging up.
        host: The sender's address.
        opened: When it was accepted.
        since: When what is in progress began: a message, or the rest before one.
        received: Bytes since then.
        stage: What it waits for.
        thread: The association, a thread: the connection counts until it ends.
        violation: What its sender did against the protocol.
        incoming: The object that is being received or stored.
    """

    socket: socket
    host: str
    opened: float
    since: float
    received: int = 0
    stage: Stage = Stage.REQUESTING
    thread: Any = None
    violation: str = ""
    incoming: Incoming | None = None

    @property
    def is_association(self) -> bool:
        """Whether it has an association."""
        return self.stage in (Stage.RECEIVING, Stage.STORING)

    def discard(self) -> None:
        """Remove what came of an object, unless the store has accepted it."""
        if self.incoming:
            self.incoming.discard()
            self.incoming = None

    def hang_up(self) -> None:
        """Close it under its threads: they see the end at once and go."""
        self.stage = Stage.CLOSING
        try:
            socket.shutdown(self.socket, SHUT_RDWR)  # not SSLSocket's own, which also takes TLS away from a reader
        except OSError:
            return  # closed already


def overdue(connection: Connection, config: Dicom, now: float) -> str:
    """Why a connection is to be cut; empty when it is not.

    A sender in the middle of an object must keep up `min_bytes_per_second`, with `idle_timeout_seconds` in advance: so
    it is of no use to send a byte now and then.
    """
    if connection.stage is Stage.REQUESTING and now - connection.opened > config.association_timeout_seconds:
        return f"it asked for no association within {config.association_timeout_seconds} s"
    allowed = config.idle_timeout_seconds + connection.received / config.min_bytes_per_second
    if connection.stage is Stage.RECEIVING and now - connection.since > allowed:
        if not connection.received:
            return f"nothing came for {config.idle_timeout_seconds} s"
        return f"{connection.received} bytes came in {now - connection.since:.0f} s"
    return ""


class Connections:
    """Shared by the listeners' and the associations' threads."""

    def __init__(self, config: Dicom, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self.clock = clock
        self._lock = Lock()
        self._open: list[Connection] = []
        self._refused = 0

    def opened(self, client: socket, host: str) -> Connection | None:
        """Count a new connection in; None when there are too many: then it is to be closed without a word."""
        now = self.clock()
        with self._lock:
            self._forget_ended()
            hosts = Counter(connection.host for connection in self._open)
            if (
                hosts.total() >= _WAITING_FOR_EACH * self._config.max_associations
                or hosts[host] >= _WAITING_FOR_EACH * self._config.max_associations_per_host
            ):
                self._refused += 1
                if not self._refused & (self._refused - 1):
                    reason = f"{hosts.total()} are open, {hosts[host]} from there"
                    emit(events.CONNECTION_REFUSED, host=host, reason=reason, count=self._refused)
                return None
            connection = Connection(client, host, opened=now, since=now)
            self._open.append(connection)
        return connection

    def closed(self, connection: Connection) -> None:
        """Forget one that never got a thread."""
        with self._lock:
            self._open.remove(connection)

    def admit(self, connection: Connection, *, called: str, calling: str, context: str) -> Rejection | None:
        """Decide on an association request, and count it in when it is admitted (returns None)."""
        with self._lock:
            self._forget_ended()
            others = [other.host for other in self._open if other.is_association]
            host = connection.host
            request = Request(host, called, calling, context, len(others), others.count(host))
            rejection = decide(request, self._config)
            if rejection is None:
                connection.stage, connection.since, connection.received = Stage.RECEIVING, self.clock(), 0
        return rejection

    def cut_overdue(self) -> None:
        """Hang up on those that have had their time."""
        now = self.clock()
        for connection in self.all():
            if reason := overdue(connection, self._config, now):
                emit(events.CONNECTION_CUT, host=connection.host, reason=reason)
                connection.hang_up()

    def all(self) -> tuple[Connection, ...]:
        """Those that are open."""
        with self._lock:
            self._forget_ended()
            return tuple(self._open)

    def associations(self) -> int:
        """How many associations are open."""
        return sum(connection.is_association for connection in self.all())

    def _forget_ended(self) -> None:
        ended = [one for one in self._open if one.thread and not one.thread.is_alive()]
        for connection in ended:
            connection.hang_up()  # nothing to do, unless the thread broke
            connection.discard()
            self._open.remove(connection)
