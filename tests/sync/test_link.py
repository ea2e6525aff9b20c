"""The connection itself: what CONNECT asks for, when it is tried again, and links that fail in odd ways."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from edge.sync.link import LARGEST, WINDOW
from edge.sync.retry import LONGEST_DELAY, LONGEST_DELAY_REFUSED
from tests.sync.certificates import Authority
from tests.sync.conftest import BOX, SITE, Mosquitto, SyncProcess, Watcher
from tests.sync.scripted import ScriptedBroker
from tests.system.conftest import await_until

pytestmark = pytest.mark.system

MakeSync = Callable[..., SyncProcess]
NOT_AUTHORISED = 0x87


@pytest.fixture
def scripted() -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker()
    yield broker
    broker.close()


def test_what_connect_asks_for_is_the_same_each_time(scripted: ScriptedBroker, make_sync: MakeSync) -> None:
    """LINK-SESSION-01 LINK-WILL-01"""
    sync = make_sync(port=scripted.port, keepalive_seconds=5, session_expiry_hours=2)
    sync.start()
    seen = [scripted.connect(), scripted.connect()]
    for body in seen:
        assert body[:7] == b"\x00\x04MQTT\x05"
        flags = body[7]
        assert not flags & 0x02, "clean start"
        assert flags & 0x04, "a will"
        assert (flags >> 3 & 3, flags & 0x20) == (1, 0x20), "the will's QoS and retain"
        assert int.from_bytes(body[8:10], "big") == 5
        properties = body[11 : 11 + body[10]]
        assert b"\x11" + (7200).to_bytes(4, "big") in properties, "session expiry interval"
        assert b"\x21" + WINDOW.to_bytes(2, "big") in properties, "receive maximum"
        assert b"\x27" + LARGEST.to_bytes(4, "big") in properties, "maximum packet size"
        assert f"scanside.{SITE}.{BOX}".encode() in body
        assert b"\x18" + (30).to_bytes(4, "big") in body, "will delay"
    sessions = {body.partition(b'"session":"')[2][:32] for body in seen}
    assert len(sessions) == 2, "each connection has its own word in its will"


def test_a_broker_that_freezes_is_given_up_and_nothing_is_lost_or_told_as_delivered(
    broker: Mosquitto, watcher: Watcher, make_sync: MakeSync
) -> None:
    """LINK-HALFOPEN-01: a connection that nobody closes and nobody answers on."""
    sync = make_sync(**broker.section(), keepalive_seconds=5)
    sync.start()
    watcher.first("-/m/health/-")
    broker.freeze()
    ids = sync.put(50)
    sync.wait_for("SC501")
    assert [message.message_id for message in sync.outbox.waiting(limit=100)] == ids
    broker.thaw()
    arrived = watcher.findings(50)
    sync.await_empty_outbox()
    assert set(arrived) == set(ids)


def test_a_broker_whose_certificate_is_not_valid_yet_by_the_boxs_clock(
    mosquitto: Mosquitto, authority: Authority, make_sync: MakeSync
) -> None:
    """LINK-CLOCK-01: a box that came up in the past keeps what it has, and goes on once its clock is right."""
    mosquitto.configure("allow_anonymous true", own=authority.issue("later", datetime.timedelta(days=1)))
    mosquitto.start()
    sync = make_sync(**mosquitto.section())
    ids = sync.put(5)
    sync.start()
    assert "not yet valid" in sync.wait_for("SC501")
    assert [message.message_id for message in sync.outbox.waiting()] == ids
    mosquitto.stop()
    mosquitto.configure("allow_anonymous true")
    mosquitto.start()
    watcher = Watcher(mosquitto.port, tls=mosquitto.context())
    sync.wait_for("SC500")
    assert set(watcher.findings(5)) == set(ids)
    sync.await_empty_outbox()
    watcher.stop()
    assert sync.program.process.poll() is None


def test_a_rate_cap_lets_others_through(watcher: Watcher, broker: Mosquitto, make_sync: MakeSync) -> None:
    """OUTBOX-RATE-01: what has waited trickles, and health comes in between."""
    sync = make_sync(**broker.section(), messages_per_second=40)
    ids = sync.put(120)
    sync.start()
    assert watcher.findings(120) == ids
    order_of_topics = [message.topic.split("/")[5] for message in watcher.seen]
    first, last = order_of_topics.index("find"), len(order_of_topics) - order_of_topics[::-1].index("find")
    assert "m" in order_of_topics[first:last], "a health message among the findings"
    assert order_of_topics.index("status") < first
    assert order_of_topics.index("m") < first, "health before what waits"


def test_reconnecting_waits_a_random_part_of_a_growing_delay_and_longer_for_a_person(
    broker: Mosquitto, make_sync: MakeSync, tmp_path: Path
) -> None:
    """LINK-RETRY-01: the service is made to tell what it decides, and when; the decisions are its own."""
    script = tmp_path / "telling.py"
    script.write_text(
        "import sys, time\n"
        "from edge.cli import main\n"
        "from edge.sync import service\n"
        "decide = service.next_attempt\n"
        "def telling(protocol, ending, failures, jitter):\n"
        "    attempt = decide(protocol, ending, failures, jitter)\n"
        "    words = time.monotonic(), ending.code or 0, failures, jitter, attempt.delay\n"
        "    print('sync INFO DECIDED', *words, file=sys.stderr, flush=True)\n"
        "    return attempt\n"
        "service.next_attempt = telling\n"
        "sys.exit(main())\n",
        encoding="ascii",
    )
    sync = make_sync(**broker.section())
    sync.start(script)
    sync.wait_for("SC500")
    broker.stop()
    sync.program.wait_for("DECIDED", 3)
    broker.configure("allow_anonymous false")
    broker.start()
    await_until(lambda: _decided(sync)[-1].code, "the broker refusing the box")
    *away, refused = _decided(sync)
    for number, one in enumerate(away):
        assert (one.code, one.failures) == (0, number)
        assert one.delay == one.jitter * min(LONGEST_DELAY, 2.0**number)
    assert refused.code == NOT_AUTHORISED
    assert refused.delay == refused.jitter * LONGEST_DELAY_REFUSED
    assert len({one.jitter for one in (*away, refused)}) == len(away) + 1, "each at random"
    for one, following in pairwise((*away, refused)):
        assert following.at >= one.at + one.delay, "it has waited"


class Decided(NamedTuple):
    """When the service decided on its next attempt, for which reason code, after how many failures, and what."""

    at: float
    code: float
    failures: float
    jitter: float
    delay: float


def _decided(sync: SyncProcess) -> list[Decided]:
    return [Decided(*map(float, line.split()[3:])) for line in sync.program.found("DECIDED")]
