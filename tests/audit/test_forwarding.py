"""Messages reach a syslog server over TLS, in order, none twice without need and none left out, whatever it does."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from threading import Condition, Thread

import pytest
import yaml
from msgspec.structs import replace

from edge.audit.service import Forwarder
from edge.audit.syslog import frame
from edge.config import Syslog
from edge.device.health import State, read_health
from edge.store.audit import AuditTrail
from edge.store.keys import open_ring
from edge.store.vault import Vault
from tests.intake.certificates import Authority
from tests.running import RunningProgram, scanside
from tests.store.audit_reading import assert_valid, in_words
from tests.store.test_audit import WEB, sign_in
from tests.system.conftest import PATIENCE, await_until, free_port

_HEADER = re.compile(
    rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z xray-1\.clinic-12 scanside - DICOM\+RFC3881 - "
    rb"\xef\xbb\xbf(<AuditMessage>.*)"
)


class Repository:
    """An audit record repository: takes RFC 5425 frames over TLS from one box at a time.

    Attributes:
        messages: The XML of what came, in order.
        peers: The subject of each client's certificate.
    """

    def __init__(self, authority: Authority, *, port: int = 0, client_certificates: bool = False) -> None:
        own = authority.issue("repository")
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(own.certificate, own.key)
        if client_certificates:
            self._context.load_verify_locations(authority.file)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self.messages: list[str] = []
        self.peers: list[object] = []
        self._changed = Condition()
        self._connection: ssl.SSLSocket | None = None
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def wait_for(self, count: int) -> list[str]:
        """Until so many have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.messages) >= count, PATIENCE), len(self.messages)
            return list(self.messages)

    def hang_up(self) -> None:
        """Close the connection, not the door."""
        if self._connection:
            with suppress(OSError):  # closed already
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def stop(self) -> None:
        """Close both."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.hang_up()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                self._connection = self._context.wrap_socket(client, server_side=True)
                self.peers.append(self._connection.getpeercert())
                self._take(self._connection)
            except (OSError, ValueError):
                client.close()
            finally:
                if self._connection:
                    self._connection.close()

    def _take(self, connection: ssl.SSLSocket) -> None:
        with connection.makefile("rb") as stream:
            while length := _length(stream.read):
                header = _HEADER.fullmatch(stream.read(length))
                assert header
                with self._changed:
                    self.messages.append(header[1].decode())
                    self._changed.notify_all()


def _length(read: Callable[[int], bytes]) -> int:
    """MSG-LEN and the space after it (RFC 5425 4.3); 0 at the end."""
    digits = b""
    while (byte := read(1)).isdigit():
        digits += byte
    return int(digits) if byte == b" " else 0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The clinic's."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def repository(authority: Authority) -> Iterator[Repository]:
    """A server that asks for no certificate."""
    running = Repository(authority)
    yield running
    running.stop()


@pytest.fixture
def trail(tmp_path: Path) -> Iterator[AuditTrail]:
    """A box's trail."""
    state = tmp_path / "state"
    state.mkdir()
    opened = AuditTrail(state, Vault(open_ring(state)), WEB)
    yield opened
    opened.close()


def towards(repository: Repository, authority: Authority, **more: Path) -> Syslog:
    """The configuration that leads to it."""
    return Syslog(host="localhost", port=repository.port, ca_file=authority.file, **more)


def names(messages: list[str]) -> list[str]:
    """Who signed in."""
    return [in_words(xml).split(" | ")[1].split("@")[0] for xml in messages]


def test_a_frame_is_what_the_standards_say() -> None:
    framed = frame("<AuditMessage/>", WEB, 1_790_000_000.25)
    assert framed == (
        b"93 <85>1 2026-09-21T14:13:20.250Z xray-1.clinic-12 scanside - DICOM+RFC3881 - \xef\xbb\xbf<AuditMessage/>"
    )
    length, _, message = framed.partition(b" ")
    assert int(length) == len(message), "octets, not characters"


def test_messages_arrive_in_order_and_valid(
    repository: Repository, authority: Authority, trail: AuditTrail, tmp_path: Path, program: Callable[[str], str]
) -> None:
    trail.record(*(sign_in(f"person{number}") for number in range(120)))
    forwarder = Forwarder(trail, towards(repository, authority))
    assert [forwarder.turn(0.0) for _ in range(4)] == [True, True, False, False]
    assert (forwarder.position, forwarder.waiting, forwarder.trouble) == (120, 0, "")
    messages = repository.wait_for(120)
    assert names(messages) == [f"person{number}" for number in range(120)]
    assert_valid(messages[:3], tmp_path, program)
    trail.record(sign_in("läte"))
    assert not forwarder.turn(0.0)
    assert names(repository.wait_for(121)[-1:]) == ["läte"]
    forwarder.close()


def test_it_goes_on_from_where_another_stopped(repository: Repository, authority: Authority, trail: AuditTrail) -> None:
    trail.record(sign_in("ada"), sign_in("eve"))
    first = Forwarder(trail, towards(repository, authority))
    first.turn(0.0)
    first.close()
    trail.record(sign_in("bob"))
    second = Forwarder(trail, towards(repository, authority))
    assert second.position == 2
    second.turn(0.0)
    assert names(repository.wait_for(3)) == ["ada", "eve", "bob"]
    second.close()


def test_an_outage_is_waited_for_and_made_up(
    authority: Authority, trail: AuditTrail, caplog: pytest.LogCaptureFixture
) -> None:
    """The server hangs up, is gone, and comes back: nothing is lost, and the log is not flooded."""
    caplog.set_level(logging.INFO, "scanside")
    server = Repository(authority, port=free_port())
    forwarder = Forwarder(trail, towards(server, authority))
    trail.record(sign_in("ada"))
    forwarder.turn(0.0)
    server.wait_for(1)
    server.hang_up()
    trail.record(sign_in("eve"))
    forwarder.turn(0.0)
    assert names(server.wait_for(2)) == ["ada", "eve"]
    server.stop()
    trail.record(sign_in("bob"))
    due = [0.0]
    for _ in range(4):
        forwarder.turn(due[-1])
        assert "cannot be forwarded" in forwarder.trouble
        assert not forwarder.turn(due[-1] + 0.5), "too early"
        due.append(forwarder._not_before)
    assert [later - earlier for earlier, later in pairwise(due)] == [1.0, 2.0, 4.0, 8.0]
    assert len([record for record in caplog.records if "SC805" in record.message]) == 1
    again = Repository(authority, port=server.port)
    forwarder.turn(due[-1])
    assert names(again.wait_for(1)) == ["bob"]
    assert (forwarder.trouble, forwarder.waiting) == ("", 0)
    forwarder.close()
    again.stop()


def test_a_server_that_is_not_the_clinics_gets_nothing(
    repository: Repository, authority: Authority, trail: AuditTrail, tmp_path: Path
) -> None:
    trail.record(sign_in())
    wrong = {
        "IP address mismatch": replace(towards(repository, authority), host="127.0.0.1"),
        "unable to get local issuer certificate": towards(repository, Authority(tmp_path, "other")),
    }
    for said, config in wrong.items():
        forwarder = Forwarder(trail, config)
        forwarder.turn(0.0)
        assert said in forwarder.trouble
        assert (forwarder.position, repository.messages) == (0, [])


def test_a_server_may_ask_who_sends(authority: Authority, trail: AuditTrail, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Repository(authority, client_certificates=True)
    own = authority.issue("xray-1")
    trail.record(sign_in())
    unknown = Forwarder(trail, towards(server, authority))
    with monkeypatch.context() as patient:
        patient.setattr("edge.audit.syslog._SETTLING", PATIENCE)  # for a server as slow as it likes
        unknown.turn(0.0)
    assert (unknown.position, server.messages) == (0, [])
    assert unknown.trouble
    known = Forwarder(trail, towards(server, authority, certificate_file=own.certificate, key_file=own.key))
    known.turn(0.0)
    assert names(server.wait_for(1)) == ["ada"]
    assert "xray-1" in str(server.peers[-1])
    known.close()
    server.stop()


def test_a_record_that_was_not_sealed_here_is_left_out_and_said(
    repository: Repository, authority: Authority, trail: AuditTrail, caplog: pytest.LogCaptureFixture
) -> None:
    trail.record(sign_in("ada"), sign_in("eve"), sign_in("bob"))
    sql = trail._file._connection
    sql.execute("DROP TRIGGER records_stay_as_they_are")
    sql.execute("UPDATE records SET sealed = zeroblob(90) WHERE number = 2")
    forwarder = Forwarder(trail, towards(repository, authority))
    forwarder.turn(0.0)
    assert names(repository.wait_for(2)) == ["ada", "bob"]
    assert "SC806 audit record 2" in caplog.text
    assert forwarder.position == 3
    forwarder.close()


def test_the_service_follows_the_trail_and_stops_in_good_order(
    repository: Repository, authority: Authority, trail: AuditTrail, tmp_path: Path
) -> None:
    state = tmp_path / "state"
    syslog = {"host": "localhost", "port": repository.port, "ca_file": str(authority.file)}
    config = tmp_path / "scanside.yaml"
    settings = {"site": "clinic-12", "box": "xray-1", "state_dir": str(state), "audit": {"syslog": syslog}}
    config.write_text(yaml.safe_dump(settings))
    trail.record(sign_in("ada"))
    with RunningProgram(scanside("run", "--config", str(config), "audit")) as service:
        repository.wait_for(1)
        trail.record(sign_in("eve"))
        assert names(repository.wait_for(2)) == ["ada", "eve"]
        await_until(lambda: _account(state) == (State.UP, 2), "both in the account of a service that is up")
        assert service.stop() == 0
    assert trail.forwarded() == 2


def test_the_service_needs_a_server(tmp_path: Path) -> None:
    config = tmp_path / "scanside.yaml"
    config.write_text(f"state_dir: {tmp_path / 'state'}\n")
    with RunningProgram(scanside("run", "--config", str(config), "audit")) as service:
        assert service.wait_for_end() == 2
        assert "audit.syslog: missing" in service.log


def _account(state_dir: Path) -> tuple[State, object]:
    account = read_health(state_dir, time.time())["audit"]
    return account.state, account.details.get("forwarded")
