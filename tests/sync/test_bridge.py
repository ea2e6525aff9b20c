"""The bridge as it ships, between a box and the fleet's broker as it ships: real Mosquittos, over TLS."""

from __future__ import annotations

import getpass
import queue
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.conftest import ROOT
from tests.fleet.test_kit import NOT_AUTHORIZED, Broker
from tests.sync.certificates import Authority
from tests.sync.conftest import BOX, PREFIX, SITE, SyncProcess, Watcher
from tests.system.conftest import PATIENCE, await_until, free_port

pytestmark = pytest.mark.system

SHIPPED = ROOT / "firmware_config" / "mosquitto_bridge.conf"


class Bridge:
    """The broker on the box, with this test's paths."""

    def __init__(self, program: Callable[[str], str], folder: Path, far: Broker) -> None:
        self.port = free_port()
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._program = program("mosquitto")
        certificate, key = far.authority.issue(f"{SITE}/{BOX}")
        subprocess.run([program("mosquitto_passwd"), "-b", "-c", folder / "passwords", "box", "secret"], check=True)
        (folder / "acl").write_text(f"user box\ntopic readwrite {PREFIX}#\n", encoding="ascii")
        places = {
            "listener 1883 127.0.0.1": f"listener {self.port} 127.0.0.1\nuser {getpass.getuser()}",
            "/etc/mosquitto/bridge/ca.pem": str(far.authority.certificate),
            "/etc/mosquitto/bridge/box.crt": str(certificate),
            "/etc/mosquitto/bridge/box.key": str(key),
            "/etc/mosquitto/bridge/": f"{folder}/",
            "/var/lib/mosquitto/": f"{folder}/",
            "broker.fleet.example:8883": f"127.0.0.1:{far.port}",
            "restart_timeout 5 60": "restart_timeout 1",
            "SITE/BOX": f"{SITE}/{BOX}",
        }
        text = SHIPPED.read_text(encoding="ascii")
        for shipped, here in places.items():
            assert shipped in text
            text = text.replace(shipped, here)
        (folder / "bridge.conf").write_text(text, encoding="ascii")

    def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", str(self._folder / "bridge.conf")])
        await_until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, "the bridge listening")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait()


@pytest.fixture
def far(program: Callable[[str], str], tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    (tmp_path / "far").mkdir()
    running = Broker(program("mosquitto"), tmp_path / "far", authority)
    yield running
    running.stop()


@pytest.fixture
def bridge(program: Callable[[str], str], tmp_path: Path, far: Broker) -> Iterator[Bridge]:
    (tmp_path / "near").mkdir()
    running = Bridge(program, tmp_path / "near", far)
    running.start()
    yield running
    running.stop()


def test_what_a_box_says_while_the_fleet_is_away_reaches_it_later(
    far: Broker, bridge: Bridge, make_sync: Callable[..., SyncProcess], tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("secret\n", encoding="ascii")
    (tmp_path / "password").chmod(0o600)
    sync = make_sync(port=bridge.port, username="box", password_file=str(tmp_path / "password"))
    collector = Watcher(far.port, tls=far.context("collector-1"))
    try:
        sync.start()
        collector.first("-/status/state/-", state="ready")
        before = sync.put(1)
        assert collector.findings(1) == before
        far.stop()
        meanwhile = sync.put(3)
        sync.await_empty_outbox()
        bridge.stop()
        bridge.start()
        far.start()
        assert set(collector.findings(4)) == {*before, *meanwhile}
    finally:
        collector.stop()


def test_an_order_reaches_the_box(far: Broker, bridge: Bridge) -> None:
    dispatcher = far.client("dispatcher")
    topic = f"{PREFIX}-/cmd/restart/1"
    assert dispatcher.publish(topic, retain=True) < NOT_AUTHORIZED
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    reader = paho.Client(CallbackAPIVersion.VERSION2, protocol=paho.MQTTv5)
    reader.username_pw_set("box", "secret")
    reader.on_connect = lambda client, *_: client.subscribe(topic, 1)
    reader.on_message = lambda _c, _u, message: heard.put(bytes(message.payload))
    reader.connect("127.0.0.1", bridge.port)
    reader.loop_start()
    try:
        assert heard.get(timeout=PATIENCE) == b"{}"
    finally:
        reader.disconnect()
        reader.loop_stop()
