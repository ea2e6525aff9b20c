"""A row leaves the outbox on its own PUBACK with success, on that connection, and on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from edge.sync.link import WINDOW
from tests.sync.conftest import PREFIX, SyncProcess
from tests.sync.scripted import PUBLISH, Packet, ScriptedBroker
from tests.system.conftest import await_until

pytestmark = pytest.mark.system

PLAIN = bytes([0, 0, 0])
RECEIVE_MAXIMUM_7 = bytes([0, 0, 3, 0x21, 0, 7])
NOT_AUTHORISED = 0x87
NO_MATCHING_SUBSCRIBERS = 0x10


@pytest.fixture
def scripted() -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker()
    yield broker
    broker.close()


def _findings(packets: list[Packet]) -> list[Packet]:
    return [packet for packet in packets if packet.kind == PUBLISH and "/find/" in packet.topic]


def _next_findings(scripted: ScriptedBroker, count: int) -> list[Packet]:
    """The next so many summaries; what is said between them is left."""
    found: list[Packet] = []
    while len(found) < count:
        found += _findings(scripted.read_publishes(1))
    return found


def _ids(packets: list[Packet]) -> list[str]:
    return [packet.topic.removeprefix(f"{PREFIX}inference/find/image/") for packet in _findings(packets)]


def _waiting(sync: SyncProcess) -> list[str]:
    return [message.message_id for message in sync.outbox.waiting(limit=1000)]


@pytest.mark.parametrize(
    ("connack", "window"),
    [pytest.param(PLAIN, WINDOW, id="ours"), pytest.param(RECEIVE_MAXIMUM_7, 7, id="the broker's Receive Maximum")],
)
def test_without_acknowledgement_the_window_fills_and_no_row_goes(
    scripted: ScriptedBroker, make_sync: Callable[..., SyncProcess], connack: bytes, window: int
) -> None:
    """OUTBOX-WINDOW-01 OUTBOX-ORDER-01"""
    sync = make_sync(port=scripted.port, keepalive_seconds=5, health_interval_seconds=3600)
    ids = sync.put(50)
    sync.start()
    scripted.accept(connack)
    packets = scripted.read_publishes(window) + scripted.read_until_ping()
    assert len(packets) == window
    assert {packet.kind for packet in packets} == {PUBLISH}
    assert _ids(packets) == ids[: len(_ids(packets))]
    assert _waiting(sync) == ids
    scripted.hang_up()
    scripted.accept(PLAIN)
    again = scripted.read_publishes(window)
    assert _ids(again)[0] == ids[0], "what was in flight is not first on the new connection"
    assert _waiting(sync) == ids
    scripted.hang_up()


def test_each_row_goes_by_its_own_acknowledgement(
    scripted: ScriptedBroker, make_sync: Callable[..., SyncProcess]
) -> None:
    """OUTBOX-ACK-01"""
    sync = make_sync(port=scripted.port, keepalive_seconds=5, health_interval_seconds=3600)
    ids = sync.put(4)
    sync.start()
    scripted.accept(PLAIN)
    first, second, third, fourth = _next_findings(scripted, 4)
    scripted.acknowledge(third, 0)
    await_until(lambda: _waiting(sync) == [ids[0], ids[1], ids[3]], "the third row gone")
    scripted.acknowledge(first, NO_MATCHING_SUBSCRIBERS)
    scripted.acknowledge(second, NOT_AUTHORISED)
    scripted.acknowledge(fourth, 0)
    await_until(lambda: _waiting(sync) == ids[:2], "the fourth row gone; kept what was refused or given to nobody")
    again = _next_findings(scripted, 2)
    assert _ids(again) == ids[:2]
    for packet in again:
        scripted.acknowledge(packet, 0)
    sync.await_empty_outbox()
    scripted.hang_up()


def test_an_acknowledgement_from_before_counts_for_nothing(
    scripted: ScriptedBroker, make_sync: Callable[..., SyncProcess]
) -> None:
    """OUTBOX-ACK-02: packet identifiers begin anew with each connection: an old one must not strike out another row."""
    sync = make_sync(port=scripted.port, keepalive_seconds=5, health_interval_seconds=3600)
    ids = sync.put(30)
    sync.start()
    scripted.accept(PLAIN)
    old = _next_findings(scripted, 1)
    scripted.acknowledge(old[0], 0)
    await_until(lambda: _waiting(sync) == ids[1:], "the first row gone")
    scripted.hang_up()
    scripted.accept(PLAIN)
    new = _next_findings(scripted, 1)
    assert _ids(new)[0] == ids[1]
    assert new[0].identifier == old[0].identifier
    scripted.acknowledge(new[0], 0)
    await_until(lambda: ids[1] not in _waiting(sync), "the second row gone")
    unsettled = [ids[0]]  # acknowledged just before the connection broke: it is sent again, behind the others
    assert _waiting(sync) == ids[2:] + unsettled
    scripted.hang_up()
