"""A box whose wall clock jumps, or that nothing keeps right: what it says over a real Mosquitto with mutual TLS.

The clocks are the process's own, moved below it (`tests/system/faults/shim.c`). What was put days ago was put by an
outbox whose machine had been on for so much less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest

from edge.messages.aggregate import Aggregate
from edge.messages.summary import hour
from edge.store import Machine, Outbox
from edge.store.machine import uptime
from edge.store.outbox import BOUNDS, LIFE, Class
from tests.messages.schemas import check
from tests.sync.conftest import PREFIX, Mosquitto, SyncProcess, Watcher, summary_body
from tests.sync.forwarder import Forwarder
from tests.system.faults.shim import Shim

pytestmark = pytest.mark.system

HOUR, DAY = 3600.0, 86400.0
OLD = BOUNDS[Class.TELEMETRY].life or 0.0


@pytest.fixture
def shim(program: Callable[[str], str], tmp_path: Path) -> Shim:
    return Shim(tmp_path, program("cc"), tmp_path / "nothing")


def _put(sync: SyncProcess, age: float, message_id: str, kind: str, body: bytes) -> None:
    """Put it so many seconds ago, as the box has lived."""
    with closing(Outbox(sync.state_dir, machine=Machine(uptime=lambda: uptime() - age))) as then:
        then.put([(message_id, kind, body)])


def _aggregate(message_id: str) -> bytes:
    return msgspec.json.encode(Aggregate(message_id=message_id, day="2026-11-26", clock="right", histograms=()))


def _health_since(watcher: Watcher, ahead: float) -> dict[str, Any]:
    """The first health from now on of a box whose clock is so many seconds ahead of ours, to an hour."""
    watcher.settle()
    start = len(watcher.seen)

    def found(seen: list[paho.MQTTMessage]) -> dict[str, Any] | None:
        for message in seen[start:]:
            if message.topic == f"{PREFIX}-/m/health/-":
                health = check("health", message.payload)
                off = datetime.fromisoformat(health["ts"]) - datetime.now(UTC)
                if abs(off - timedelta(seconds=ahead)) < timedelta(hours=1):
                    return health
        return None

    health: dict[str, Any] = watcher.until(found, f"a health {ahead} s ahead")
    return health


@pytest.mark.parametrize("jump", [20 * HOUR, -20 * HOUR], ids=["ahead", "behind"])
def test_ages_are_what_the_box_has_lived_whatever_its_clock_is_set_to(
    broker: Mosquitto, make_sync: Callable[..., SyncProcess], shim: Shim, jump: float
) -> None:
    """OUTBOX-AGE-01 OUTBOX-DROP-01: jumps within which the certificates are valid."""
    begin = time.monotonic()
    sync = make_sync(**broker.section())
    finding, too_old, young = "1" * 32, "2" * 32, "3" * 32
    _put(sync, 10 * DAY, finding, "summary", summary_body(finding))
    _put(sync, OLD + 2 * HOUR, too_old, "aggregate", _aggregate(too_old))
    _put(sync, OLD - 2 * HOUR, young, "aggregate", _aggregate(young))
    no_findings = Watcher(broker.port, tls=broker.context(), topics=[f"{PREFIX}+/m/#"])
    everything = None
    try:
        shim.clock_offset = int(jump)
        sync.start(environment=shim.environment)
        no_findings.first(f"inference/m/aggregate/{young}")
        for offset in (jump, -jump):
            shim.clock_offset = int(offset)
            health = _health_since(no_findings, offset)
            oldest = health["outbox"]["oldest_seconds"]
            assert 10 * DAY - 1 <= oldest <= 10 * DAY + time.monotonic() - begin
            assert (health["outbox"]["depth"], health["dropped"]) == (1, 1)
        everything = Watcher(broker.port, "everything", tls=broker.context())
        assert everything.findings(1) == [finding]
        (message,) = [message for message in everything.seen if "/find/" in message.topic]
        left: Any = message.properties
        elapsed = time.monotonic() - begin
        assert LIFE - 10 * DAY - elapsed - 1 <= left.MessageExpiryInterval <= LIFE - 10 * DAY + 1
        no_findings.settle()
        assert not [message for message in no_findings.seen if too_old in message.topic]
    finally:
        no_findings.stop()
        if everything:
            everything.stop()


def test_an_hour_of_a_clock_that_nothing_kept_is_marked_set_right_if_possible_and_never_changed_once_sent(
    *,
    broker: Mosquitto,
    watcher: Watcher,
    way: Forwarder,
    make_sync: Callable[..., SyncProcess],
    shim: Shim,
    tmp_path: Path,
) -> None:
    """OUTBOX-CLOCK-01: of the boot before, of this one and sent too early, of this one."""
    before, sent, late = "1" * 32, "2" * 32, "3" * 32
    (tmp_path / "state").mkdir()
    with closing(Outbox(tmp_path / "state", machine=Machine(boot_id=lambda: "the boot before"))) as outbox:
        outbox.put([(before, "summary", _of_1970(before))])
    sync = make_sync(**broker.section() | {"port": way.port})
    shim.keep_clock(right=True)
    sync.start(environment=shim.environment)
    watcher.first(f"inference/find/image/{before}", hour="1970-01-01T00", clock="uncertain")
    shim.keep_clock(right=False)
    way.withhold()
    sync.outbox.put([(sent, "summary", _of_1970(sent))])
    said = watcher.first(f"inference/find/image/{sent}", hour="1970-01-01T00", clock="uncertain")
    shim.keep_clock(right=True)
    hours = {hour(time.time())}
    sync.outbox.put([(late, "summary", _of_1970(late))])
    hours.add(hour(time.time()))
    corrected = check("summary", watcher.first(f"inference/find/image/{late}", clock="right").payload)
    assert corrected["hour"] in hours
    way.cut()
    sync.await_empty_outbox()
    watcher.settle()
    assert [message.payload for message in watcher.seen if message.topic == said.topic] == [said.payload] * 2


def _of_1970(message_id: str) -> bytes:
    """A summary whose hour came from a clock that began anew."""
    body = msgspec.json.decode(summary_body(message_id))
    return msgspec.json.encode(body | {"hour": "1970-01-01T00", "clock": "uncertain"})
