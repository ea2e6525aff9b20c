"""Brokers of all kinds: with TLS, with passwords, with rights, of the older MQTT, and hostile ones."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest

from edge.demo.subscriber import subscribe
from edge.sync.drain import REFUSALS_PER_PASS
from edge.sync.link import WINDOW
from tests.messages.schemas import check
from tests.sync.certificates import Authority
from tests.sync.conftest import PREFIX, Mosquitto, SyncProcess, Watcher
from tests.system.conftest import PATIENCE, await_until, free_port

pytestmark = pytest.mark.system

MakeSync = Callable[..., SyncProcess]


def test_mutual_tls(watcher: Watcher, sync: SyncProcess) -> None:
    """LINK-TLS-01"""
    ids = sync.put(100)
    sync.start()
    assert watcher.findings(100) == ids
    sync.await_empty_outbox()
    assert sync.stop() == 0
    watcher.first("-/status/state/-", state="stopping")


def test_a_broker_of_another_authority_gets_nothing(
    watcher: Watcher, broker: Mosquitto, make_sync: MakeSync, tmp_path: Path
) -> None:
    """LINK-TLS-01"""
    other = Authority(tmp_path, "other")
    sync = make_sync(**broker.section() | {"ca_file": str(other.certificate)})
    ids = sync.put(2)
    sync.start()
    assert "CERTIFICATE_VERIFY_FAILED" in sync.wait_for("SC501")
    watcher.settle()
    assert not [message for message in watcher.seen if message.topic.startswith(PREFIX)]
    assert [message.message_id for message in sync.outbox.waiting()] == ids


def test_a_box_without_certificate_gets_no_connection(
    broker: Mosquitto, authority: Authority, make_sync: MakeSync
) -> None:
    """LINK-TLS-01"""
    sync = make_sync(port=broker.port, tls=True, ca_file=str(authority.certificate))
    ids = sync.put(2)
    sync.start()
    sync.wait_for("SC501")
    assert "SC500" not in sync.log()
    assert [message.message_id for message in sync.outbox.waiting()] == ids


def test_a_certificate_file_that_is_missing_is_told_and_may_come_later(
    broker: Mosquitto, authority: Authority, make_sync: MakeSync, tmp_path: Path
) -> None:
    later = tmp_path / "later.pem"
    sync = make_sync(**broker.section() | {"ca_file": str(later)})
    sync.start()
    assert "FileNotFoundError" in sync.wait_for("SC501")
    later.write_bytes(authority.certificate.read_bytes())
    sync.wait_for("SC500")


@pytest.fixture
def passwords(program: Callable[[str], str], mosquitto: Mosquitto, tmp_path: Path) -> Path:
    """A password file with `box` and `watcher`; the broker is configured for it and for rights, and not started."""
    file = tmp_path / "passwords"
    file.touch(mode=0o600)
    for name, password in (("box", "opens"), ("watcher", "watches")):
        subprocess.run([program("mosquitto_passwd"), "-b", str(file), name, password], check=True)
    mosquitto.configure("allow_anonymous false", f"password_file {file}", mosquitto.rights())
    return file


def test_user_name_and_password(passwords: Path, mosquitto: Mosquitto, make_sync: MakeSync, tmp_path: Path) -> None:
    """LINK-REFUSAL-01"""
    mosquitto.rights(f"topic write {PREFIX}#")
    mosquitto.start()
    secret = tmp_path / "secret"
    secret.write_text("wrong\n", encoding="ascii")
    sync = make_sync(**mosquitto.section(), username="box", password_file=str(secret))
    ids = sync.put(2)
    sync.start()
    assert "Not authorized (0x87)" in sync.wait_for("SC501")
    assert sync.stop() == 0
    assert [message.message_id for message in sync.outbox.waiting()] == ids
    secret.write_text("opens\nanything else\n", encoding="ascii")
    watcher = Watcher(mosquitto.port, username="watcher", tls=mosquitto.context())
    sync.start()
    assert watcher.findings(2) == ids
    watcher.stop()
    assert "opens" not in sync.log()


def test_refused_messages_are_kept_and_the_broker_is_left_in_peace(
    passwords: Path, mosquitto: Mosquitto, make_sync: MakeSync, tmp_path: Path
) -> None:
    """OUTBOX-REFUSED-01 LINK-REFUSAL-01"""
    statements = [f"topic write {PREFIX}+/status/#", f"topic write {PREFIX}+/m/#"]
    mosquitto.rights(*statements)
    mosquitto.start()
    secret = tmp_path / "secret"
    secret.write_text("opens\n", encoding="ascii")
    sync = make_sync(**mosquitto.section(), username="box", password_file=str(secret))
    watcher = Watcher(mosquitto.port, username="watcher", tls=mosquitto.context())
    ids = sync.put(200)
    sync.start()
    refused = sync.wait_for("SC503")
    assert "inference/find/image" in refused
    assert "(0x87)" in refused
    await_until(lambda: mosquitto.log().count("Denied PUBLISH") >= REFUSALS_PER_PASS, "a pass of refusals")
    healths = _healths_from_now_on(watcher, 3)
    assert healths[-1]["outbox"] == {"depth": 200, "oldest_seconds": healths[-1]["outbox"]["oldest_seconds"]}
    assert watcher.findings(0) == []
    assert mosquitto.log().count("Denied PUBLISH") <= 8 * (REFUSALS_PER_PASS + WINDOW)
    assert sync.log().count("SC503") == 1
    mosquitto.rights(*statements, f"topic write {PREFIX}inference/find/#")
    mosquitto.reload()
    assert set(watcher.findings(200)) == set(ids)
    sync.await_empty_outbox()
    watcher.stop()


def _healths_from_now_on(watcher: Watcher, count: int) -> list[dict[str, dict[str, int]]]:
    start = len(watcher.seen)

    def enough(seen: list[paho.MQTTMessage]) -> list[dict[str, dict[str, int]]]:
        new = [message for message in seen[start:] if message.topic == f"{PREFIX}-/m/health/-"]
        return [msgspec.json.decode(message.payload) for message in new] if len(new) >= count else []

    healths: list[dict[str, dict[str, int]]] = watcher.until(enough, f"{count} more healths")
    return healths


@pytest.fixture
def old_broker() -> Iterator[int]:
    """The embedded amqtt, which speaks MQTT 3.1.1 only, and no TLS."""
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "edge.demo.broker", str(port)]) as process:
        await_until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, "amqtt listening")
        yield port
        process.kill()


def test_a_broker_of_the_older_mqtt_is_served_and_the_log_says_what_is_lost(
    old_broker: int, make_sync: MakeSync
) -> None:
    seen: list[tuple[str, bytes]] = []
    with subscribe("127.0.0.1", old_broker, lambda topic, payload: seen.append((topic, payload))):
        sync = make_sync(port=old_broker)
        ids = sync.put(50)
        sync.start()
        prefix = f"{PREFIX}inference/find/image/"
        await_until(
            lambda: [topic.removeprefix(prefix) for topic, _ in seen if topic.startswith(prefix)] == ids,
            "all summaries in order over MQTT 3.1.1",
        )
        sync.await_empty_outbox()
        assert "MQTT 3.1.1" in sync.wait_for("SC500")
        told = sync.wait_for("SC502")
        for lost in ("session expiry", "message expiry", "will delay", "reason codes", "content type"):
            assert lost in told
        about = next(payload for topic, payload in seen if topic == f"{PREFIX}-/status/about/-")
        assert check("about", about)["protocol"] == "3.1.1"
        assert sync.stop() == 0
        states = f"{PREFIX}-/status/state/-"
        await_until(
            lambda: (
                [msgspec.json.decode(payload)["state"] for topic, payload in seen if topic == states]
                == ["ready", "stopping"]
            ),
            "the farewell, which the broker hands on after it has acknowledged it",
        )


def test_killed_on_the_older_mqtt_the_will_comes_at_once(old_broker: int, make_sync: MakeSync) -> None:
    seen: list[bytes] = []
    with subscribe(
        "127.0.0.1", old_broker, lambda topic, payload: seen.append(payload) if "/state/" in topic else None
    ):
        sync = make_sync(port=old_broker)
        sync.start()
        await_until(lambda: seen, "the birth")
        sync.kill()
        await_until(lambda: len(seen) == 2, "the will")
    ready, lost = (check("state", payload) for payload in seen)
    assert (ready["state"], lost["state"]) == ("ready", "lost")
    assert ready["session"] == lost["session"]


class HostileBroker:
    """Accepts connections over mutual TLS on a port and answers whatever comes with the same bytes."""

    def __init__(self, port: int, authority: Authority, answer: bytes, *, hang_up: bool) -> None:
        self._server = socket.create_server(("127.0.0.1", port))
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.certificate))
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._context.load_cert_chain(*authority.issue("server"))
        self._answer = answer
        self._hang_up = hang_up
        self._held: list[socket.socket] = []
        self.first_bytes: list[bytes] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                visitor, _ = self._server.accept()
            except OSError:
                return
            visitor.settimeout(PATIENCE)
            visitor = self._context.wrap_socket(visitor, server_side=True)
            self.first_bytes.append(visitor.recv(4096))
            visitor.sendall(self._answer)
            if self._hang_up:
                visitor.close()
            else:
                self._held.append(visitor)

    def stop(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for visitor in self._held:
            visitor.close()
        self._thread.join()


@pytest.mark.parametrize(
    ("answer", "hang_up"),
    [
        pytest.param(b"", True, id="hangs up"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", True, id="a web server"),
        pytest.param(b"\x20\x02\x00\x01", True, id="refuses the version as 3.1.1 says"),
        pytest.param(b"\x20\x03\x00\x84\x00", True, id="refuses the version as 5 says"),
        pytest.param(b"\x20\x03\x00\x88\x00", False, id="server unavailable"),
        pytest.param(b"\x20\x03\x00\xff\x00", False, id="a reason code that does not exist"),
        pytest.param(b"\x20\x05\x00\x00\x02\xfe\xff", False, id="properties that do not exist"),
        pytest.param(b"\x20\xff\xff\xff\xff\xff", False, id="a length that never ends"),
        pytest.param(b"\x20\x03\x00\x00\x00\x40\x02\x00\x63", False, id="acknowledges what was never sent"),
        pytest.param(bytes(range(256)), False, id="noise"),
    ],
)
def test_whatever_a_broker_answers_the_service_lives_and_loses_nothing(
    mosquitto: Mosquitto, authority: Authority, make_sync: MakeSync, answer: bytes, hang_up: bool
) -> None:
    """LINK-REFUSAL-01"""
    mosquitto.start()
    Watcher(mosquitto.port, tls=mosquitto.context()).stop()  # its session stays: nothing is missed until it is back
    mosquitto.stop()
    hostile = HostileBroker(mosquitto.port, authority, answer, hang_up=hang_up)
    sync = make_sync(**mosquitto.section(), keepalive_seconds=5)
    ids = sync.put(30)
    sync.start()
    await_until(lambda: hostile.first_bytes, "a first visit")
    hostile.stop()
    mosquitto.start()
    watcher = Watcher(mosquitto.port, tls=mosquitto.context())
    assert watcher.findings(30) == ids
    sync.await_empty_outbox()
    watcher.stop()
    assert sync.program.process.poll() is None
    assert "Traceback" not in sync.log()


def test_a_broker_that_never_answers_is_given_up(
    mosquitto: Mosquitto, authority: Authority, make_sync: MakeSync
) -> None:
    """A half-open connection: nobody acknowledges, nobody closes."""
    hostile = HostileBroker(mosquitto.port, authority, b"\x20\x03\x00\x00\x00", hang_up=False)
    sync = make_sync(**mosquitto.section(), keepalive_seconds=5)
    ids = sync.put(3)
    sync.start()
    sync.wait_for("SC500")
    sync.wait_for("SC501")
    assert [message.message_id for message in sync.outbox.waiting()] == ids
    hostile.stop()
