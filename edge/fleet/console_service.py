"""`scanside fleet console`: the page under gunicorn, one process with threads beside its small master."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from edge import events
from edge.config_section import ConfigError
from edge.events import emit
from edge.fleet.console import create_app
from edge.fleet.database import open_database
from edge.fleet.people import Dependencies
from edge.fleet.settings import FleetConfig
from edge.store.audit import open_trail
from edge.web.accounts import Accounts
from edge.web.accounts_file import AccountsFile
from edge.web.lockout import Failures
from edge.web.sessions import Sessions

_THREADS = 8
_GRACE_SECONDS = 2


def serve(config: FleetConfig) -> int:
    """Serve the page until SIGTERM; the exit status, not 0 when the address cannot be listened on.

    On a manager without any account, a first-boot code is shown on standard output (events go to standard error).

    Raises:
        ScansideError: The database cannot be opened.
    """
    config.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    _first_line(config.console.metrics_token_file)
    open_database(config.database_url).dispose()  # what is wrong with it is said once, in one line
    try:
        _Server(config).run()
    except SystemExit as ending:  # how gunicorn ends, master and worker alike
        return ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    return 0


def build(config: FleetConfig) -> Flask:
    """The app over the real parts."""
    file = AccountsFile(config.state_dir)
    accounts = Accounts(file)
    if code := accounts.first_boot_code():
        emit(events.FIRST_BOOT_CODE)
        sys.stdout.write(f"First account: open the page and enter the code {code}\n")
        sys.stdout.flush()
    return create_app(
        Dependencies(
            engine=(engine := open_database(config.database_url)).execution_options(reading=True),
            writing=engine,
            audit=open_trail(config.own_box, "fleet"),
            accounts=accounts,
            sessions=Sessions(file, time.time, config.console.session_minutes * 60.0),
            failures=Failures(file),
            interval=float(config.mqtt.health_interval_seconds),
            clock=time.time,
            wanted=config.models,
            metrics_token=_first_line(config.console.metrics_token_file),
        )
    )


def _first_line(file: Path | None) -> str:
    if file is None:
        return ""
    try:
        return file.read_text("utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"console.metrics_token_file {file}: cannot be read ({error}): make it readable") from error


class _Server(BaseApplication):  # type: ignore[misc]
    """gunicorn's settings, and the app of its worker."""

    def __init__(self, config: FleetConfig) -> None:
        self._config = config
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn's constructor. Its control socket, access log and forwarded headers stay off."""
        console = self._config.console
        settings: dict[str, Any] = {
            "bind": f"{console.host}:{console.port}",
            "worker_class": "gthread",
            "workers": 1,
            "threads": _THREADS,
            "graceful_timeout": _GRACE_SECONDS,
            "accesslog": None,
            "loglevel": "error",
            "control_socket_disable": True,
            "forwarded_allow_ips": "",
            "post_worker_init": self._say_ready,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Called in the worker: databases must not cross the fork."""
        return build(self._config)

    def _say_ready(self, _worker: object) -> None:
        emit(events.FLEET_CONSOLE_READY, host=self._config.console.host, port=self._config.console.port)
