"""The web service: the app under gunicorn, one process with threads beside its small master."""

from __future__ import annotations

import gc
import os
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter

from edge import events
from edge.config import Config
from edge.device.health import Figure, HealthFile, State, is_working, read_health, words
from edge.device.heap import give_back_from
from edge.device.notify import Notifier
from edge.events import emit
from edge.model_facts import ModelShelf
from edge.store import Doorbell, Store
from edge.store.audit import actions, open_trail
from edge.web.accounts import Accounts
from edge.web.accounts_file import AccountsFile
from edge.web.app import create_app
from edge.web.condition import Condition, read_condition
from edge.web.dependencies import Dependencies
from edge.web.limits import Limits
from edge.web.lockout import Failures
from edge.web.model_figures import reference
from edge.web.rates import Rates
from edge.web.recorder import Recorder
from edge.web.sessions import Sessions
from edge.web.streams import MAX_STREAMS, Streams, Watcher
from edge.web.tls import Certificate, Redirect, TlsUnusable
from edge.web.tokens import Tokens
from edge.web.worker import EventLog, Worker

_THREADS = MAX_STREAMS + 8
_GRACE_SECONDS = 1
_KILLED_AFTER_SECONDS = 3
_STALLED_AFTER_SECONDS = 10
_BACKLOG = 4096
"""As long as the kernel allows (net.core.somaxconn): in a full one a visitor's connection waits a second and longer."""


_NICENESS = 5
"""A flood of requests takes the time that the inference leaves (sched(7)), and not the other way round."""


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
        watcher.join(_GRACE_SECONDS)
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
            "worker_class": Worker,
            "workers": 1,
            "threads": _THREADS,
            "keepalive": 5,
            "timeout": 30,
            "graceful_timeout": _KILLED_AFTER_SECONDS,
            "logger_class": EventLog,
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
