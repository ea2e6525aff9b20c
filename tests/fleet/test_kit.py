"""The broker's configuration as it ships, in a real Mosquitto over mutual TLS: no box can be another one."""

from __future__ import annotations

import getpass
import queue
import socket
import ssl
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge.config_section import ConfigError
from edge.fleet.alarms import RULES
from edge.fleet.settings import FleetConfig, load
from tests.conftest import ROOT
from tests.sync.certificates import Authority
from tests.system.conftest import PATIENCE, await_until, free_port

KIT = ROOT / "firmware_config" / "fleet"
BOX_A, BOX_B, COLLECTOR = "clinic/box-a", "clinic/box-b", "collector-1"
STATE = "-/status/state/-"
NOT_AUTHORIZED = 0x87


class Client:
    """A client with a certificate; `client_id` is what it calls itself."""

    def __init__(self, port: int, tls: ssl.SSLContext, client_id: str = "") -> None:
        self.messages: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self.disconnected = False
        self._answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id, protocol=paho.MQTTv5)
        self.client.tls_set_context(tls)
        self.client.on_connect = lambda _c, _u, _f, reason, _p: self._answers.put(reason.value)
        self.client.on_subscribe = lambda _c, _u, _m, reasons, _p: self._answers.put(reasons[0].value)
        self.client.on_publish = lambda _c, _u, _m, reason, _p: self._answers.put(reason.value)
        self.client.on_message = lambda _c, _u, message: self.messages.put((message.topic, bytes(message.payload)))
        self.client.on_disconnect = self._on_disconnect
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert self._answers.get(timeout=PATIENCE) == 0

    def publish(self, topic: str, payload: bytes = b"{}", *, retain: bool = False) -> int:
        """The PUBACK's reason code."""
        self.client.publish(topic, payload, qos=1, retain=retain)
        return self._answers.get(timeout=PATIENCE)

    def subscribe(self, topic: str) -> int:
        self.client.subscribe(topic, 1)
        return self._answers.get(timeout=PATIENCE)

    def all_before(self, topic: str, other: Client) -> list[str]:
        """Topics of all messages that came before one that `other` publishes now."""
        marker = uuid.uuid4().bytes
        other.publish(topic, marker)
        seen = []
        while (message := self.messages.get(timeout=PATIENCE))[1] != marker:
            seen.append(message[0])
        return seen

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _on_disconnect(self, *_: Any) -> None:
        self.disconnected = True


class Broker:
    """The shipped configuration with this test's paths, and the authority that issues certificates for it."""

    def __init__(self, program: str, folder: Path, authority: Authority) -> None:
        self.port = free_port()
        self.authority = authority
        certificate, key = self.authority.issue("server")
        places = {
            "listener 8883": f"listener {self.port} 127.0.0.1\nuser {getpass.getuser()}",
            "/etc/mosquitto/fleet/ca.pem": str(self.authority.certificate),
            "/etc/mosquitto/fleet/server.crt": str(certificate),
            "/etc/mosquitto/fleet/server.key": str(key),
            "/etc/mosquitto/fleet/acl": str(KIT / "acl"),
            "/var/lib/mosquitto/": f"{folder}/",
        }
        text = (KIT / "mosquitto.conf").read_text(encoding="ascii")
        for shipped, here in places.items():
            assert shipped in text
            text = text.replace(shipped, here)
        (folder / "mosquitto.conf").write_text(text, encoding="ascii")
        self._command = [program, "-c", str(folder / "mosquitto.conf")]
        self._clients: list[Client] = []
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(self._command)
        await_until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, "Mosquitto listening")

    def context(self, name: str | None, authority: Authority | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if name:
            context.load_cert_chain(*(authority or self.authority).issue(name))
        return context

    def client(self, name: str, client_id: str = "") -> Client:
        self._clients.append(Client(self.port, self.context(name), client_id))
        return self._clients[-1]

    def stop(self) -> None:
        for client in self._clients:
            client.stop()
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def broker(program: Callable[[str], str], authority: Authority, tmp_path: Path) -> Iterator[Broker]:
    running = Broker(program("mosquitto"), tmp_path, authority)
    yield running
    running.stop()


def test_a_box_writes_under_its_own_name_and_no_other(broker: Broker) -> None:
    box = broker.client(BOX_A)
    for tail in (STATE, "web/status/health/-", "-/m/health/-", "inference/find/image/1", "web/cmd/restart/1"):
        assert box.publish(f"scanside/1/{BOX_A}/{tail}") < 0x80
        assert box.publish(f"scanside/1/{BOX_B}/{tail}") == NOT_AUTHORIZED
    for topic in ("scanside/1/clinic/-", f"scanside/1/{BOX_A}", f"scanside/2/{BOX_A}/{STATE}", "other"):
        assert box.publish(topic) == NOT_AUTHORIZED


def test_a_box_reads_nothing_of_another(broker: Broker) -> None:
    spy, box = broker.client(BOX_A), broker.client(BOX_B)
    for topic in ("scanside/#", f"scanside/1/{BOX_B}/#", "$share/scanside/scanside/1/+/+/+/find/+/+", "#"):
        spy.subscribe(topic)
    for tail in (STATE, "-/m/health/-", "inference/find/image/1", "web/cmd/restart/1", "-/shadow/desired/-"):
        assert box.publish(f"scanside/1/{BOX_B}/{tail}") < 0x80
    assert spy.all_before(f"scanside/1/{BOX_A}/web/cmd/marker/-", spy) == []


def test_a_collector_reads_all_and_writes_nothing(broker: Broker) -> None:
    collector, box = broker.client(COLLECTOR), broker.client(BOX_B)
    assert collector.subscribe("$share/scanside/scanside/1/+/+/+/find/+/+") == 1
    assert collector.subscribe("scanside/1/+/+/+/status/+/+") == 1
    assert box.publish(f"scanside/1/{BOX_B}/inference/find/image/1") == 0
    seen = collector.all_before(f"scanside/1/{BOX_B}/{STATE}", box)
    assert seen == [f"scanside/1/{BOX_B}/inference/find/image/1"]
    assert collector.publish(f"scanside/1/{BOX_B}/web/cmd/restart/1") == NOT_AUTHORIZED


def test_the_dispatcher_orders_and_reads_answers_and_nothing_else(broker: Broker) -> None:
    dispatcher, box = broker.client("dispatcher"), broker.client(BOX_B)
    box.subscribe(f"scanside/1/{BOX_B}/-/cmd/#")
    dispatcher.subscribe("scanside/1/+/+/-/cmd/+/+")
    assert dispatcher.publish(f"scanside/1/{BOX_B}/-/cmd/self-test/1") == 0
    assert box.publish(f"scanside/1/{BOX_B}/-/cmd/self-test/1") == 0
    for tail in (STATE, "inference/find/image/1", "-/m/health/-"):
        assert dispatcher.publish(f"scanside/1/{BOX_B}/{tail}") == NOT_AUTHORIZED
    dispatcher.subscribe("scanside/1/+/+/+/find/+/+")
    box.publish(f"scanside/1/{BOX_B}/inference/find/image/1")
    seen = dispatcher.all_before(f"scanside/1/{BOX_B}/-/cmd/marker/-", box)
    assert set(seen) == {f"scanside/1/{BOX_B}/-/cmd/self-test/1"}


def test_a_box_cannot_take_over_the_connection_of_another(broker: Broker) -> None:
    box = broker.client(BOX_B, "scanside.clinic.box-b")
    for name in ("scanside.clinic.box-b", BOX_B):
        broker.client(BOX_A, name).publish(f"scanside/1/{BOX_A}/{STATE}")
    assert box.publish(f"scanside/1/{BOX_B}/{STATE}") < 0x80
    assert not box.disconnected


def _secured(port: int, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="127.0.0.1")


@pytest.mark.parametrize("whose", ["nobody", "another authority"])
def test_nobody_comes_in_without_a_certificate_of_the_fleet(broker: Broker, tmp_path: Path, whose: str) -> None:
    foreign = Authority(tmp_path, "other")
    context = broker.context(None) if whose == "nobody" else broker.context(BOX_A, foreign)
    with pytest.raises(OSError), _secured(broker.port, context) as connection:
        connection.sendall(b"\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x00")  # CONNECT
        if not connection.recv(1):
            raise ConnectionResetError("hung up on")


def test_the_shipped_configuration_shows_each_default(tmp_path: Path) -> None:
    config = load(KIT / "fleet.yaml")
    shipped = yaml.safe_load((KIT / "fleet.yaml").read_text(encoding="utf-8"))
    assert set(shipped) == {field.name for field in msgspec.structs.fields(FleetConfig)} - {"database"}
    plain = FleetConfig(mqtt=config.mqtt)
    assert msgspec.structs.replace(config, alarms={}) == plain
    assert config.rules() == RULES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "mqtt"),
        ("mqtt: {host: x, colour: red}", "colour"),
        ("mqtt: {host: x}\nhealth_days: 0", "health_days"),
        ("mqtt: {host: x, certificate_file: a}", "belong together"),
        ("mqtt: {host: x}\nalarms: {lots: {raise_above: 1}}", "no such rule: one of lost"),
        ("mqtt: {host: x}\nalarms: {disk: {raise_above: 0.5}}", "could never clear"),
        ("mqtt: {host: x}\nmodels: {cxr: '1.0.0'}", "sha256"),
        ("mqtt: [", "not YAML"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "fleet.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words) as refused:
        load(file)
    assert "\n" not in str(refused.value)
    assert str(file) in str(refused.value)
