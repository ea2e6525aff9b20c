"""As much waits as may, and what that costs: over a real Mosquitto with mutual TLS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import cast

import msgspec
import paho.mqtt.client as paho
import pytest

from edge import reasons
from edge.inference.guard import Guard
from edge.inference.service import Worker
from edge.messages.aggregate import STEP, Aggregate, Bin, Histogram
from edge.messages.summary import summarise
from edge.records import Subject
from edge.store import Outbox, Store
from edge.store.outbox import BOUNDS, Bound, Class
from tests.store.samples import arrival, claimed, flagged
from tests.sync.conftest import PREFIX, Mosquitto, SyncProcess, Watcher

pytestmark = pytest.mark.system

NO_GUARD = cast(Guard, None)  # nothing is analysed here
TELEMETRY = BOUNDS[Class.TELEMETRY]
FINDING = summarise(flagged(), message_id="1" * 32, committed_at=1e9, synchronised=True, waited=0.1)
THREE_AND_A_HALF = len(msgspec.json.encode(FINDING)) * 7 // 2


@pytest.fixture
def nobody_for_findings(broker: Mosquitto) -> Iterator[Watcher]:
    """A client that sees all but findings: they are acknowledged with 0x10, and stay."""
    watcher = Watcher(broker.port, tls=broker.context(), topics=[f"{PREFIX}+/status/#", f"{PREFIX}+/m/#"])
    yield watcher
    watcher.stop()


@pytest.mark.parametrize(
    "bound",
    [Bound(rows=3, bytes=1 << 30, life=None), Bound(rows=1000, bytes=THREE_AND_A_HALF, life=None)],
    ids=["rows", "bytes"],
)
def test_findings_that_find_no_room_stay_owed_and_health_says_so(
    nobody_for_findings: Watcher, broker: Mosquitto, sync: SyncProcess, tmp_path: Path, bound: Bound
) -> None:
    """OUTBOX-FULL-01: bounds that take three, for the box's processes alike; results are committed for real."""
    script = tmp_path / "three.py"
    script.write_text(
        "import sys\n"
        "from edge.cli import main\n"
        "from edge.store.outbox import BOUNDS, Bound, Class\n"
        f"BOUNDS[Class.FINDING] = {bound!r}\n"
        "sys.exit(main())\n",
        encoding="ascii",
    )
    sync.start(script)
    nobody_for_findings.first("sync/status/health/-", state="up")
    bounds = BOUNDS | {Class.FINDING: bound}
    with closing(Store(sync.state_dir)) as store, closing(Outbox(sync.state_dir, bounds=bounds)) as outbox:
        worker = Worker(store, NO_GUARD, outbox)
        ids = []
        for number in range(5):
            store.accept(b"%d" % number, arrival())
            stored = store.commit(claimed(store), flagged(), Subject(), summary=partial(summarise, flagged()))
            ids.append(stored.id)
            worker.relay()
        nobody_for_findings.first("sync/status/health/-", state="degraded", reason=reasons.OUTBOX_FULL)
        assert sync.waiting() == ids[:3], "none that waits goes, and no other is taken"
        assert [owed.result_id for owed in store.owed("summary")] == ids[3:]
        manager = Watcher(broker.port, "manager", tls=broker.context())
        try:
            manager.findings(3)
            sync.await_empty_outbox()
            worker.relay()
            assert set(manager.findings(5)) == set(ids)
            sync.await_empty_outbox()
        finally:
            manager.stop()
        assert store.owed("summary") == []
    nobody_for_findings.until(_is_up, "the link no longer full")
    assert sync.outbox.depth()[2:] == (False, 0, 5), "not full, none dropped, five delivered"


def _is_up(seen: list[paho.MQTTMessage]) -> bool:
    """Whether the link said so last."""
    said = [message.payload for message in seen if message.topic == f"{PREFIX}sync/status/health/-"]
    return b'"state":"up"' in said[-1]


def _aggregates(count: int, size: int) -> Iterator[tuple[str, str, bytes]]:
    """Aggregates of the same length, about so many bytes."""
    name = Bin(name="x" * 64, images=STEP)
    bins = (name,) * (size // len(msgspec.json.encode(name)))
    histogram = Histogram(statistic="quality", model=None, version=None, code=None, bins=bins)
    for number in range(count):
        message = Aggregate(message_id=f"{number:032x}", day="2026-11-26", clock="right", histograms=(histogram,))
        yield message.message_id, "aggregate", msgspec.json.encode(message)


@pytest.mark.parametrize(("count", "size"), [(TELEMETRY.rows + 5, 0), (40, 1 << 20)], ids=["rows", "bytes"])
def test_telemetry_drops_its_oldest_and_health_counts_each(
    watcher: Watcher, broker: Mosquitto, make_sync: Callable[..., SyncProcess], count: int, size: int
) -> None:
    """OUTBOX-DROP-01: the bounds of the field. What is left need not arrive to the last."""
    sync = make_sync(**broker.section(), messages_per_second=20)
    (finding,) = sync.put(1)
    put = list(_aggregates(count, size))
    sync.outbox.put(put)
    kept = min(TELEMETRY.rows, TELEMETRY.bytes // len(put[0][2]))
    assert 0 < kept < count
    left = [message_id for message_id, _, _ in put[count - kept :]]
    sync.start()
    watcher.first("-/m/health/-", dropped=count - kept)
    watcher.first(f"inference/m/aggregate/{left[9]}")
    topics = [message.topic.rpartition("/")[2] for message in watcher.seen if "/inference/" in message.topic]
    assert topics[:11] == [finding, *left[:10]], "no finding is dropped for them"
