"""A real Mosquitto, a second client that watches it, and the sync service as its own process."""

from __future__ import annotations

import getpass
import queue
import signal
import socket
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest
import yaml
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge.device.client_tls import client_context
from edge.messages.summary import summarise
from edge.records import Priority, Reason, Result, Status, Timings
from edge.store import Outbox
from tests.running import RunningProgram, scanside
from tests.sync.certificates import Authority
from tests.sync.forwarder import Forwarder
from tests.system.conftest import PATIENCE, await_until, free_port

SITE, BOX = "clinic", "box-1"
PREFIX = f"scanside/1/{SITE}/{BOX}/"


class Mosquitto:
    """A broker that can be stopped and started again; its memory lasts, as in the field.

    It lets none in but over TLS with a certificate of its authority. Without an authority it is a plain one.
    """

    def __init__(self, program: str, folder: Path, authority: Authority | None, *lines: str) -> None:
        self.port = free_port()
        self._program = program
        self._folder = folder
        self._authority = authority
        self._process: subprocess.Popen[bytes] | None = None
        self.configure("allow_anonymous true", *lines)

    def configure(self, *lines: str, own: tuple[Path, Path] | None = None) -> None:
        """Write the configuration, with another certificate of its own if given; takes effect at the next start."""
        if self._authority:
            certificate, key = own or self._authority.issue("server")
            lines += (f"cafile {self._authority.certificate}", f"certfile {certificate}", f"keyfile {key}")
            lines += ("require_certificate true",)
        settings = [
            f"listener {self.port} 127.0.0.1",
            f"user {getpass.getuser()}",
            "persistence true",
            f"persistence_location {self._folder}/",
            "max_queued_messages 100000",  # with 0 (no limit) 2.0.11 cuts off those to whom it denies a message
            "log_type all",
            f"log_dest file {self._folder}/mosquitto.log",
            *lines,
        ]
        (self._folder / "mosquitto.conf").write_text("\n".join(settings) + "\n", encoding="ascii")

    def section(self, name: str = "client") -> dict[str, object]:
        """The part `mqtt` of a configuration that leads here, with the certificate of that name."""
        place: dict[str, object] = {"host": "127.0.0.1", "port": self.port, "tls": self._authority is not None}
        if self._authority:
            ca, certificate, key = map(str, (self._authority.certificate, *self._authority.issue(name)))
            place |= {"ca_file": ca, "certificate_file": certificate, "key_file": key}
        return place

    def context(self, name: str = "client") -> ssl.SSLContext:
        """What a client with the certificate of that name needs.

        Raises:
            AssertionError: It is a plain one.
        """
        assert self._authority, "a plain broker"
        return client_context(self._authority.certificate, *self._authority.issue(name))

    def start(self) -> None:
        self._process = subprocess.Popen([self._program, "-c", str(self._folder / "mosquitto.conf")])
        await_until(lambda: socket.socket().connect_ex(("127.0.0.1", self.port)) == 0, "Mosquitto listening")

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(PATIENCE)
            self._process = None

    def kill(self) -> None:
        """SIGKILL: what it has acknowledged since its last snapshot is forgotten."""
        assert self._process
        self._process.kill()
        self._process.wait(PATIENCE)

    def freeze(self) -> None:
        """Let it answer nobody, and close no connection either: as behind a network that lost its way back."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def rights(self, *box: str) -> str:
        """Let the user `watcher` do all and `box` what these lines of its ACL say; the line that configures this."""
        file = self._folder / "rights"
        file.write_text("\n".join(["user watcher", "topic readwrite #", "user box", *box]) + "\n", encoding="ascii")
        file.chmod(0o600)
        return f"acl_file {file}"

    def reload(self) -> None:
        """Read the files with passwords and rights again; what comes from now on is judged by them."""
        assert self._process
        before = self.log().count("Reloading config")
        self._process.send_signal(signal.SIGHUP)
        await_until(lambda: self.log().count("Reloading config") > before, "Mosquitto reading its files again")

    def log(self) -> str:
        return (self._folder / "mosquitto.log").read_text(encoding="utf-8")


class Watcher:
    """A client that sees everything on its topics, over broker restarts, with nothing in between lost."""

    def __init__(
        self,
        port: int,
        name: str = "watcher",
        username: str | None = None,
        tls: ssl.SSLContext | None = None,
        topics: Sequence[str] = ("scanside/#",),
    ) -> None:
        self.seen: list[paho.MQTTMessage] = []
        self._messages: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        granted: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=paho.MQTTv5)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_connect = lambda client, *_: client.subscribe([(topic, 1) for topic in (*topics, "marker")])
        self._client.on_subscribe = lambda _c, _u, _mid, reasons, _p: granted.put(not reasons[0].is_failure)
        self._client.on_message = lambda _c, _u, message: self._messages.put(message)
        if username:
            self._client.username_pw_set(username, "watches")
        if tls:
            self._client.tls_set_context(tls)
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 3600
        self._client.connect("127.0.0.1", port, clean_start=False, properties=properties)
        self._client.loop_start()
        assert granted.get(timeout=PATIENCE)

    def until(self, enough: Callable[[list[paho.MQTTMessage]], Any], what: str) -> Any:
        """Wait for messages until `enough(all so far)` is true; gives its value."""
        deadline = time.monotonic() + PATIENCE
        while not (value := enough(self.seen)):
            try:
                self.seen.append(self._messages.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                topics = [message.topic for message in self.seen]
                pytest.fail(f"never came: {what}; {len(topics)} messages came, the last on {topics[-5:]}")
        return value

    def first(self, tail: str, **fields: object) -> paho.MQTTMessage:
        """Wait for the first message on a topic that has these fields."""

        def found(seen: list[paho.MQTTMessage]) -> paho.MQTTMessage | None:
            for message in seen:
                if message.topic != PREFIX + tail or not message.payload:
                    continue
                if fields.items() <= msgspec.json.decode(message.payload).items():
                    return message
            return None

        message: paho.MQTTMessage = self.until(found, f"{fields} on {tail}")
        return message

    def findings(self, count: int) -> list[str]:
        """Wait until `count` different summaries have come; the ids of all, in order, repetitions too."""
        self.until(lambda seen: len(set(_ids(seen))) >= count, f"{count} summaries")
        return _ids(self.seen)

    def settle(self) -> None:
        """Wait until everything that the broker has sent so far has arrived, by a message of our own behind it."""
        marker = uuid.uuid4().bytes
        self._client.publish("marker", marker, qos=1)
        self.until(lambda seen: any(message.payload == marker for message in seen), "our own marker")

    def stop(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _ids(messages: Sequence[paho.MQTTMessage]) -> list[str]:
    prefix = f"{PREFIX}inference/find/image/"
    return [message.topic.removeprefix(prefix) for message in messages if message.topic.startswith(prefix)]


class SyncProcess:
    """`scanside run sync`, as systemd would start it; may be started more than once."""

    def __init__(self, folder: Path, **mqtt: object) -> None:
        self.state_dir = folder / "state"
        self.state_dir.mkdir(exist_ok=True)
        self.outbox = Outbox(self.state_dir)
        self._config = folder / "scanside.yaml"
        section = {
            "host": "127.0.0.1",
            "tls": False,
            "health_interval_seconds": 1,
            "messages_per_second": 100_000,
        } | mqtt
        document = {"site": SITE, "box": BOX, "state_dir": str(self.state_dir), "mqtt": section}
        self._config.write_text(yaml.safe_dump(document), encoding="utf-8")
        self._programs: list[RunningProgram] = []

    @property
    def program(self) -> RunningProgram:
        """The one that was started last."""
        return self._programs[-1]

    def start(self, script: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
        """Start it, or a script that starts it in its own way."""
        command = scanside("run", "sync", "--config", str(self._config))
        if script:
            command[1:3] = [str(script)]
        self._programs.append(RunningProgram(command, environment))

    def stop(self) -> int:
        """SIGTERM; the exit status."""
        return self.program.stop()

    def kill(self) -> None:
        """SIGKILL, as a power cut would."""
        self.program.stop(signal.SIGKILL)

    def wait_for(self, event: str) -> str:
        """Wait until the program has logged an event (`SC500`); its line."""
        return self.program.wait_for(event)

    def log(self) -> str:
        """What all of them have logged."""
        return "".join(program.log for program in self._programs)

    def close(self) -> None:
        """Kill what still runs."""
        self.outbox.close()
        for program in self._programs:
            program.__exit__()

    def put(self, count: int) -> list[str]:
        """Put summaries in the outbox; their ids, in order."""
        ids = [uuid.uuid4().hex for _ in range(count)]
        self.outbox.put((message_id, "summary", summary_body(message_id)) for message_id in ids)
        return ids

    def waiting(self) -> list[str]:
        """The ids in the outbox, in order."""
        return [message.message_id for message in self.outbox.waiting(limit=1000)]

    def await_empty_outbox(self) -> None:
        await_until(lambda: self.outbox.depth()[0] == 0, "the outbox empty")


def summary_body(message_id: str) -> bytes:
    """A summary as inference makes it."""
    result = Result(
        source="dicom",
        sop_instance_uid="1.2.3",
        status=Status.NOT_ANALYSED,
        reason=Reason.UNDER_AGE,
        priority=Priority.ROUTINE,
        timings_ms=Timings(),
    )
    return msgspec.json.encode(
        summarise(result, message_id=message_id, committed_at=1e9, synchronised=True, waited=0.1)
    )


@pytest.fixture
def mosquitto(program: Callable[[str], str], authority: Authority, tmp_path: Path) -> Iterator[Mosquitto]:
    """A broker over TLS with certificates on both sides, as in the field; not started yet."""
    broker = Mosquitto(program("mosquitto"), tmp_path, authority)
    yield broker
    broker.stop()


@pytest.fixture
def broker(mosquitto: Mosquitto) -> Mosquitto:
    """The same, running."""
    mosquitto.start()
    return mosquitto


@pytest.fixture
def way(broker: Mosquitto) -> Iterator[Forwarder]:
    """A way to the running one that can withhold its answers and break."""
    forwarder = Forwarder(broker.port)
    yield forwarder
    forwarder.close()


@pytest.fixture
def watcher(broker: Mosquitto) -> Iterator[Watcher]:
    """A client that sees everything."""
    client = Watcher(broker.port, tls=broker.context())
    yield client
    client.stop()


@pytest.fixture
def make_sync(tmp_path: Path) -> Iterator[Callable[..., SyncProcess]]:
    """Makes a sync service with a section `mqtt`; not started yet. Its log is shown when the test fails."""
    made: list[SyncProcess] = []

    def make(**mqtt: object) -> SyncProcess:
        made.append(SyncProcess(tmp_path, **mqtt))
        return made[-1]

    yield make
    for sync in made:
        sync.close()
        sys.stderr.write(sync.log())


@pytest.fixture
def sync(broker: Mosquitto, make_sync: Callable[..., SyncProcess]) -> SyncProcess:
    """A sync service for the running broker; not started yet."""
    return make_sync(**broker.section())
