"""The whole appliance as a subprocess, with a real broker and real senders."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle
from pathlib import Path
from threading import Event, Thread
from typing import Any

import paho.mqtt.client as mqtt
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge import config_file
from edge.config import Config
from edge.device.health import State, read_health
from edge.store import Store
from tests.conftest import ROOT
from tests.running import PATIENCE as PATIENCE  # noqa: PLC0414 - for those who import it from here

SERVICES = ("intake", "inference", "web", "sync")
_PORTS = range(20_000, 32_000)
"""Below those that the kernel gives to whoever asks for any (`net.ipv4.ip_local_port_range`, from 32768)."""
_PORTS_EACH = 500


def await_until(happened: Callable[[], Any], what: str) -> Any:
    """Wait for an event that can only be looked for; fails by name when it never comes."""
    deadline = time.monotonic() + PATIENCE
    while not (value := happened()):
        if time.monotonic() > deadline:
            pytest.fail(f"never happened: {what}")
        time.sleep(0.02)
    return value


@contextmanager
def kept_up(say: Callable[[], None]) -> Iterator[None]:
    """Say it now and every second, as services say how they are: an account that is not renewed goes stale."""
    over = Event()

    def keep_saying() -> None:
        while not over.wait(1.0):
            say()

    say()
    thread = Thread(target=keep_saying)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass
class Appliance:
    """A running `scanside run`."""

    process: subprocess.Popen[str]
    settings: Config
    folder: Path
    console: list[str] = field(default_factory=list)

    @property
    def page(self) -> str:
        return f"http://127.0.0.1:{self.settings.web.port}"

    @property
    def dicom_port(self) -> str:
        return str(self.settings.intake.dicom.port)

    def first_boot_code(self) -> str:
        """The code as a person reads it off the console."""
        pattern = re.compile(r"\b[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}\b")
        console = self.folder / "console"
        found = await_until(lambda: pattern.findall(console.read_text(encoding="utf-8")), "a first-boot code")
        return str(found[-1])

    def pids(self) -> dict[str, int]:
        """Each living service's process, as its health file says."""
        health = read_health(self.settings.state_dir, time.time()) if self.settings.state_dir.is_dir() else {}
        up = {name: health[name].pid for name in SERVICES if name in health and health[name].state is State.UP}
        return {name: pid for name, pid in up.items() if Path(f"/proc/{pid}").exists()}

    def await_ready(self) -> None:
        """Until all four services are up."""
        await_until(lambda: len(self.pids()) == len(SERVICES), "all services up")

    def results(self) -> list[Any]:
        store = Store(self.settings.state_dir)
        try:
            return store.results(limit=1000)
        finally:
            store.close()

    def stop(self) -> int:
        """SIGTERM, and the exit status once it has ended."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


@dataclass
class Subscriber:
    """What a fleet manager's client sees."""

    messages: queue.SimpleQueue[tuple[str, dict[str, Any]]]
    seen: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def await_findings(self, count: int) -> list[dict[str, Any]]:
        """Wait until `count` summaries with different ids have come."""

        def enough() -> list[dict[str, Any]]:
            while not self.messages.empty():
                self.seen.append(self.messages.get())
            found = {body["message_id"]: body for topic, body in self.seen if "/find/" in topic}
            return list(found.values()) if len(found) >= count else []

        found: list[dict[str, Any]] = await_until(enough, f"{count} summaries over MQTT")
        return found


def free_port() -> int:
    """A TCP port on which nobody listens, and that nobody else is given while this process lives.

    One of the kernel's own choice (port 0) may be given to another process before somebody listens there.
    """
    _, ports = _ours()
    return next(port for port in ports if _is_free(port))


@cache
def _ours() -> tuple[socket.socket, Iterator[int]]:
    """The ports, in turn, of the first block that no other process of tests has; the claim to it ends with us."""
    for first in range(_PORTS.start, _PORTS.stop, _PORTS_EACH):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0scanside tests: ports from {first}")
        except OSError:
            claim.close()
            continue
        return claim, cycle(range(first, first + _PORTS_EACH))
    raise AssertionError("other processes of tests have all ports")


def _is_free(port: int) -> bool:
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The choice of the engine and its compiled model, made once for all appliances of the run."""
    return tmp_path_factory.mktemp("cache")


def accepts(port: int) -> bool:
    """Whether somebody takes connections there."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running_broker(program: Callable[[str], str], folder: Path) -> Iterator[int]:
    """A real Mosquitto on a free port of this machine: the port."""
    port = free_port()
    settings = folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n", encoding="ascii")
    with subprocess.Popen([program("mosquitto"), "-c", str(settings)], stderr=subprocess.DEVNULL) as process:
        try:
            await_until(lambda: accepts(port), "Mosquitto listening")
            yield port
        finally:
            process.terminate()


@pytest.fixture
def broker(program: Callable[[str], str], tmp_path: Path) -> Iterator[int]:
    """A real Mosquitto on a free port of this machine."""
    with running_broker(program, tmp_path) as port:
        yield port


@pytest.fixture
def subscriber(broker: int) -> Iterator[Subscriber]:
    """A second MQTT client that subscribes to everything of Scanside's."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    messages: queue.SimpleQueue[tuple[str, dict[str, Any]]] = queue.SimpleQueue()
    subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    client.on_message = lambda _c, _u, message: messages.put((message.topic, json.loads(message.payload or b"{}")))
    client.on_subscribe = lambda *_: subscribed.put(True)
    client.connect("127.0.0.1", broker)
    client.loop_start()
    client.subscribe("scanside/1/#", qos=1)
    subscribed.get(timeout=PATIENCE)
    yield Subscriber(messages)
    client.disconnect()
    client.loop_stop()


@contextmanager
def running_appliance(folder: Path, broker: int, cache: Path, **environment: str) -> Iterator[Appliance]:
    """`scanside run` as a person would start it, ready; its working folder is `folder`."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    (state / "cache").symlink_to(cache)
    file = folder / "scanside.yaml"
    document = {
        "site": "test",
        "box": "box-1",
        "state_dir": str(state),
        "intake": {"dicom": {"port": free_port()}, "watch_folder": str(folder / "watched")},
        "inference": {"image_seconds": 30},  # on a busy machine no image is given up for being slow
        "web": {"port": free_port()},
        "mqtt": {"host": "127.0.0.1", "port": broker, "tls": False, "health_interval_seconds": 1},
    }
    (folder / "watched").mkdir()
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    with (folder / "console").open("w", encoding="utf-8") as console:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", "run", "--config", str(file)],
            stdout=console,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )
    running = Appliance(process, config_file.load(file), folder)
    try:
        running.await_ready()
        yield running
    finally:
        running.stop()
        sys.stderr.write((folder / "console").read_text(encoding="utf-8"))


@pytest.fixture
def appliance(broker: int, tmp_path: Path, model_cache: Path) -> Iterator[Appliance]:
    """`scanside run` as a person would start it, ready."""
    with running_appliance(tmp_path, broker, model_cache) as running:
        yield running
