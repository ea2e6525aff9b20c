"""The web service: the app under gunicorn, one process with threads beside its small master."""

from __future__ import annotations

import gc
import logging
import os
import socket
import ssl
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.gthread import TConn, ThreadWorker

from edge import events
from edge.config import Config
from edge.device.health import Figure, HealthFile, State, is_working, read_health, words
from edge.device.heap import give_back_from
from edge.device.notify import Notifier
from edge.events import emit, place
from edge.model_facts import ModelShelf
from edge.store import Doorbell, Store
from edge.store.audit import actions, open_trail
from edge.web.accounts import Accounts
from edge.web.accounts_file import AccountsFile
from edge.web.app import create_app
from edge.web.barrier import Barrier
from edge.web.condition import Condition, read_condition
from edge.web.dependencies import Dependencies
from edge.web.limits import Limits
from edge.web.lockout import Failures
from edge.web.model_figures import reference
from edge.web.rates import REFUSAL, Rates
from edge.web.recorder import Recorder
from edge.web.sessions import Sessions
from edge.web.streams import MAX_STREAMS, Streams, Watcher
from edge.web.tls import Certificate, Redirect, TlsUnusable
from edge.web.tokens import Tokens

_THREADS = MAX_STREAMS + 8
_GRACE_SECONDS = 1
_KILLED_AFTER_SECONDS = 3
_STALLED_AFTER_SECONDS = 10
_BACKLOG = 4096
"""As long as the kernel allows (net.core.somaxconn): in a full one a visitor's connection waits a second and longer."""

_AT_ONCE = 64
"""Connections that are taken off the backlog, one after the other, before others have their turn."""

_WAITS_SECONDS = 0.5
_MOST_WAITING = 256
"""Connections of addresses that are over their rate; of the others there may be three times as many."""

_NICENESS = 5
"""A flood of requests takes the time that the inference leaves (sched(7)), and not the other way round."""

_LARGEST_REST = 1 << 16


class Parts(NamedTuple):
    """The app, whether an address is over its rate, what ends streams and watcher, and what closes the files."""

    app: Flask
    is_over: Callable[[str], bool]
    end: Callable[[], None]
    close: Callable[[], None]


def serve(config: Config) -> int:
    """Serve the status page until SIGTERM; the exit status, 1 when the address cannot be listened on.

    On a box without any account, a first-boot code is shown on standard output (events go to standard error).
    """
    give_back_from(1 << 20)  # the 19 MiB of each password check
    Store(config.state_dir, storage=config.storage).close()  # what locks it is said once, in one line
    tls = config.web.tls
    try:
        certificate = Certificate(config, tls, time.time) if tls else None
    except TlsUnusable as error:
        emit(events.WEB_TLS_UNUSABLE, error=error)
        return 1
    port = config.web.port
    try:
        listener, redirect = _listen(config.web.host, port), None
        if tls and tls.redirect_port is not None:
            port = tls.redirect_port
            redirect = _listen(config.web.host, port)
    except OSError as error:
        emit(events.WEB_ADDRESS_REFUSED, host=config.web.host, port=port, error=error.strerror)
        return 1
    if certificate is None and not _is_loopback(listener):
        emit(events.WEB_IN_THE_CLEAR)
    try:
        _Server(config, listener, certificate, redirect).run()
    except SystemExit as ending:  # how gunicorn ends, master and worker alike
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0


def build(config: Config, port: int, certificate: Certificate | None, clock: Callable[[], float] = time.time) -> Parts:
    """The app over the box's real parts, its watcher running."""
    store = Store(config.state_dir, clock, storage=config.storage)
    trail = open_trail(config, "web", clock)
    file, streams, rates = AccountsFile(config.state_dir), Streams(), Rates()
    facts = ModelShelf(config.models_folder).facts
    recorder = Recorder(store, config.state_dir, clock, lambda model: reference(facts(model), model))

    def condition() -> Condition:
        file.check()
        trail.check()
        if certificate:
            certificate.look()
        return read_condition(store, config.state_dir, config.services, clock())

    def figures() -> dict[str, Figure]:
        """The port; and how far the audit trail goes, which `sync` tells the fleet and must not open the trail for."""
        head = trail.head()
        return {"port": port, "audit_number": head.number, "audit_digest": head.digest.hex()}

    bell, health = Doorbell(config.state_dir, "web"), HealthFile(config.state_dir, "web", clock)
    health.report(State.UP, port=port, streams=0)
    watcher = Watcher(store, streams, condition, bell, health, recorder=recorder, give_up=_end_service, figures=figures)
    dependencies = Dependencies(
        site=config.site,
        box=config.box,
        store=store,
        audit=trail,
        accounts=Accounts(file, clock),
        sessions=Sessions(file, clock, config.web.session_minutes * 60.0, privacy_screen=config.web.privacy_screen),
        tokens=Tokens(file, clock),
        failures=Failures(file),
        streams=streams,
        limits=Limits(
            max_instance_bytes=config.web.max_instance_mb << 20, max_request_bytes=config.web.max_request_mb << 20
        ),
        rates=rates,
        recorder=recorder,
        hsts=certificate.hsts if certificate else None,
        condition=condition,
        facts=facts,
        clock=clock,
        language=config.web.language,
    )

    def end() -> None:
        streams.end()
        watcher.stop()
        trail.record(actions.application(trail.source, starts=False))
        trail.anchor()

    def close() -> None:
        """Else the next start takes the stop for a power cut, and looks at every page of the files."""
        recorder.close()
        store.close()
        file.close()
        trail.close()

    trail.record(actions.application(trail.source, starts=True))
    watcher.start()
    return Parts(create_app(dependencies), rates.is_over, end, close)


def _end_service() -> NoReturn:
    """End worker and master, with the one exit status after which gunicorn does not start another worker."""
    os._exit(Arbiter.WORKER_BOOT_ERROR)


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket, whose connections (they inherit its options) end when the other side stalls or is gone."""
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_AFTER_SECONDS * 1000)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        listener.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _STALLED_AFTER_SECONDS, 0))
    listener.bind(address)
    listener.listen(_BACKLOG)
    return listener


def _is_loopback(listener: socket.socket) -> bool:
    return ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def show_first_boot_code(state_dir: Path) -> None:
    """A new one on standard output, where there is no account; not into the journal: `scanside setup` shows one."""
    status = os.fstat(sys.stdout.fileno())
    if os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}":  # systemd.exec(5)
        return
    with closing(AccountsFile(state_dir)) as file:
        code = Accounts(file).first_boot_code()
    if code is None:
        return
    emit(events.FIRST_BOOT_CODE)
    text = f"  First account: open the page and enter the code {code}  "
    frame = "─" * len(text)
    sys.stdout.write(f"┌{frame}┐\n│{text}│\n└{frame}┘\n")
    sys.stdout.flush()


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn's settings, and the app of its worker."""

    def __init__(
        self, config: Config, listener: socket.socket, certificate: Certificate | None, redirect: socket.socket | None
    ) -> None:
        self._config = config
        self._certificate = certificate
        self._redirect = redirect
        self._port = int(listener.getsockname()[1])
        self._descriptor = listener.detach()  # gunicorn owns it from here on
        self.is_over: Callable[[str], bool] = lambda _address: False
        self.end_streams: Callable[[], None] = lambda: None
        self.close_files: Callable[[], None] = lambda: None
        super().__init__()

    def run(self) -> None:
        """Until told to stop; ends by `SystemExit`, as gunicorn does."""
        _Master(self, self._config.state_dir).run()

    def load_config(self) -> None:
        """Called by gunicorn's constructor. Its control socket, access log and forwarded headers stay off."""
        shared_memory = Path("/dev/shm")  # noqa: S108 - for gunicorn's unlinked heartbeat file: spares the disk
        settings: dict[str, Any] = {
            "bind": f"fd://{self._descriptor}",
            "worker_class": _Worker,
            "workers": 1,
            "threads": _THREADS,
            "keepalive": 5,
            "timeout": 30,
            "graceful_timeout": _KILLED_AFTER_SECONDS,
            "logger_class": _EventLog,
            "accesslog": None,
            "control_socket_disable": True,
            "forwarded_allow_ips": "",
            "worker_tmp_dir": str(shared_memory) if shared_memory.is_dir() else None,
            "pre_fork": lambda _arbiter, _worker: gc.freeze(),
            "post_worker_init": self._say_ready,
        }
        if self._certificate:
            context = self._certificate.context
            settings |= {"certfile": str(self._certificate.file), "ssl_context": lambda _config, _default: context()}
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in the worker: databases, threads and the doorbell must not cross the fork."""
        self.cfg.set("graceful_timeout", _GRACE_SECONDS)
        with suppress(OSError):  # under systemd its unit has said so already, and nobody may say it again
            os.nice(_NICENESS)
        show_first_boot_code(self._config.state_dir)
        app, self.is_over, self.end_streams, self.close_files = build(self._config, self._port, self._certificate)
        if self._redirect:
            Redirect(self._redirect, self._port).start()
        return app

    def _say_ready(self, _worker: object) -> None:
        scheme = "https" if self._certificate else "http"
        emit(events.WEB_READY, scheme=scheme, host=self._config.web.host, port=self._port)


class _Master(Arbiter):  # type: ignore[misc]
    """Tells systemd how the worker is, from its own account: systemd listens to a unit's main process alone."""

    def __init__(self, app: _Server, state_dir: Path) -> None:
        self._notifier = Notifier()
        os.environ.pop("NOTIFY_SOCKET", None)
        self._state_dir = state_dir
        self._heard_at = 0.0
        super().__init__(app)

    def murder_workers(self) -> None:
        """Called by the master's loop, once a second at least. Ends a worker whose own loop stands still for 30 s."""
        super().murder_workers()
        account = read_health(self._state_dir, time.time()).get("web")
        if account and account.pid in self.WORKERS and account.updated_at != self._heard_at:
            self._heard_at = account.updated_at
            self._notifier.progress(words(account), ready=is_working(account.state))


class _Worker(ThreadWorker):  # type: ignore[misc]
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
        """Called after each turn of the loop, once a second at least: those that have waited have their turn."""
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
            self.method_queue.defer(self._let_go)

    handle_quit = handle_exit

    def finish_request(self, conn: Any, fs: Future[object]) -> None:
        """Close what is over without waiting for the other side, for which gunicorn holds up everybody for 2 s."""
        if fs.cancelled() or fs.exception() or fs.result() is False:
            self.nr_conns -= 1
            _close(conn.sock)
            return
        super().finish_request(conn, fs)
        if not self.alive:
            self.murder_keepalived(force=True)

    def _let_go(self) -> None:
        self.app.end_streams()
        self.murder_keepalived(force=True)


def _close(connection: socket.socket) -> None:
    """Close after an answer. A request's unread rest is taken first, or the answer would be lost (RFC 9112, 9.6)."""
    with suppress(OSError):
        connection.setblocking(False)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(_LARGEST_REST)
    connection.close()


class _EventLog(Logger):  # type: ignore[misc]
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
