"""The simulated boxes: real messages, the same for the same seed; the command; the demo."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.fleet.reading import Said, read
from edge.fleet.traffic import SimulatedBox
from edge.messages.catalogue import MESSAGES
from edge.messages.types import Health
from edge.records import Status, Summary
from edge.sync.retry import Protocol
from tests.conftest import ROOT
from tests.fleet.boxes import NOW
from tests.messages.schemas import check
from tests.running import scanside


def _day(number: int, seed: int, *, failing: bool = False) -> list[tuple[str, bytes]]:
    box = SimulatedBox(number, seed, failing=failing)
    said = []
    for hour in range(24):
        box.new_session()
        now = NOW + 3600 * hour
        said += [*box.birth(now, Protocol.MQTT_5), *box.study(now), box.health(now, 0, None), box.state("lost", now)]
        said += [box.audit_head(now), box.errors(now)]
    return [*said, box.day_before(NOW)]


@pytest.mark.parametrize("failing", [False, True])
def test_simulated_boxes_say_what_the_contract_knows(failing: bool) -> None:
    for number in range(20):
        for topic, payload in _day(number, 1, failing=failing):
            said = read(topic, payload)
            assert isinstance(said, Said), (topic, payload)
            (name,) = [name for name, kind in MESSAGES.items() if kind is type(said.message)]
            check(name, payload)


def test_the_same_seed_is_the_same_fleet() -> None:
    assert _day(3, 1) == _day(3, 1)
    assert {payload for _, payload in _day(3, 1)}.isdisjoint(payload for _, payload in _day(3, 2) if b"_id" in payload)
    assert _day(3, 1)[0][0] != _day(4, 1)[0][0]


def test_a_fleet_has_every_answer_and_some_wrong_clocks() -> None:
    boxes = [SimulatedBox(number, 1, failing=False) for number in range(1000)]
    images = [read(*said) for box in boxes for said in box.study(NOW)]
    found = {one.message.status for one in images if isinstance(one, Said) and isinstance(one.message, Summary)}
    assert found == set(Status)
    assert 5 < sum(box.clock_off != 0 for box in boxes) < 50


def test_a_failing_box_fills_and_its_images_wait() -> None:
    box = SimulatedBox(0, 1, failing=True)
    box.new_session()
    said = [read(*box.health(NOW + 60 * minute, 0, None)) for minute in range(600)]
    healths = [one.message for one in said if isinstance(one, Said) and isinstance(one.message, Health)]
    assert [message.seq for message in healths] == list(range(600))
    assert healths[-1].disk.used > 0.95
    assert healths[-1].queue and healths[0].queue
    assert healths[-1].queue.depth > healths[0].queue.depth


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fleet", "collect"], "needs --config FILE"),
        (["fleet", "collect", "--config", "/nowhere.yaml"], "cannot be read"),
        (["fleet", "simulate", "--to", "nowhere"], "must be HOST:PORT"),
        (["fleet", "simulate", "--ca", "ca.pem", "--key", "a.key"], "belong together"),
        (["fleet", "simulate", "--boxes", "0"], "must be more than 0"),
        (["fleet", "simulate", "--boxes", "100000000"], "open files are needed"),
    ],
)
def test_wrong_use_is_one_line_and_status_2(arguments: list[str], words: str) -> None:
    done = subprocess.run(scanside(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_demo_shows_twenty_boxes_of_which_one_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge.demo.fleet", "--once", "--folder", str(tmp_path / "demo")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "20 boxes are heard, one of them fails" in done.stdout
    assert "enter the code" in done.stdout
    tally = json.loads((tmp_path / "demo" / "simulate.log").read_text(encoding="utf-8").splitlines()[-1])
    assert tally["most_connected"] == 20
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            assert str(tmp_path).encode() not in process.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue
