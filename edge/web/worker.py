"""gunicorn's worker as a box wants it: a flood does not keep it busy, and it stops at once; its failures are events."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from collections import deque
from concurrent.futures import Future
from contextlib import suppress
from types import FrameType
from typing import Any

from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker

from edge import events
from edge.events import emit, place
from edge.web.barrier import Barrier
from edge.web.rates import REFUSAL

_AT_ONCE = 64
"""Connections that are taken off the backlog, one after the other, before others have their turn."""
_WAITS_SECONDS = 0.5
_MOST_WAITING = 256
"""Connections of addresses that are over their rate; of the others there may be three times as many."""
_LARGEST_REST = 1 << 16


class Worker(ThreadWorker):  # type: ignore[misc]
    """Stops at once although pages hold streams and connections open, and does not let a flood keep it busy."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._waiting: deque[tuple[float, Any]] = deque()
        self._barrier = Barrier(self.sockets[0].sock, time.monotonic)

    def accept(self, listener: socket.socket) -> None:
        """Take connections as fast as they come, or those of a flood would fill the backlog and keep others out."""
        here = listener.getsockname()
        for _ in range(_AT_ONCE):
            if self.nr_conns >= self.worker_connections:
                return
            try:
                connection, client = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            self.nr_conns += 1
            self.enqueue_req(TConn(self.cfg, connection, client, here))

    def enqueue_req(self, conn: Any) -> None:
        """Hand a request to a thread; one of an address over its rate waits first, and so does its client.

        When too many wait, one more is refused without being read; over TLS its connection just ends. An address of
        which too many are refused is shut out for a moment.
        """
        if not self.app.is_over(conn.client[0]):
            super().enqueue_req(conn)
        elif len(self._waiting) < _MOST_WAITING:
            self._waiting.append((time.monotonic() + _WAITS_SECONDS, conn))
        else:
            if not self.cfg.is_ssl:
                with suppress(OSError):
                    conn.sock.send(REFUSAL)  # into an empty buffer
            self.nr_conns -= 1
            _close(conn.sock)
            self._barrier.refused(conn.client[0])

    def murder_keepalived(self, force: bool = False) -> None:
        """Called after each turn of the loop, once a second at least: those that have waited have their turn.

        And once it is to stop, all are closed: here, as within a turn one of them may be the next that is looked at.
        """
        force = force or not self.alive
        super().murder_keepalived(force)
        self._barrier.look()
        while self._waiting and (force or self._waiting[0][0] <= time.monotonic()):
            _, conn = self._waiting.popleft()
            if force:
                self.nr_conns -= 1
                conn.close()
            else:
                super().enqueue_req(conn)

    def run(self) -> None:
        """Until told to stop; threads that still wait for a stalled client do not hold up the end."""
        super().run()
        self.app.close_files()
        os._exit(0)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM: no new connections, open streams end, answers under way are finished."""
        if self.alive:
            super().handle_exit(sig, frame)
            self.method_queue.defer(self.app.end_streams)

    handle_quit = handle_exit

    def finish_request(self, conn: Any, fs: Future[object]) -> None:
        """Close what is over without waiting for the other side, for which gunicorn holds up everybody for 2 s."""
        if fs.cancelled() or fs.exception() or fs.result() is False:
            self.nr_conns -= 1
            _close(conn.sock)
            return
        super().finish_request(conn, fs)


class EventLog(Logger):  # type: ignore[misc]
    """gunicorn's failures as events; no access log."""

    def setup(self, cfg: object) -> None:
        """Called by gunicorn. Below errors are bad requests, which were answered as such, and its own progress."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.setLevel(logging.ERROR)
        self.error_log.handlers = [_ToEvents()]


class _ToEvents(logging.Handler):
    """Logs the template of a record alone: its values may hold what a browser sent."""

    def emit(self, record: logging.LogRecord) -> None:
        """One event, unless a browser simply went away or stalled, or does not trust the certificate."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, TimeoutError | ConnectionError | BlockingIOError | ssl.SSLError):
            where = f"{type(error).__name__} in {place(error)}" if error else "no exception"
            emit(events.WEB_SERVER_FAILED, message=str(record.msg).splitlines()[0], error=where)


def _close(connection: socket.socket) -> None:
    """Close after an answer. A request's unread rest is taken first, or the answer would be lost (RFC 9112, 9.6)."""
    with suppress(OSError):
        connection.setblocking(False)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(_LARGEST_REST)
    connection.close()
