"""From the console's own form to a real box and back: the broker as it ships, over mutual TLS, and nothing played."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from playwright.sync_api import Page, expect, sync_playwright

from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.fleet.test_kit import Broker, broker
from tests.running import RunningProgram, scanside
from tests.steward.test_steward import Box
from tests.sync.certificates import Authority
from tests.system.conftest import await_until, free_port
from tests.web.clinic import ARGUMENTS, PATIENCE_MS

__all__ = ["broker"]

pytestmark = pytest.mark.system

PASSWORD = "correct horse battery"


def _mqtt(authority: Authority, port: int, name: str) -> dict[str, object]:
    certificate, key = authority.issue(name)
    files = {"ca_file": authority.certificate, "certificate_file": certificate, "key_file": key}
    return {"host": "127.0.0.1", "port": port, "health_interval_seconds": 1, **{n: str(f) for n, f in files.items()}}


@pytest.fixture
def box(broker: Broker, tmp_path: Path) -> Iterator[Box]:
    """Supervisor, link and steward are the real ones; it obeys the key in `keys`."""
    key, keys, state = Ed25519PrivateKey.generate(), tmp_path / "keys", tmp_path / "state"
    keys.mkdir()
    state.mkdir()
    (tmp_path / "fleet.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (keys / "fleet.pub").write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    mqtt = _mqtt(broker.authority, broker.port, "clinic/box-1") | {"command_keys": str(keys)}
    document = {"site": "clinic", "box": "box-1", "state_dir": str(state), "mqtt": mqtt, "inference": {"threads": 3}}
    file = tmp_path / "scanside.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    with Box(file) as running:
        running.wait_for("SC101")
        running.await_steward()
        yield running
        sys.stderr.write(running.log)


@pytest.fixture
def office(broker: Broker, box: Box, tmp_path: Path) -> Iterator[int]:
    """Collector, dispatcher and console, each with what the kit says of it; the console's port."""
    port = free_port()
    shared = {"state_dir": str(tmp_path / "office"), "console": {"port": port}}
    with ExitStack() as running:
        for work, name, ready in (
            ("collect", "collector-1", "SC900"),
            ("dispatch", "dispatcher", "SC907"),
            ("console", "", "SC905"),
        ):
            mqtt = _mqtt(broker.authority, broker.port, name or "collector-1")
            document = shared | {"mqtt": mqtt, "commands": {"key_file": str(tmp_path / "fleet.key")}}
            file = tmp_path / f"{work}.yaml"
            file.write_text(yaml.safe_dump(document), encoding="utf-8")
            if work == "console":
                accounts = AccountsFile(tmp_path / "office")
                Accounts(accounts).add("ada", PASSWORD, Role.SERVICE)
                accounts.close()
            program = RunningProgram(scanside("fleet", work, "--config", str(file)))
            running.enter_context(program).wait_for(ready)
        await_until(lambda: "configure" in _capabilities(tmp_path / "office"), "what the box can do is collected")
        yield port


def _capabilities(folder: Path) -> str:
    """What the collector knows that the one box can be ordered to do, JSON."""
    with closing(sqlite3.connect(folder / "fleet.sqlite")) as database:
        (known,) = database.execute("SELECT max(capabilities) FROM boxes").fetchone()
    return known or ""


@pytest.fixture
def page(office: int, program: Callable[[str], str]) -> Iterator[Page]:
    """Signed in, on the form for the one box."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"http://127.0.0.1:{office}/")
        page.get_by_label("User name").fill("ada")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        yield page
        browser.close()


def test_a_setting_goes_from_the_form_to_a_real_box_and_its_success_comes_back(box: Box, page: Page) -> None:
    """CMD-CONFIGURE-01 LINK-TLS-01"""
    await_until(lambda: box.threads() == 3, "the file's own threads")
    page.get_by_role("link", name="clinic/box-1").click()
    page.get_by_role("link", name="Order something of it").click()
    page.get_by_label("What").select_option("configure")
    page.get_by_label("Settings, one on a line").fill("inference.threads: 5")
    page.get_by_role("button", name="Order it").click()
    expect(page.get_by_text("1 of 1 successful, 0 failed")).to_be_visible()
    await_until(lambda: box.threads() == 5, "five threads")
    page.get_by_role("link", name="clinic/box-1").click()
    said = page.get_by_text("inference.threads: 5")
    await_until(lambda: page.reload() and said.count(), "the box's own word of it, collected")
    page.get_by_role("link", name="Order something of it").click()
    expect(page.get_by_label("Settings, one on a line")).to_have_value("inference.threads: 5")
    page.get_by_label("What").select_option("configure")
    page.get_by_label("Settings, one on a line").fill("inference.threads: 0")
    page.get_by_role("button", name="Order it").click()
    expect(page.get_by_text("0 of 1 successful, 1 failed")).to_be_visible()
    assert box.threads() == 5, "what breaks a rule changes nothing"
