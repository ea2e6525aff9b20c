"""The real service: gunicorn, sockets, signals, live updates."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest

from edge.device.health import Health, State
from edge.store import Store
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from edge.web.permissions import SESSION_COOKIE
from edge.web.sessions import Sessions
from edge.web.streams import MAX_STREAMS
from tests.web import samples
from tests.web.conftest import PASSWORD, Service, start_service

GIVE_UP_AFTER = 90.0


@dataclass
class Told:
    """One server-sent event."""

    kind: str
    number: int | None
    data: dict[str, object]


class Stream:
    """An open event stream, as a browser holds it."""

    def __init__(self, port: int, token: str, path: str = "/api/v1/events", last: int | None = None) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_AFTER)
        headers = {"Cookie": f"{SESSION_COOKIE}={token}"} | ({"Last-Event-ID": str(last)} if last is not None else {})
        self.connection.request("GET", path, headers=headers)
        self.response = self.connection.getresponse()

    def events(self) -> Iterator[Told]:
        """As they come, until the stream ends."""
        kind, number, data = "", None, ""
        while line := self.response.readline().decode():
            name, _, value = line.rstrip("\n").partition(": ")
            if name == "event":
                kind = value
            elif name == "id":
                number = int(value)
            elif name == "data":
                data = value
            elif not name and kind:
                yield Told(kind, number, json.loads(data))
                kind, number, data = "", None, ""

    def next(self, kind: str) -> Told:
        """The next event of a kind."""
        return next(event for event in self.events() if event.kind == kind)

    def close(self) -> None:
        """As when a tab is closed."""
        self.response.close()
        self.connection.close()


@contextmanager
def session(service: Service, role: Role = Role.TECHNICIAN) -> Iterator[tuple[str, Sessions]]:
    """A session of a new account; its token."""
    file = AccountsFile(service.state_dir)
    sessions = Sessions(file, time.time, 1800.0)
    account = Accounts(file).add(role.value, PASSWORD, role)
    yield sessions.open(account), sessions
    file.close()


def health(service: Service) -> Health:
    return msgspec.json.decode((service.state_dir / "health" / "web.json").read_bytes(), type=Health)


def test_a_new_box_shows_its_code_on_the_console_and_not_in_the_log(service: Service) -> None:
    assert service.stop() == 0
    assert service.process.stdout and service.process.stderr
    console, log = service.process.stdout.read(), "".join(service.log) + service.process.stderr.read()
    line = next(line for line in console.splitlines() if "First account" in line)
    code = next(word for word in line.split() if word.count("-") == 3)
    assert code not in log
    assert "SC601" in log
    file = AccountsFile(service.state_dir)
    assert Accounts(file).create_first(code, "ada", PASSWORD)
    file.close()
    again = start_service(service.state_dir.parent)
    again.stop()
    assert again.process.stdout and "First account" not in again.process.stdout.read()


def test_a_committed_result_is_told_at_once_and_resumes(service: Service) -> None:
    store = Store(service.state_dir)
    with session(service) as (token, _):
        stream = Stream(service.port, token)
        assert stream.response.status == HTTPStatus.OK
        assert stream.response.headers["Content-Type"].startswith("text/event-stream")
        assert stream.next("beat")
        stored = samples.commit(store, samples.flagged())
        told = stream.next("result")
        assert (told.data["id"], told.number) == (stored.id, stored.seq)
        stream.close()

        store.acknowledge(stored.id, "ada", "agree")
        other = samples.commit(store, samples.clear())
        resumed = Stream(service.port, token, last=stored.seq)
        events = resumed.events()
        missed = [event for event in (next(events), next(events), next(events)) if event.kind == "result"]
        assert [event.data["id"] for event in missed] == [stored.id, other.id]
        assert missed[0].data["acknowledged"]
        resumed.close()
    store.close()


def test_a_page_that_missed_too_much_is_told_to_load_anew(service: Service) -> None:
    store = Store(service.state_dir)
    for _ in range(100):
        samples.commit(store, samples.clear(), pictures=False)
    with session(service) as (token, _):
        for last in (0, 10_000):  # far behind; or before the store was set up anew
            stream = Stream(service.port, token, last=last)
            assert stream.next("reset")
            stream.close()
    store.close()


def test_the_stream_ends_when_the_session_does(service: Service) -> None:
    with session(service) as (token, sessions):
        stream = Stream(service.port, token)
        assert stream.next("beat")
        sessions.close(token)
        assert [event.kind for event in stream.events()][-1] == "signed-out"
        assert Stream(service.port, token).response.status == HTTPStatus.UNAUTHORIZED


def test_streams_are_capped_and_the_page_still_answers(service: Service) -> None:
    with session(service) as (token, _), ExitStack() as opened:
        streams = [Stream(service.port, token, f"/api/v1/events?page={number}") for number in range(MAX_STREAMS)]
        for stream in streams:
            opened.callback(stream.close)
            assert stream.next("beat")
        refused = Stream(service.port, token, "/api/v1/events?page=one-more")
        assert refused.response.status == HTTPStatus.SERVICE_UNAVAILABLE
        assert refused.response.headers["Content-Type"] == "application/problem+json"
        assert Stream(service.port, token, "/healthz").response.status == HTTPStatus.OK
        again = Stream(service.port, token, "/api/v1/events?page=3")
        assert again.next("beat")
        assert [event.kind for event in streams[3].events()][-1] == "replaced"


def test_it_stops_at_once_with_streams_and_connections_open(service: Service) -> None:
    with session(service) as (token, _):
        streams = [Stream(service.port, token, f"/api/v1/events?page={number}") for number in range(5)]
        idle = Stream(service.port, token, "/healthz")
        idle.response.read()
        for stream in streams:
            assert stream.next("beat")
        assert service.stop() == 0
        for stream in streams:
            assert "signed-out" not in [event.kind for event in stream.events()]
        assert (health(service).state, health(service).reason) == (State.DOWN, "stopped")
    assert service.process.stderr and "SC609" not in service.process.stderr.read()


def test_a_killed_worker_is_replaced(service: Service) -> None:
    before = health(service)
    os.kill(before.pid, signal.SIGKILL)
    assert service.process.stderr
    for line in service.process.stderr:
        if " SC600 " in line:
            break
    after = health(service)
    assert after.pid != before.pid
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=GIVE_UP_AFTER)
    connection.request("GET", "/healthz")
    assert connection.getresponse().status == HTTPStatus.OK


def test_a_taken_address_is_one_line_and_an_exit_status(service: Service, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"SC610 .*Address already in use; change web.host or web.port"):
        start_service(tmp_path / "other", service.port)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nCookie: scanside_session=\xff\xfe\r\n\r\n",
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /static/../app.py HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /static/%2e%2e/app.py HTTP/1.1\r\nHost: x\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
    ],
)
def test_odd_requests_are_refused_and_nothing_breaks(service: Service, request_bytes: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=GIVE_UP_AFTER)
    connection.connect()
    connection.sock.sendall(request_bytes)
    assert select.select([connection.sock], [], [], GIVE_UP_AFTER)[0]
    status = connection.sock.recv(65536).split(b" ")[1]
    assert status in (b"303", b"400", b"403", b"404", b"405", b"413", b"414")
    assert Stream(service.port, "", "/healthz").response.status == HTTPStatus.OK
    service.stop()
    assert service.process.stderr and " ERROR " not in service.process.stderr.read()


def test_visitors_who_stall_hold_nobody_up_for_ever(service: Service) -> None:
    half = [socket.create_connection(("127.0.0.1", service.port)) for _ in range(MAX_STREAMS + 20)]
    for connection in half:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert Stream(service.port, "", "/healthz").response.status == HTTPStatus.OK
    for connection in half:
        connection.close()
    service.stop()
    assert service.process.stderr and " ERROR " not in service.process.stderr.read()


def test_the_web_process_loads_nothing_heavy() -> None:
    code = "import sys, edge.web.service; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "cv2", "pydicom", "pynetdicom", "openvino", "onnxruntime", "torch"} & set(loaded)
