"""A flood from one client against the real service: refused as it should be, others answered, nothing left behind."""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import cycle, islice
from pathlib import Path
from threading import Thread

import msgspec
import pytest

from edge.store import Store
from edge.web.problems import ProblemDetails
from tests.system.conftest import await_until
from tests.web import samples
from tests.web.conftest import Service
from tests.web.test_service import Stream, health, session

pytestmark = pytest.mark.system

CONNECTIONS = 16
AT_ONCE = 5
REFUSED = 2
"""How often each connection's client is refused before it gives up."""

MOST_TRIES = 2_000
REQUESTS = (
    b"GET / HTTP/1.1\r\nHost: box\r\nCookie: scanside_session=forged\r\n\r\n",
    b"GET /results/1 HTTP/1.1\r\nHost: box\r\n\r\n",
    b"GET /api/v1/results HTTP/1.1\r\nHost: box\r\nAuthorization: Bearer scanside_forged\r\n\r\n",
    b"POST /sign-in HTTP/1.1\r\nHost: box\r\nContent-Length: 0\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: box\r\n\r\n",
)
_ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) (?:[^\r]*\r\n)(.*?)\r\n\r\n", re.DOTALL)


def flood(port: int, answers: list[bytes]) -> None:
    """Connection after connection, many requests in each at once, until it was refused often enough."""
    refused = 0
    for requests in islice(cycle(REQUESTS), MOST_TRIES):
        said = b""
        with closing(socket.create_connection(("127.0.0.1", port))) as connection, suppress(ConnectionError):
            connection.sendall(requests * AT_ONCE)
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                said += piece
        answers.append(said)
        refused += said.count(b"HTTP/1.1 429 ")
        if refused >= REFUSED:
            return


@pytest.fixture
def flooded(service: Service) -> Iterator[tuple[list[Thread], list[bytes]]]:
    """The service while one address floods it: whether it still does, and what it was answered so far."""
    answers: list[bytes] = []
    threads = [Thread(target=flood, args=(service.port, answers)) for _ in range(CONNECTIONS)]
    yield threads, answers
    for thread in threads:
        if thread.is_alive():
            thread.join()


def visit(port: int) -> int:
    """The status that a visitor from another address of this machine gets."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, source_address=("127.0.0.2", 0))) as visitor:
        visitor.request("GET", "/sign-in")
        return visitor.getresponse().status


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_flood_is_refused_and_others_are_answered(
    service: Service, flooded: tuple[list[Thread], list[bytes]]
) -> None:
    threads, answers = flooded
    worker = health(service).pid
    with session(service) as (token, _), closing(Store(service.state_dir)) as store:
        page = Stream(service.port, token)
        page.next("beat")
        assert visit(service.port) == 200
        before = descriptors(worker)
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            assert visit(service.port) == 200
        stored = samples.commit(store, samples.flagged(), pictures=False)
        assert page.next("result").number == stored.seq
        page.close()
    said = b"".join(answers)
    heads = _ANSWER.findall(said)
    assert {status for status, _ in heads} <= {b"200", b"303", b"401", b"403", b"429"}
    refusals = [head for status, head in heads if status == b"429"]
    assert len(refusals) >= CONNECTIONS * REFUSED
    for head in refusals:
        assert re.search(rb"^Retry-After: [1-9]\d*\r?$", head, re.MULTILINE)
        assert b"Set-Cookie" not in head
    for body in re.findall(rb'\{"type":"about:blank".*?\}', said):
        assert msgspec.json.decode(body, type=ProblemDetails).status in (401, 403, 429)
    await_until(lambda: descriptors(worker) <= before, "the flood's connections are closed")
    assert health(service).pid == worker, "the same process has come through it"
    assert service.process.poll() is None
