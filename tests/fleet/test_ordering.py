"""From the page through dispatcher and a real Mosquitto (mutual TLS) to boxes that check by the contract, and back."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
import sqlalchemy as sql
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import expect, sync_playwright

from edge.fleet import database as db
from edge.fleet import ordering
from edge.fleet.cascade import Plan
from edge.fleet.database import open_database
from edge.fleet.ordering import Made
from edge.messages.commands import Command, HealthCheck, Line, Order, check, read
from edge.messages.topics import parse
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from tests.running import RunningProgram, scanside
from tests.sync.conftest import Mosquitto, mosquitto
from tests.system.conftest import await_until, free_port
from tests.web.clinic import ARGUMENTS, PATIENCE_MS

__all__ = ["mosquitto"]

PASSWORD = "correct horse battery"
PLAN = Plan(wave=1, go_on_percent=100, stop_after=1, deadline=600)


class Boxes:
    """Boxes that take orders by the contract's own check; what they answer is the test's to say."""

    def __init__(self, broker: Mosquitto, key: bytes, answer: str = "successful") -> None:
        self.taken: list[str] = []
        self.refused: list[object] = []
        self.answer = answer
        self._key = key
        self._client = paho.Client(CallbackAPIVersion.VERSION2, "boxes", protocol=paho.MQTTv5)
        self._client.on_connect = lambda client, *_: client.subscribe("scanside/1/+/+/-/cmd/+/+", 1)
        self._client.on_message = self._on_message
        self._client.tls_set_context(broker.context("boxes"))
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()

    def _on_message(self, client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        document = read(bytes(message.payload)) if message.payload else None
        if not isinstance(document, Command) or document.status != "init":
            return
        order = check(document, parse(message.topic), [self._key], time.time(), synchronised=True)
        if not isinstance(order, Order):
            self.refused.append(order)
            return
        if order.id in self.taken:
            return
        self.taken.append(order.id)
        line = Line(name="disk", well=self.answer != "failed", text="as it should be", count=1)
        for status in ("executing", *([self.answer] if self.answer != "executing" else [])):
            reason = "no model passed its checks" if status == "failed" else ""
            said = msgspec.structs.replace(document, status=status, reason=reason, lines=(line,))
            client.publish(message.topic, msgspec.json.encode(said), 1, retain=True)

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


class Office:
    """The manager's database, key and configuration, and its programs."""

    def __init__(self, folder: Path, broker: Mosquitto) -> None:
        self.port = free_port()
        self._broker = broker
        key = Ed25519PrivateKey.generate()
        encoding, no = serialization.Encoding.PEM, serialization.NoEncryption()
        (folder / "key").write_bytes(key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, no))
        self.public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.config = folder / "fleet.yaml"
        document = {
            "mqtt": broker.section("dispatcher"),
            "state_dir": str(folder / "state"),
            "commands": {"key_file": str(folder / "key")},
            "console": {"port": self.port},
        }
        self.config.write_text(yaml.safe_dump(document), encoding="utf-8")
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.database = open_database(f"sqlite:///{self.state}/fleet.sqlite")
        self.running: list[Any] = []

    def start(self, work: str, ready: str) -> RunningProgram:
        program = RunningProgram(scanside("fleet", work, "--config", str(self.config)))
        self.running.append(program)
        program.wait_for(ready)
        return program

    def boxes(self, answer: str = "successful") -> Boxes:
        made = Boxes(self._broker, self.public, answer)
        self.running.append(made)
        return made

    def know(self, count: int) -> list[int]:
        with self.database.begin() as connection:
            can = {"site": "clinic", "first_seen_at": 0.0, "capabilities": '["health-check", "self-test"]'}
            rows = [{"box": f"box-{number}", **can} for number in range(1, count + 1)]
            connection.execute(db.boxes.insert(), rows)
            return list(connection.execute(sql.select(db.boxes.c.id).order_by(db.boxes.c.box)).scalars())

    def order(self, boxes: list[int], plan: Plan = PLAN) -> str:
        with self.database.begin() as connection:
            return ordering.make(connection, HealthCheck(), boxes, plan, Made("ada", time.time()))

    def states(self, rollout: str) -> list[str]:
        with self.database.connect() as connection:
            return [one.state for one in ordering.orders(connection, rollout)]

    def close(self) -> None:
        for one in self.running:
            one.stop() if isinstance(one, Boxes) else one.__exit__()
        self.database.dispose()


@pytest.fixture
def office(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Office]:
    mosquitto.start()
    made = Office(tmp_path, mosquitto)
    yield made
    made.close()


def test_an_order_reaches_every_box_in_waves_and_its_document_is_cleared(office: Office) -> None:
    boxes = office.boxes()
    office.start("dispatch", "SC907")
    rollout = office.order(office.know(3))
    await_until(lambda: office.states(rollout) == ["successful"] * 3, "all three successful")
    assert len(boxes.taken) == 3
    assert boxes.refused == []
    boxes.stop()  # the broker knows both by one name, and would let each drive out the other
    late = office.boxes()
    office.order([1])
    await_until(lambda: late.taken, "the next order")
    assert len(late.taken) == 1, "a document of before was still there"


def test_the_first_failure_stops_the_rest(office: Office) -> None:
    office.boxes("failed")
    office.start("dispatch", "SC907")
    rollout = office.order(office.know(3))
    await_until(lambda: office.states(rollout) == ["failed", "not sent", "not sent"], "the rest not sent")


def test_a_dispatcher_that_is_killed_goes_on_and_no_box_takes_an_order_twice(office: Office) -> None:
    office.boxes()
    rollout = office.order(office.know(6), PLAN._replace(wave=2))
    for enough in (1, 3, 5):
        program = office.start("dispatch", "SC907")
        await_until(lambda enough=enough: office.states(rollout).count("successful") >= enough, "more")  # type: ignore[misc]
        program.stop(signal.SIGKILL)
    office.start("dispatch", "SC907")
    await_until(lambda: office.states(rollout) == ["successful"] * 6, "all successful")


def test_a_box_that_does_not_come_to_an_end_is_overdue(office: Office) -> None:
    boxes = office.boxes("executing")
    rollout = office.order(office.know(1), PLAN._replace(deadline=5))
    office.start("dispatch", "SC907")
    await_until(lambda: office.states(rollout) == ["overdue"], "the deadline")
    assert len(boxes.taken) == 1, "it was at work"


def test_a_person_orders_and_watches_in_chromium(office: Office, program: Any) -> None:
    office.know(3)
    file = AccountsFile(office.state)
    for role in (Role.SERVICE, Role.TECHNICIAN, Role.ADMINISTRATOR):
        Accounts(file).add(role.value, PASSWORD, role)
    file.close()
    office.boxes()
    office.start("dispatch", "SC907")
    office.start("console", "SC905")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program("chromium"), args=ARGUMENTS)

        def sign_in(role: Role) -> Any:
            page = browser.new_context().new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(f"http://127.0.0.1:{office.port}/")
            page.get_by_label("User name").fill(role.value)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(lambda url: "/sign-in" not in url)
            return page

        page = sign_in(Role.SERVICE)
        page.get_by_role("link", name="Order something of these").click()
        expect(page.get_by_role("heading", name="Order something of 3 boxes")).to_be_visible()
        page.get_by_label("What").select_option("self-test")
        page.get_by_label("Boxes in a wave").fill("2")
        page.get_by_role("button", name="Order it").click()
        expect(page.get_by_text("3 of 3 successful, 0 failed")).to_be_visible()
        expect(page.get_by_text("finished")).to_be_visible()
        expect(page.get_by_text("disk: as it should be")).to_have_count(3)
        other = sign_in(Role.TECHNICIAN)
        expect(other.get_by_role("link", name="Order something of these")).to_have_count(0)
        refused = other.goto(f"http://127.0.0.1:{office.port}/orders/new")
        assert refused and refused.status == 403
        trail = sign_in(Role.ADMINISTRATOR)
        trail.get_by_role("link", name="Audit trail").click()
        expect(trail.get_by_text("self-test of 3 boxes, clinic/box-1")).to_be_visible()
        browser.close()
