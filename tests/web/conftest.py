"""A box's web parts over a real store and a fake clock, and the real service as a process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
from flask.testing import FlaskClient
from playwright.sync_api import Browser, sync_playwright

from edge.device.health import Health, HealthFile, State
from edge.model_facts import ModelShelf
from edge.store import Machine, Store
from edge.store.audit import AuditTrail
from edge.store.audit.message import AuditSource
from edge.store.keys import open_ring
from edge.store.vault import Vault
from edge.web.accounts import Account, AccountError, Accounts, Role
from edge.web.accounts_file import AccountsFile
from edge.web.app import create_app
from edge.web.condition import read_condition
from edge.web.dependencies import Dependencies
from edge.web.limits import Limits
from edge.web.lockout import Failures
from edge.web.permissions import SESSION_COOKIE
from edge.web.rates import Rates
from edge.web.recorder import Recorder
from edge.web.sessions import Sessions, form_token
from edge.web.streams import Streams
from edge.web.tokens import Tokens
from tests.conftest import ROOT
from tests.running import PATIENCE
from tests.system.conftest import free_port
from tests.web.clinic import ARGUMENTS, Clinic
from tests.web.clinic import PASSWORD as PASSWORD  # noqa: PLC0414 - for those who import it from here

IDLE_SECONDS = 1800.0
MAX_INSTANCE, MAX_REQUEST = 1 << 20, 4 << 20
SERVICES = ("intake", "inference", "web")


class Clock:
    """Time that only moves when told to."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Box:
    """The app's parts, and short ways to use them."""

    state_dir: Path
    clock: Clock = field(default_factory=Clock)
    synchronised: bool = True
    per_second: float = 1e9
    burst: float = 1e9
    hsts: str | None = None
    privacy_screen: bool = False

    def __post_init__(self) -> None:
        self.state_dir.mkdir(parents=True, exist_ok=True)
        self.vault = Vault(open_ring(self.state_dir))
        self.audit = AuditTrail(self.state_dir, self.vault, AuditSource("clinic-12", "xray-1", "web"), self.clock)
        self.store = Store(self.state_dir, self.clock, machine=Machine(synchronised=lambda: self.synchronised))
        self.file = AccountsFile(self.state_dir)
        self.accounts = Accounts(self.file, self.clock)
        self.sessions = Sessions(self.file, self.clock, IDLE_SECONDS, privacy_screen=self.privacy_screen)
        self.streams = Streams()
        self.tokens = Tokens(self.file, self.clock)
        self.recorder = Recorder(self.store, self.state_dir, self.clock, lambda _model: {})
        self.shelf = ModelShelf(ROOT / "models")
        self.app = create_app(
            Dependencies(
                site="clinic-12",
                box="xray-1",
                store=self.store,
                audit=self.audit,
                accounts=self.accounts,
                sessions=self.sessions,
                tokens=self.tokens,
                failures=Failures(self.file),
                streams=self.streams,
                rates=Rates(per_second=self.per_second, burst=self.burst),
                recorder=self.recorder,
                hsts=self.hsts,
                limits=Limits(max_instance_bytes=MAX_INSTANCE, max_request_bytes=MAX_REQUEST),
                facts=self.shelf.facts,
                condition=lambda: read_condition(self.store, self.state_dir, SERVICES, self.clock()),
                clock=self.clock,
            )
        )

    def close(self) -> None:
        """Let go of its files."""
        self.recorder.close()
        self.store.close()
        self.file.close()
        self.audit.close()

    def account(self, role: Role = Role.TECHNICIAN) -> Account:
        """An account of this role, named after it."""
        try:
            return self.accounts.add(role.value, PASSWORD, role)
        except AccountError:
            return next(account for account in self.accounts.list() if account.name == role.value)

    def signed_in(self, role: Role = Role.TECHNICIAN) -> FlaskClient:
        """A browser with a session of this role."""
        token = self.sessions.open(self.account(role))
        client = self.app.test_client()
        client.set_cookie(SESSION_COOKIE, token)
        return client

    def services_up(self) -> None:
        """Every service says that it is up."""
        for name in SERVICES:
            HealthFile(self.state_dir, name, self.clock).report(State.UP)


def token_of(client: FlaskClient, cookie: str = SESSION_COOKIE) -> str:
    """The form token that belongs to a browser's cookie."""
    held = client.get_cookie(cookie)
    assert held is not None
    return form_token(held.value)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A fresh box without accounts."""
    made = Box(tmp_path / "state")
    yield made
    made.close()


@dataclass
class Service:
    """The web service as `scanside run web` starts it."""

    state_dir: Path
    config: Path
    process: subprocess.Popen[str]
    log: list[str]

    @property
    def port(self) -> int:
        """The port that it chose."""
        health = msgspec.json.decode((self.state_dir / "health" / "web.json").read_bytes(), type=Health)
        port = health.details["port"]
        assert isinstance(port, int)
        return port

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


def start_service(folder: Path, port: int = 0, web: str = "") -> Service:
    """Start it and wait until it says that it is ready."""
    folder.mkdir(exist_ok=True)
    config = folder / "scanside.yaml"
    config.write_text(f"site: clinic-12\nbox: xray-1\nstate_dir: {folder / 'state'}\nweb:\n  port: {port}\n  {web}\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "run", "web", "--config", str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    log = []
    for line in process.stderr:
        log.append(line)
        if " SC600 " in line:
            break
    service = Service(folder / "state", config, process, log)
    assert " SC600 " in "".join(log), "".join(log)
    return service


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The running service over an empty state folder, on a free port."""
    running = start_service(tmp_path / "box", free_port())  # it may be stopped and started again there
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.wait()
    for pipe in (running.process.stdout, running.process.stderr):
        if pipe:
            pipe.close()


@pytest.fixture(scope="module")
def browser(program: Callable[[str], str]) -> Iterator[Browser]:
    executable = program("chromium")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def clinic(service: Service, browser: Browser) -> Iterator[Clinic]:
    opened = Clinic(service, browser)
    yield opened
    opened.close()
