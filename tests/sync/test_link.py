"""The connection itself: what CONNECT asks for, what is acknowledged when, and links that fail in odd ways."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.messages.commands import HealthCheck, sign, topic
from edge.store.orders import Orders
from edge.sync.link import LARGEST, WINDOW
from tests.messages.test_commands import order
from tests.sync.certificates import Authority
from tests.sync.conftest import BOX, SITE, Mosquitto, SyncProcess, Watcher
from tests.sync.scripted import PUBACK, PUBLISH, SUBSCRIBE, ScriptedBroker

pytestmark = pytest.mark.system

MakeSync = Callable[..., SyncProcess]
ACCEPTED = bytes([0, 0, 0])


@pytest.fixture
def scripted() -> Iterator[ScriptedBroker]:
    broker = ScriptedBroker()
    yield broker
    broker.close()


def test_what_connect_asks_for_is_the_same_each_time(scripted: ScriptedBroker, make_sync: MakeSync) -> None:
    """LINK-SESSION-01 LINK-WILL-01"""
    sync = make_sync(port=scripted.port, keepalive_seconds=5, session_expiry_hours=2)
    sync.start()
    seen = []
    for _ in range(2):
        scripted.accept(ACCEPTED)
        seen.append(scripted.connect.body)
        scripted.hang_up()
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


def test_an_order_is_acknowledged_after_it_is_on_the_disk(
    scripted: ScriptedBroker, make_sync: MakeSync, tmp_path: Path
) -> None:
    """LINK-ACK-01"""
    key = Ed25519PrivateKey.generate()
    (tmp_path / "keys").mkdir()
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "keys" / "fleet.pub").write_bytes(pem)
    sync = make_sync(port=scripted.port, keepalive_seconds=60, command_keys=str(tmp_path / "keys"))
    sync.start()
    scripted.accept(ACCEPTED)
    while (packet := scripted.read()).kind != SUBSCRIBE:
        assert packet.kind == PUBLISH
    assert b"scanside/1/clinic/box-1/-/cmd/+/+" in packet.body
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    one = order(HealthCheck(), issued_at=now, not_after=now + datetime.timedelta(hours=1))
    scripted.publish(str(topic(one)), msgspec.json.encode(sign(one, key, time.time())), 77)
    while (packet := scripted.read()).kind != PUBACK:
        assert packet.kind == PUBLISH
    assert packet.body[:2] == (77).to_bytes(2, "big")
    orders = Orders(sync.state_dir)
    assert orders.get(one.id) is not None
    orders.close()
    scripted.hang_up()


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
