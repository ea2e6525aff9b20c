"""How many connections there may be, what they may hold and how long they may take: with a clock of our own."""

from __future__ import annotations

import socket
from threading import Thread

import pytest

from edge.config import Dicom
from edge.intake.connections import Connection, Connections, Stage, overdue

CONFIG = Dicom(association_timeout_seconds=10, idle_timeout_seconds=60, min_bytes_per_second=1000)

OVERDUE = {
    "asking, in time": (Stage.REQUESTING, 10.0, 0, ""),
    "asking, too late": (Stage.REQUESTING, 10.1, 0, "no association within 10 s"),
    "asking a byte at a time": (Stage.REQUESTING, 10.1, 100_000, "no association within 10 s"),
    "resting": (Stage.RECEIVING, 60.0, 0, ""),
    "resting too long": (Stage.RECEIVING, 60.1, 0, "nothing came for 60 s"),
    "slow but steady": (Stage.RECEIVING, 600.0, 600_000, ""),
    "slower than that": (Stage.RECEIVING, 600.0, 500_000, "500000 bytes came in 600 s"),
    "fast, then silent": (Stage.RECEIVING, 160.1, 100_000, "100000 bytes came in 160 s"),
    "waiting for our disk": (Stage.STORING, 10_000.0, 0, ""),
    "hung up on": (Stage.CLOSING, 10_000.0, 0, ""),
}


@pytest.mark.parametrize("case", OVERDUE)
def test_who_takes_too_long_is_cut(case: str) -> None:
    stage, seconds, received, expected = OVERDUE[case]
    connection = _connection(received=received, stage=stage)
    reason = overdue(connection, CONFIG, 1000.0 + seconds)
    assert expected in reason
    assert bool(reason) is bool(expected)


def test_connections_are_limited_in_all_and_by_host() -> None:
    connections = Connections(Dicom(max_associations=4, max_associations_per_host=2), lambda: 0.0)
    assert [bool(_opened(connections, "192.0.2.1")) for _ in range(5)] == [True] * 4 + [False]
    assert [bool(_opened(connections, "192.0.2.2")) for _ in range(5)] == [True] * 4 + [False]
    assert not _opened(connections, "192.0.2.3"), "twice as many as associations are open"


def test_an_ended_thread_gives_its_place_back() -> None:
    connections = Connections(Dicom(max_associations=1, max_associations_per_host=1), lambda: 0.0)
    first, _ = _opened(connections, "192.0.2.1"), _opened(connections, "192.0.2.1")
    assert first
    assert not _opened(connections, "192.0.2.1")
    first.thread = Thread(target=lambda: None)
    first.thread.start()
    first.thread.join()
    assert _opened(connections, "192.0.2.1")
    assert first.stage is Stage.CLOSING


def test_refused_connections_are_told_at_each_doubling(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "scanside")
    connections = Connections(Dicom(max_associations=1, max_associations_per_host=1), lambda: 0.0)
    for _ in range(2 + 1000):
        _opened(connections, "192.0.2.1")
    assert [record.getMessage().split("; ")[1].split()[0] for record in caplog.records] == [
        str(1 << power) for power in range(10)
    ]


def _connection(*, received: int = 0, stage: Stage = Stage.REQUESTING) -> Connection:
    return Connection(socket.socket(), "192.0.2.1", opened=1000.0, since=1000.0, received=received, stage=stage)


def _opened(connections: Connections, host: str) -> Connection | None:
    return connections.opened(socket.socket(), host)
