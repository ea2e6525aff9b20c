"""How long a service's next process waits, by what became of those before it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge import reasons
from edge.device.backoff import RESET_AFTER
from edge.device.health import HealthFile, State, held_back
from tests.running import ROOT


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


def test_those_that_end_before_they_say_anything_are_waited_for_longer_and_longer(tmp_path: Path) -> None:
    assert [held_back(tmp_path, "intake") for _ in range(6)] == [0, 1, 2, 4, 5, 5]
    HealthFile(tmp_path, "intake").report(State.DOWN, reasons.STOPPED)
    assert held_back(tmp_path, "intake") == 0, "one that was asked to stop is no failure"
    assert held_back(tmp_path, "web") == 0, "each service for itself"


@pytest.mark.parametrize(("lived", "wait"), [(1.0, 2), (RESET_AFTER, 1)])
def test_those_that_end_later_count_by_their_accounts(tmp_path: Path, lived: float, wait: float) -> None:
    clock = Clock()
    for _ in range(2):
        held_back(tmp_path, "intake")
        health = HealthFile(tmp_path, "intake", clock)
        clock.now += lived
        health.report(State.UP)
    assert held_back(tmp_path, "intake") == wait


def test_a_disk_that_cannot_be_written_delays_nobody(tmp_path: Path) -> None:
    (tmp_path / "health" / "intake.begun").mkdir(parents=True)
    assert [held_back(tmp_path, "intake") for _ in range(3)] == [0, 0, 0]
    HealthFile(tmp_path, "intake").report(State.UP)


def test_a_real_service_that_fails_before_its_account_waits_before_it_begins_again(tmp_path: Path) -> None:
    """A library that does not load, as on a processor that it was not made for."""
    (tmp_path / "pynetdicom.py").write_text("raise ImportError", encoding="ascii")
    (tmp_path / "scanside.yaml").write_text(f"state_dir: {tmp_path / 'state'}\n", encoding="utf-8")
    command = [sys.executable, "-m", "edge.cli", "run", "intake", "--config", str(tmp_path / "scanside.yaml")]
    environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "nobody"), "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError" in done.stderr
    assert held_back(tmp_path / "state", "intake") == 1
