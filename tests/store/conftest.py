"""A store of its own for each test, on a machine that does what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.store import Machine, Room, Store


class Clock:
    """Seconds since the epoch that pass when told to."""

    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Box:
    """A machine whose clocks and disk are played: time passes by `live`, the wall clock alone by its own `now`."""

    def __init__(self, wall: Clock) -> None:
        self.wall = wall
        self.up = 100.0
        self.boot = 1
        self.synchronised = True
        self.free = self.total = 1 << 40
        self.machine = Machine(
            uptime=lambda: self.up,
            boot_id=lambda: f"boot {self.boot}",
            synchronised=lambda: self.synchronised,
            room=lambda _folder: Room(self.free, self.total),
        )

    def live(self, seconds: float) -> None:
        """Time passes, and all clocks see it."""
        self.up += seconds
        self.wall.now += seconds

    def off(self, seconds: float, wall: float | None = None) -> None:
        """Off for some seconds, and then a new boot; the wall clock may come up with something else than the time."""
        self.wall.now = self.wall.now + seconds if wall is None else wall
        self.up = 10.0
        self.wall.now += self.up
        self.boot += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def box(clock: Clock) -> Box:
    return Box(clock)


@pytest.fixture
def store(tmp_path: Path, clock: Clock, box: Box) -> Iterator[Store]:
    opened = Store(tmp_path / "state", clock, machine=box.machine)
    yield opened
    opened.close()
