"""A row leaves the outbox on its own PUBACK with success, on that connection, and on nothing else.

A real Mosquitto with mutual TLS, whose answers a `Forwarder` withholds.
"""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from edge.device.health import read_health
from edge.sync.link import WINDOW
from tests.sync.conftest import PREFIX, Mosquitto, SyncProcess, Watcher, summary_body
from tests.sync.forwarder import Forwarder
from tests.system.conftest import await_until

pytestmark = pytest.mark.system

FINDING = f"{PREFIX}inference/find/image/"
ABOUT_THE_BOX = (f"{PREFIX}+/status/#", f"{PREFIX}+/m/#")
MAY_SAY_HOW_IT_IS = [f"topic write {topic}" for topic in ABOUT_THE_BOX]


@pytest.fixture
def broker(mosquitto: Mosquitto) -> Mosquitto:
    """It knows clients by their certificates and lets the box say everything, and is running."""
    mosquitto.configure("use_identity_as_username true", mosquitto.rights(f"topic write {PREFIX}#"))
    mosquitto.start()
    return mosquitto


@pytest.fixture
def watch(broker: Mosquitto) -> Iterator[Callable[..., Watcher]]:
    """Makes a client that sees what comes on the topics that are given; all without any."""
    made: list[Watcher] = []

    def make(*topics: str) -> Watcher:
        name = f"watcher-{len(made)}"
        made.append(Watcher(broker.port, name, tls=broker.context("watcher"), topics=topics or ("scanside/#",)))
        return made[-1]

    yield make
    for watcher in made:
        watcher.stop()


@pytest.fixture
def sync(way: Forwarder, broker: Mosquitto, make_sync: Callable[..., SyncProcess]) -> SyncProcess:
    """One that has nothing else to say once it has said how it is; not started yet."""
    section = broker.section("box") | {"port": way.port}
    return make_sync(**section, health_interval_seconds=86400, keepalive_seconds=3600)


def _begin(sync: SyncProcess) -> list[str]:
    """Start it, and wait until all that it has said is acknowledged: its birth, and a finding."""
    ids = sync.put(1)
    sync.start()
    sync.await_empty_outbox()
    return ids


def _await_a_look_at(sync: SyncProcess, depth: int) -> None:
    """Wait until it has come round with so many messages in its outbox."""

    def seen() -> bool:
        account = read_health(sync.state_dir, time.time()).get("sync")
        return account is not None and account.details.get("outbox_depth") == depth

    await_until(seen, f"sync seeing {depth} messages")


def _packets(log: str) -> list[tuple[str, int]]:
    """The findings that the broker was sent, taken or not, and the packet identifier of each."""
    pattern = rf"(?:Received|Denied) PUBLISH from scanside\S+ \(d0, q1, r0, m(\d+), '{FINDING}([0-9a-f]+)'"
    return [(message_id, int(packet)) for packet, message_id in re.findall(pattern, log)]


@pytest.mark.parametrize(
    ("setting", "window"),
    [
        pytest.param([], WINDOW, id="ours"),
        pytest.param(["max_inflight_messages 7"], 7, id="the broker's Receive Maximum"),
    ],
)
def test_without_acknowledgement_the_window_fills_and_no_row_goes(
    mosquitto: Mosquitto, make_sync: Callable[..., SyncProcess], setting: list[str], window: int
) -> None:
    """OUTBOX-WINDOW-01 OUTBOX-ORDER-01"""
    mosquitto.configure("allow_anonymous true", *setting)
    mosquitto.start()
    way = Forwarder(mosquitto.port)
    watcher = Watcher(mosquitto.port, tls=mosquitto.context())
    section = mosquitto.section() | {"port": way.port}
    sync = make_sync(**section, health_interval_seconds=86400, keepalive_seconds=3600)
    try:
        before = _begin(sync)
        way.withhold()
        ids = sync.put(50)
        watcher.findings(1 + window)
        _await_a_look_at(sync, 50)
        watcher.settle()
        assert watcher.findings(0) == before + ids[:window], "as many as may be in flight, and no more"
        assert sync.waiting() == ids
        way.cut()
        sync.await_empty_outbox()
        watcher.settle()
        # The oldest is first again. What was acknowledged shortly before the connection broke comes once more, last.
        assert watcher.findings(51) == before + ids[:window] + ids + before
    finally:
        watcher.stop()
        way.close()


def test_each_row_goes_by_its_own_acknowledgement(
    broker: Mosquitto, way: Forwarder, watch: Callable[..., Watcher], sync: SyncProcess
) -> None:
    """OUTBOX-ACK-01: not by being sent, nor heard by the broker, refused (0x87), or given to nobody (0x10)."""
    ids = [taken, refused, unread, taken_too] = [uuid.uuid4().hex for _ in range(4)]
    broker.rights(*MAY_SAY_HOW_IT_IS, *(f"topic write {FINDING}{one}" for one in (taken, unread, taken_too)))
    broker.reload()
    watcher = watch(*ABOUT_THE_BOX, *(FINDING + one for one in (taken, refused, taken_too)))
    sync.start()
    watcher.first("-/m/health/-")
    way.withhold()
    sync.outbox.put((one, "summary", summary_body(one)) for one in ids)
    assert watcher.findings(2) == [taken, taken_too], "the broker has answered all four"
    _await_a_look_at(sync, 4)
    assert sync.waiting() == ids
    way.release()
    await_until(lambda: sync.waiting() == [refused, unread], "gone what was taken, kept what was not")
    everything = watch()
    broker.rights(f"topic write {PREFIX}#")
    broker.reload()
    assert set(everything.findings(2)) == {refused, unread}
    sync.await_empty_outbox()
    watcher.settle()
    assert Counter(watcher.findings(0)) == {taken: 1, taken_too: 1, refused: 1}


def test_an_acknowledgement_from_before_counts_for_nothing(
    broker: Mosquitto, way: Forwarder, watch: Callable[..., Watcher], sync: SyncProcess
) -> None:
    """OUTBOX-ACK-02: packet identifiers begin anew with each connection: an old one must not strike out another row.

    The broker acknowledges twenty rows, which does not arrive. On the next connection it takes two of them.
    """
    watcher = watch()
    before = _begin(sync)
    way.withhold()
    ids = sync.put(WINDOW)
    watcher.findings(1 + WINDOW)
    _await_a_look_at(sync, WINDOW)
    assert sync.waiting() == ids
    may = [ids[10], ids[13]]
    broker.rights(*MAY_SAY_HOW_IT_IS, *(f"topic write {FINDING}{one}" for one in may))
    broker.reload()
    way.cut()
    left = [one for one in ids if one not in may]
    # What was acknowledged just before the connection broke is put again, behind the others.
    await_until(lambda: sync.waiting() == left + before, "the two gone that were taken on this connection")
    packets = _packets(broker.log())
    first, second = dict(packets[: 1 + WINDOW]), dict(packets[1 + WINDOW :])
    assert {first[one] for one in left} >= {second[one] for one in may}, "the same identifiers, of other rows"
    broker.rights(f"topic write {PREFIX}#")
    broker.reload()
    sync.await_empty_outbox()
    watcher.settle()
    assert Counter(watcher.findings(0)) == dict.fromkeys(before + ids, 2)
