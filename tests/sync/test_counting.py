"""Counts of a day, from results on the disk to a manager over a real Mosquitto with mutual TLS, whoever is killed."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random

import paho.mqtt.client as paho
import pytest

from edge.messages.aggregate import STEP
from edge.store import Store
from tests.messages.schemas import check
from tests.running import RunningProgram
from tests.store.samples import SUBJECT, arrival, claimed, flagged
from tests.sync.conftest import PREFIX, SyncProcess, Watcher
from tests.system.faults.shim import Shim

pytestmark = pytest.mark.system

DAY = 86400
KILLS = 6
AGGREGATE = f"{PREFIX}inference/m/aggregate/"
COUNTS = """
import sys, time
from pathlib import Path
from edge.inference.counting import Counting
from edge.store import Outbox, Store
counting = Counting(Store(Path(sys.argv[1])), Outbox(Path(sys.argv[1])))
print(" COUNTS ", file=sys.stderr, flush=True)
while True:
    if not counting.turn():
        time.sleep(0.01)
"""


def _said(seen: list[paho.MQTTMessage]) -> int:
    """How many answers the manager has been told of, each message once."""
    messages = {message.topic: message.payload for message in seen if message.topic.startswith(AGGREGATE)}
    histograms = [one for payload in messages.values() for one in check("aggregate", payload)["histograms"]]
    return sum(each["images"] for one in histograms if one["statistic"] == "answers" for each in one["bins"])


def _await_all_but_a_few(watcher: Watcher, answered: int) -> None:
    watcher.until(lambda seen: _said(seen) > answered - STEP, f"all of {answered} answers, but for fewer than five")


def test_each_answer_is_counted_once_in_fives_whatever_is_killed(
    watcher: Watcher, sync: SyncProcess, program: Callable[[str], str], tmp_path: Path
) -> None:
    """MSG-AGGREGATE-02: the counting and the link are ended by SIGKILL on each of some days, at any instant."""
    shim = Shim(tmp_path, program("cc"), tmp_path / "nothing")  # moves the counting process's clock, not the link's
    command = [sys.executable, "-c", COUNTS, str(sync.state_dir)]
    chance, answered = Random(3), 0
    with closing(Store(sync.state_dir)) as store:
        for day in range(KILLS):
            shim.clock_offset = day * DAY
            with RunningProgram(command, shim.environment) as counting:
                counting.wait_for("COUNTS")
                sync.start()
                count = chance.randrange(12)
                for _ in range(count):
                    store.accept(b"%d" % answered, arrival(f"1.{answered}"))
                    store.commit(claimed(store), flagged(), SUBJECT)
                    answered += 1
                if chance.random() < 0.5:
                    shim.clock_offset += DAY
                    _await_all_but_a_few(watcher, answered)
                counting.stop(signal.SIGKILL)
            sync.kill()
        shim.clock_offset = (KILLS + 1) * DAY
        with RunningProgram(command, shim.environment):
            sync.start()
            _await_all_but_a_few(watcher, answered)
            sync.await_empty_outbox()
            watcher.settle()
    assert answered - STEP < _said(watcher.seen) <= answered
    assert _said(watcher.seen) % STEP == 0
    messages = {
        (message.topic, bytes(message.payload)) for message in watcher.seen if message.topic.startswith(AGGREGATE)
    }
    assert len(messages) == len({topic for topic, _ in messages}), "the same under its id at each repetition"
