"""Claim: 10,000 requests a second from one client hold up neither the analysis of images nor other visitors.

`python -m benchmarks.flood_rate [--rounds 3] [--rate 10000]`. As `flood.py`, but in an open loop: the client sends so
many requests each second, however few of them are answered. In turns: without a flood; as many new connections a second
to a port at which nobody listens (the peer: what the client itself costs on the machine that it shares here with the
box); over 64 connections that are kept; with a new connection for each request.
"""

from __future__ import annotations

import argparse
import re
import selectors
import socket
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Protocol

from benchmarks.box import free_port
from benchmarks.flood import AT_ONCE, CONNECTIONS, IMAGES, Turn, alternate, running, write_config
from benchmarks.report import heading, percentile, ratio, spread
from edge import config_file

_QUIET, _PEER = "no flood", "connections to a closed port"
_KEPT, _FRESH = "connections that are kept", "a connection for each request"
_REQUEST = b"GET / HTTP/1.1\r\nHost: box\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
_MOST_OPEN = 4000
"""New connections without an answer: for one more, the oldest is given up."""

_RESET_WHEN_CLOSED = struct.pack("ii", 1, 0)  # SO_LINGER, socket(7): else the client's ports are used up
_TICK_SECONDS = 0.002


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rate", type=int, default=10_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        file = write_config(Path(name))
        settings = config_file.load(file)
        with running(file, settings):
            floods = {
                _QUIET: None,
                _PEER: partial(_flood, partial(_Fresh, free_port()), arguments.rate),
                _KEPT: partial(_flood, partial(_Kept, settings.web.port), arguments.rate),
                _FRESH: partial(_flood, partial(_Fresh, settings.web.port), arguments.rate),
            }
            turns = alternate(settings, floods, arguments.rounds)
    heading(f"{arguments.rate} requests a second from one client, {arguments.rounds * IMAGES} images each")
    for way, turn in turns.items():
        _print(way, turn, turns[_QUIET], turns[_PEER])


def _print(way: str, turn: Turn, quiet: Turn, peer: Turn) -> None:
    print(f"{way}: sent to committed result {spread(turn.to_result)}, p95 {percentile(turn.to_result, 95):.0f} ms")
    print(f"{way}: another visitor waited   {spread(turn.visitor)}, p95 {percentile(turn.visitor, 95):.0f} ms")
    if turn is quiet:
        return
    each = ", ".join(f"{what} {number / sum(turn.seconds):.0f}" for what, number in sorted(turn.answers.items()))
    print(f"{way}: requests a second: {each}")
    print(f"{way}: to the result, no flood is {ratio(turn.to_result, quiet.to_result)}")
    if turn is not peer:
        print(f"{way}: to the result, the peer is {ratio(turn.to_result, peer.to_result)}")


class _Way(Protocol):
    """How requests are offered."""

    def offer(self, due: int) -> None:
        """So many more now."""

    def go_on(self, connection: socket.socket, events: int) -> None:
        """With a connection that is ready."""


_Maker = Callable[[selectors.BaseSelector, "Counter[str]"], _Way]
"""Takes what watches the connections, and where to count what became of the requests."""


def _flood(make: _Maker, rate: int, begun: Event, stop: Event, tell: Callable[[Counter[str]], None]) -> None:
    """The client: so many requests a second until it is told to stop."""
    counts: Counter[str] = Counter()
    with selectors.DefaultSelector() as waiting:
        way, start, offered = make(waiting, counts), time.perf_counter(), 0
        while not stop.is_set():
            due = int((time.perf_counter() - start) * rate) - offered
            way.offer(due)
            offered += due
            for key, events in waiting.select(_TICK_SECONDS):
                way.go_on(key.fileobj, events)  # type: ignore[arg-type]
            if not begun.is_set() and (counts["429"] or counts["ConnectionRefusedError"]):
                begun.set()
                counts.clear()  # of the burst that everybody may have
    tell(counts)


class _Kept:
    """Over connections that stay, several requests at once; one that the box has closed is opened anew."""

    def __init__(self, port: int, waiting: selectors.BaseSelector, counts: Counter[str]) -> None:
        self._port, self._waiting, self._counts = port, waiting, counts
        self._connections = [self._connect() for _ in range(CONNECTIONS)]

    def offer(self, due: int) -> None:
        while due > 0:
            number = min(due, AT_ONCE)
            due -= number
            connection = self._connections.pop(0)
            try:
                sent = connection.send(_REQUEST * number)
            except BlockingIOError:
                sent = 0
            except OSError:
                sent = -1
            if sent not in (0, len(_REQUEST) * number):  # gone, or broken off within a request
                self._end(connection)
                connection = self._connect()
            self._connections.append(connection)
            self._counts["sent" if sent > 0 else "held back"] += number

    def go_on(self, connection: socket.socket, events: int) -> None:  # noqa: ARG002 - it is always to be read
        try:
            said = connection.recv(1 << 16)
        except OSError:
            said = b""
        self._counts.update(status.decode() for status in _STATUS.findall(said))
        if not said:
            self._connections.remove(connection)
            self._end(connection)
            self._connections.append(self._connect())

    def _connect(self) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self._port))
        connection.setblocking(False)
        self._waiting.register(connection, selectors.EVENT_READ)
        return connection

    def _end(self, connection: socket.socket) -> None:
        self._waiting.unregister(connection)
        connection.close()


class _Fresh:
    """A connection for each request."""

    def __init__(self, port: int, waiting: selectors.BaseSelector, counts: Counter[str]) -> None:
        self._port, self._waiting, self._counts = port, waiting, counts
        self._open: dict[socket.socket, None] = {}

    def offer(self, due: int) -> None:
        for _ in range(due):
            if len(self._open) == _MOST_OPEN:
                self._counts["given up"] += 1
                self._end(next(iter(self._open)))
            connection = socket.socket()
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_WHEN_CLOSED)
            connection.connect_ex(("127.0.0.1", self._port))
            self._counts["sent"] += 1
            self._open[connection] = None
            self._waiting.register(connection, selectors.EVENT_WRITE)

    def go_on(self, connection: socket.socket, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                connection.send(_REQUEST)
                self._waiting.modify(connection, selectors.EVENT_READ)
                return
            found = _STATUS.match(connection.recv(1 << 12))
            self._counts[found[1].decode() if found else "closed without an answer"] += 1
        except OSError as error:
            self._counts[type(error).__name__] += 1
        self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        del self._open[connection]
        self._waiting.unregister(connection)
        connection.close()


if __name__ == "__main__":
    main()
