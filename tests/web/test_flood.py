"""A flood from one client against the real service: refused as it should be, others answered, nothing left behind."""

from __future__ import annotations

import http.client
import re
import socket
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import msgspec
import pytest

from edge.store import Store
from edge.web.problems import ProblemDetails
from tests.system.conftest import await_until
from tests.web import samples
from tests.web.conftest import Service
from tests.web.test_service import Stream, health, session

pytestmark = pytest.mark.system

CONNECTIONS = 350
"""More than there is room for of those that are over their rate."""

AT_ONCE = 20
VISITS = 10
REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: box\r\nCookie: scanside_session=forged\r\n\r\n",
    b"GET /results/1 HTTP/1.1\r\nHost: box\r\n\r\n",
    b"GET /api/v1/results HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer scanside_forged\r\n\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: box\r\nContent-Length: 0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: box\r\n\r\n",
)
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)


def visit(port: int) -> int:
    """The status that a visitor from another address of this machine gets."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, source_address=("127.0.0.2", 0))) as visitor:
        visitor.request("GET", "/sign-in")
        return visitor.getresponse().status


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_flood_is_refused_and_others_are_answered(service: Service) -> None:
    worker, said = health(service).pid, b""
    with session(service) as (token, _), closing(Store(service.state_dir)) as store, ExitStack() as opened:
        page = Stream(service.port, token)
        page.next("beat")
        assert visit(service.port) == 200
        before = descriptors(worker)
        flood = []
        for number in range(CONNECTIONS):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", service.port)))
            with suppress(ConnectionError):  # refused already
                connection.sendall(REQUESTS[number % len(REQUESTS)] * AT_ONCE)
            flood.append(connection)
        assert [visit(service.port) for _ in range(VISITS)] == [200] * VISITS
        stored = samples.commit(store, samples.flagged(), pictures=False)
        assert page.next("result").number == stored.seq
        for connection in flood:
            with suppress(ConnectionError):
                said += connection.recv(1 << 16)
        page.close()
    answers = _ANSWER.findall(said)
    assert {status for status, _ in answers} <= {b"200", b"303", b"401", b"403", b"429"}
    refusals = [head for status, head in answers if status == b"429"]
    assert refusals
    for head in refusals:
        assert re.search(rb"^Retry-After: [1-9]\d*\r?$", head, re.MULTILINE)
        assert b"Set-Cookie" not in head
    for body in re.findall(rb'\{"type":"about:blank".*?\}', said):
        assert msgspec.json.decode(body, type=ProblemDetails).status in (401, 403, 429)
    await_until(lambda: descriptors(worker) <= before, "the flood's connections are closed")
    assert health(service).pid == worker, "the same process has come through it"
