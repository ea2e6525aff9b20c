"""The last errors of a service outlive it, are counted, and never stop it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import events
from edge.device.troubles import MOST_KEPT, TroubleLog, read_troubles
from edge.events import emit


class Clock:
    now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(tmp_path: Path, clock: Clock) -> Iterator[TroubleLog]:
    handler = TroubleLog(tmp_path, "intake", clock)
    logging.getLogger("scanside").addHandler(handler)
    yield handler
    logging.getLogger("scanside").removeHandler(handler)


def test_errors_are_kept_with_their_number_and_counted(tmp_path: Path, log: TroubleLog, clock: Clock) -> None:
    emit(events.STORED_AGAIN, instance="x")
    emit(events.SIGN_IN_FAILED, error="wrong")
    assert read_troubles(tmp_path) == []
    for error in ("first", "second", "third"):
        clock.now += 1
        emit(events.WATCH_FAILED, error=error, delay=1)
    (trouble,) = read_troubles(tmp_path)
    assert (trouble.service, trouble.number, trouble.count) == ("intake", events.WATCH_FAILED.number, 3)
    assert "third" in trouble.text
    assert (trouble.first_at, trouble.last_at) == (clock.now - 2, clock.now)
    again = TroubleLog(tmp_path, "intake", clock)
    again.emit(logging.LogRecord("scanside", logging.ERROR, "", 0, "SC%03d %s", (trouble.number, "fourth"), None))
    assert read_troubles(tmp_path)[0].count == 4


def test_a_loop_of_errors_writes_once_a_second(tmp_path: Path, log: TroubleLog, clock: Clock) -> None:
    for _ in range(1000):
        emit(events.WATCH_FAILED, error="again", delay=1)
    assert read_troubles(tmp_path)[0].count == 1
    clock.now += 1
    emit(events.WATCH_FAILED, error="again", delay=1)
    assert read_troubles(tmp_path)[0].count == 1001


def test_the_newest_numbers_stay(tmp_path: Path, log: TroubleLog, clock: Clock) -> None:
    for number in range(MOST_KEPT + 5):
        clock.now += 1
        log.emit(logging.LogRecord("scanside", logging.ERROR, "", 0, "SC%03d %s", (number, "x" * 5000), None))
    troubles = read_troubles(tmp_path)
    assert [trouble.number for trouble in troubles] == list(range(MOST_KEPT + 4, 4, -1))
    assert max(len(trouble.text) for trouble in troubles) <= 400


def test_neither_a_missing_disk_nor_a_damaged_file_stops_anybody(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "troubles").write_text("not a folder")
    record = logging.LogRecord("scanside", logging.ERROR, "", 0, "SC%03d %s", (300, "x"), None)
    TroubleLog(tmp_path, "intake", clock).emit(record)
    (tmp_path / "troubles").unlink()
    (tmp_path / "troubles").mkdir()
    (tmp_path / "troubles" / "intake.json").write_bytes(b"\0\0\0")
    assert read_troubles(tmp_path) == []
    TroubleLog(tmp_path, "intake", clock).emit(record)
    assert read_troubles(tmp_path)[0].number == 300
