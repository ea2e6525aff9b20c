"""An address that is shut out of a listening socket: its packets are dropped by the kernel, others' are not."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator

import pytest

from edge.web.barrier import MOST_REFUSED, MOST_SHUT_OUT, SECONDS, Barrier, dropping
from tests.web.conftest import Clock

FAMILIES = [(socket.AF_INET, "127.0.0.1", "127.0.0.2"), (socket.AF_INET6, "::1", "::1")]


@pytest.fixture(params=FAMILIES, ids=["IPv4", "IPv6"])
def listening(request: pytest.FixtureRequest) -> Iterator[tuple[socket.socket, str]]:
    """A listener, and the address of a client of it."""
    family, address, client = request.param
    with socket.create_server((address, 0), family=family) as listener:
        yield listener, client


def connecting(listener: socket.socket, client: str) -> socket.socket:
    """A connection that may still be on its way."""
    connection = socket.socket(listener.family)
    connection.bind((client, 0))
    connection.setblocking(False)
    connection.connect_ex(listener.getsockname())
    return connection


def is_open(connection: socket.socket, patience: float = 0) -> bool:
    return bool(select.select([], [connection], [], patience)[1])


def test_an_address_that_was_refused_too_often_is_shut_out_for_a_moment(listening: tuple[socket.socket, str]) -> None:
    listener, client = listening
    clock = Clock()
    barrier = Barrier(listener, clock)
    for _ in range(MOST_REFUSED):
        barrier.refused(client)
    with connecting(listener, client) as before:
        assert is_open(before, 10)
        barrier.refused(client)
        with connecting(listener, client) as shut_out:
            if listener.family == socket.AF_INET:
                with connecting(listener, "127.0.0.3") as other:
                    assert is_open(other, 10)
            before.send(b"still here")
            taken, _ = listener.accept()
            with taken:
                assert taken.recv(10) == b"still here"
            assert not is_open(shut_out)
            clock.now += SECONDS
            barrier.look()
            assert is_open(shut_out, 30)  # its system has tried again


def test_refusals_now_and_then_shut_nobody_out(listening: tuple[socket.socket, str]) -> None:
    listener, client = listening
    clock = Clock()
    barrier = Barrier(listener, clock)
    for _ in range(3 * MOST_REFUSED):
        barrier.refused(client)
        clock.now += SECONDS / MOST_REFUSED * 1.1
    with connecting(listener, client) as connection:
        assert is_open(connection, 10)


def test_as_many_as_may_be_shut_out_make_a_program_that_the_kernel_takes() -> None:
    clock = Clock()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        barrier = Barrier(listener, clock)
        for number in range(2 * MOST_SHUT_OUT):
            for _ in range(MOST_REFUSED + 1):
                barrier.refused(f"2001:db8:0:{number:x}::1" if number % 2 else f"192.0.2.{number}")
        with connecting(listener, "127.0.0.1") as connection:
            assert is_open(connection, 10)
    assert len(dropping([])) == 8
