"""What systemd hears of a service: through a real socket, as `sd_notify` speaks to it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge import reasons
from edge.device.backoff import LONGEST_DELAY, RESET_AFTER
from edge.device.health import RENEW_EVERY, TOLD_FROM, HealthFile, State, held_back, read_health, with_its_ends
from edge.device.notify import Notifier


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["in the file system", "not in the file system"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket of both kinds that systemd uses (unix(7))."""
    address = str(tmp_path / "notify") if request.param == "in the file system" else f"@scanside-test-{os.getpid()}"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as listener:
        listener.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        listener.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        yield listener


def _heard(systemd: socket.socket) -> list[list[str]]:
    heard = []
    while True:
        try:
            heard.append(systemd.recv(4096).decode().splitlines())
        except BlockingIOError:
            return heard


def test_ready_is_said_once_and_progress_with_each_report(tmp_path: Path, systemd: socket.socket, clock: Clock) -> None:
    health = HealthFile(tmp_path, "intake", clock)
    health.report(State.UP)
    health.report(State.UP)  # a moment later: nothing to tell
    clock.now += RENEW_EVERY
    health.report(State.DEGRADED, reasons.DISK_FULL)
    health.report(State.DOWN, reasons.STOPPED)
    assert _heard(systemd) == [
        ["WATCHDOG=1", "STATUS=starting"],
        ["WATCHDOG=1", "STATUS=up", "READY=1"],
        ["WATCHDOG=1", f"STATUS=degraded: {reasons.DISK_FULL}"],
        ["WATCHDOG=1", "STATUS=down: stopped"],
    ]


def test_on_a_full_disk_it_is_told_all_the_same(tmp_path: Path, systemd: socket.socket, clock: Clock) -> None:
    health = HealthFile(tmp_path, "intake", clock)
    (tmp_path / "health/intake.new").mkdir()  # nothing can be written there
    health.report(State.UP)
    assert _heard(systemd)[-1] == ["WATCHDOG=1", "STATUS=up", "READY=1"]


@pytest.mark.parametrize("environment", [{}, {"NOTIFY_SOCKET": "/nowhere/at/all"}])
def test_nobody_who_listens_is_no_trouble(environment: dict[str, str]) -> None:
    Notifier(environment).progress("up", ready=True)


def test_ends_in_a_row_are_counted_waited_for_and_told(tmp_path: Path, clock: Clock) -> None:
    delays, told = [], []
    for _ in range(6):
        HealthFile(tmp_path, "web", clock).report(State.UP)
        told.append(with_its_ends(read_health(tmp_path, clock.now)["web"], clock.now).reason)
        delays.append(held_back(tmp_path, "web"))
    assert delays == [1.0, 2.0, 4.0, LONGEST_DELAY, LONGEST_DELAY, LONGEST_DELAY]
    said = [reasons.SERVICE_RUNS_AGAIN.format(service="web", count=count) for count in range(TOLD_FROM, 6)]
    assert told == [*[""] * TOLD_FROM, *said]


def test_who_has_lived_long_is_no_longer_told_of_and_begins_anew(tmp_path: Path, clock: Clock) -> None:
    for _ in range(5):
        health = HealthFile(tmp_path, "web", clock)
    clock.now += RESET_AFTER
    health.report(State.UP)
    account = with_its_ends(read_health(tmp_path, clock.now)["web"], clock.now)
    assert (account.state, account.reason, held_back(tmp_path, "web")) == (State.UP, "", 1.0)


def test_an_end_that_was_asked_for_does_not_count(tmp_path: Path, clock: Clock) -> None:
    HealthFile(tmp_path, "web", clock).report(State.UP)
    HealthFile(tmp_path, "web", clock).report(State.DOWN, reasons.STOPPED)
    assert held_back(tmp_path, "web") == held_back(tmp_path, "never-started") == 0.0
