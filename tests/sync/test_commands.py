"""Orders over a real Mosquitto with mutual TLS and rights: obeyed once, or refused with a reason and without harm."""

from __future__ import annotations

import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.device.health import HealthFile, State
from edge.device.troubles import Trouble
from edge.messages.commands import HealthCheck, LogExcerpt, Restart, SelfTest, Status, topic
from edge.store.machine import Machine
from edge.store.orders import Now, Orders
from edge.sync.commands import GRACE, overdue
from edge.sync.excerpt import excerpt
from tests.messages.schemas import check
from tests.messages.test_commands import order as any_order
from tests.sync.conftest import BOX, PREFIX, SITE, Mosquitto, SyncProcess
from tests.sync.console import Console
from tests.system.conftest import await_until

pytestmark = pytest.mark.system


@pytest.fixture
def console(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Console]:
    """Behind a broker that lets each client do what the name in its certificate may."""
    rights = tmp_path / "rights"
    rights.write_text(
        "user console\ntopic readwrite #\n"
        "pattern write scanside/1/%u/+/status/#\npattern write scanside/1/%u/+/m/#\n"
        "pattern write scanside/1/%u/+/find/#\npattern readwrite scanside/1/%u/+/cmd/#\n"
        "pattern readwrite scanside/1/%u/+/shadow/#\n",
        encoding="ascii",
    )
    rights.chmod(0o600)
    mosquitto.configure("use_identity_as_username true", f"acl_file {rights}")
    mosquitto.start()
    client = Console(mosquitto.port, tmp_path / "keys", mosquitto.context("console"))
    yield client
    client.stop()


@pytest.fixture
def sync(console: Console, mosquitto: Mosquitto, make_sync: Callable[..., SyncProcess], tmp_path: Path) -> SyncProcess:
    """A box that obeys the console; not started yet."""
    section = mosquitto.section(f"{SITE}/{BOX}")
    return make_sync(**section, command_keys=str(tmp_path / "keys"), health_interval_seconds=3600)


def test_a_health_check_says_everything_anew(console: Console, sync: SyncProcess) -> None:
    """CMD-HEALTH-01 CMD-STATE-01"""
    sync.start()
    console.first("-/m/health/-", seq=0)
    where = console.send(console.order(HealthCheck()))
    ended = console.ends(where)
    assert (ended.status, ended.reason) == ("successful", "")
    check("command", msgspec.json.encode(ended))
    console.first("-/m/health/-", seq=1)
    states = [message for message in console.seen if message.topic == f"{PREFIX}-/status/state/-"]
    assert len(states) >= 2
    sync.wait_for("SC512")


def test_what_the_box_can_do_is_said_and_what_needs_the_steward_only_while_he_is_there(
    console: Console, sync: SyncProcess
) -> None:
    """CMD-CAPABILITY-01"""
    sync.start()
    said = check("capability", console.first("-/cmd/health-check/-", operation="health-check").payload)
    assert said["choices"] == []
    console.until(lambda seen: [m for m in seen if m.topic == f"{PREFIX}-/cmd/restart/-" and not m.payload], "none")
    HealthFile(sync.state_dir, "steward").report(State.UP)
    restart = check("capability", console.first("-/cmd/restart/-", operation="restart").payload)
    assert restart["choices"] == ["inference", "intake", "sync", "web"]
    configure = check("capability", console.first("-/cmd/configure/-", operation="configure").payload)
    assert "inference.operating_point" in configure["choices"]
    assert not [key for key in configure["choices"] if "file" in key or "host" in key or "key" in key.split("_")]
    check("reported", console.first("-/shadow/reported/-", version=0).payload)


def _late(console: Console) -> tuple[str, bytes | None]:
    long_ago = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    order = console.order(HealthCheck(), issued_at=long_ago, not_after=long_ago + timedelta(hours=1))
    return console.send(order), None


REFUSED: list[tuple[str, Callable[[Console], str]]] = [
    ("not a command document of the contract", lambda c: _raw(c, b"{}")),
    ("not a command document of the contract", lambda c: _raw(c, b"\xff\xfe[" * 1000)),
    ("not a command document of the contract", lambda c: _raw(c, b"x" * 20_000)),
    ("not signed by a key of this fleet", lambda c: c.send(c.order(HealthCheck()), Ed25519PrivateKey.generate())),
    ("for another box or topic", lambda c: c.send(c.order(HealthCheck(), box="box-2"), to=_somewhere())),
    ("for another box or topic", lambda c: c.send(c.order(HealthCheck()), to=_somewhere())),
    ("too late by its not-after", lambda c: _late(c)[0]),
    (
        "issued in the future",
        lambda c: c.send(
            c.order(
                HealthCheck(),
                issued_at=datetime(2090, 1, 1, tzinfo=UTC),
                not_after=datetime(2090, 1, 2, tzinfo=UTC),
            )
        ),
    ),
]


def _somewhere(operation: str = "health-check") -> str:
    return f"{PREFIX}-/cmd/{operation}/{uuid.uuid4().hex}"


def _raw(console: Console, payload: bytes) -> str:
    where = _somewhere()
    console.publish(where, payload)
    return where


def test_what_is_not_to_be_obeyed_is_refused_with_its_reason_and_harms_nothing(
    console: Console, sync: SyncProcess
) -> None:
    """CMD-REFUSE-01 CMD-SIGN-01 CMD-EXPIRY-01"""
    sync.start()
    console.first("-/m/health/-")
    for reason, publish in REFUSED[:-1]:
        where = publish(console)
        ended = console.ends(where)
        assert (ended.status, ended.reason) == ("failed", reason)
    assert console.do(HealthCheck()).status == "successful"
    assert sync.program.process.poll() is None
    sync.wait_for("SC512")
    assert sync.log().count("SC511") == len(REFUSED) - 1
    assert sync.log().count("SC510") == 1
    ids = sync.put(3)
    assert console.findings(3) == ids


def test_messages_that_are_no_orders_are_left_alone(console: Console, sync: SyncProcess) -> None:
    sync.start()
    console.first("-/m/health/-")
    where = console.send(console.order(HealthCheck()))
    console.ends(where)
    console.publish(where, b"")
    console.publish(f"{PREFIX}-/cmd/health-check/-", b"{}")
    assert console.do(HealthCheck()).status == "successful"
    console.settle()
    assert [message.payload for message in console.seen if message.topic == where][-1] == b"", "cleared stays cleared"


def test_an_order_that_comes_twice_is_done_once_and_answered_again(console: Console, sync: SyncProcess) -> None:
    """CMD-ONCE-01"""
    sync.start()
    order = console.order(HealthCheck())
    where = console.send(order)
    console.ends(where)
    console.send(order)
    console.until(
        lambda seen: (
            console.documents(where)[-1:] == ["successful"] and console.documents(where).count("successful") == 2
        ),
        "the answer once more",
    )
    sync.wait_for("SC512")
    assert sync.log().count("SC510") == sync.log().count("SC512") == 1


def test_an_order_given_while_the_box_is_away_is_obeyed_when_it_is_back(console: Console, sync: SyncProcess) -> None:
    """LINK-SESSION-01"""
    sync.start()
    console.first("-/m/health/-")
    sync.stop()
    where = console.send(console.order(HealthCheck()))
    sync.start()
    assert console.ends(where).status == "successful"


def test_a_box_that_was_killed_while_it_executed_brings_it_to_an_end(console: Console, sync: SyncProcess) -> None:
    """CMD-RESUME-01: what the disk says after a kill at each place of an own operation."""
    ordered = [console.order(HealthCheck()), console.order(LogExcerpt(most=3)), console.order(HealthCheck())]
    orders = Orders(sync.state_dir)
    now = Now(0.0, "an earlier boot", 5.0)
    for number, order in enumerate(ordered):
        document = console.send(order)
        signed = msgspec.json.decode(next(m for m in _own(console, document)).payload)
        assert orders.take(order, signed["signature"], signed["order"], now)
        for _ in range(number):
            assert orders.begin(order.id, now)
    orders.end(ordered[2].id, Status.FAILED, 0.0, "timed out")
    orders.close()
    sync.start()
    assert [console.ends(str(topic(order))).status for order in ordered] == ["successful", "successful", "failed"]


def _own(console: Console, where: str) -> list[paho.MQTTMessage]:
    found: list[paho.MQTTMessage] = console.until(lambda seen: [m for m in seen if m.topic == where], "our own order")
    return found


def test_what_a_box_does_not_know_any_more_is_not_left_executing(console: Console, sync: SyncProcess) -> None:
    """CMD-RESUME-02"""
    order = console.order(SelfTest())
    where = console.send(order)
    (sent,) = _own(console, where)
    document = json.loads(sent.payload) | {"status": "executing"}
    console.publish(where, json.dumps(document).encode())
    sync.start()
    ended = console.ends(where)
    assert (ended.status, ended.reason) == ("failed", "this box knows nothing of it any more")


def test_what_nobody_has_taken_up_in_time_is_given_up_and_answered(console: Console, sync: SyncProcess) -> None:
    """CMD-TIMEOUT-01: taken so long ago, on a box without steward; one that has time left still waits."""
    machine = Machine()
    orders = Orders(sync.state_dir)
    late, early = console.order(Restart(service="web"), timeout=10), console.order(Restart(service="web"), timeout=3600)
    for order in (late, early):
        document = msgspec.json.decode(_own(console, console.send(order))[0].payload)
        then = Now(time.time(), machine.boot_id(), machine.uptime() - 10 - GRACE - 1)
        assert orders.take(order, document["signature"], document["order"], then)
    sync.start()
    ended = console.ends(str(topic(late)))
    assert (ended.status, ended.reason) == ("failed", "nobody on this box took it up")
    assert console.do(HealthCheck()).status == "successful"
    waiting = orders.get(early.id)
    assert waiting
    assert waiting.status == "init"
    orders.close()


def test_an_order_is_acknowledged_after_it_is_on_the_disk(
    console: Console, mosquitto: Mosquitto, sync: SyncProcess
) -> None:
    """LINK-ACK-01: what the disk does not take is not acknowledged, and comes again on the next connection."""
    sync.start()
    console.first("-/m/health/-")
    acknowledged = f"Received PUBACK from scanside.{SITE}.{BOX}"
    (file,) = (sync.state_dir / "orders").glob("*.sqlite")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER full BEFORE INSERT ON orders BEGIN SELECT RAISE(ABORT, 'no room'); END")
        where = console.send(console.order(HealthCheck()))
        assert "no room" in sync.wait_for("SC517")
        assert acknowledged not in mosquitto.log()
        other.execute("DROP TRIGGER full")
    sync.kill()
    assert acknowledged not in mosquitto.log()
    sync.start()
    assert console.ends(where).status == "successful"
    await_until(lambda: acknowledged in mosquitto.log(), "the order acknowledged")


def test_the_excerpt_has_the_catalogues_words_and_nothing_that_somebody_brought(
    console: Console, sync: SyncProcess
) -> None:
    """CMD-LOG-01"""
    (sync.state_dir / "troubles").mkdir()
    trouble = Trouble(
        service="intake",
        number=206,
        text="the watch folder cannot be emptied: DOE^JANE 19700101; trying again in 5 s",
        count=7,
        first_at=1.0,
        last_at=2.0,
    )
    (sync.state_dir / "troubles" / "intake.json").write_bytes(msgspec.json.encode([trouble]))
    sync.start()
    ended = console.do(LogExcerpt(most=5))
    (line,) = ended.lines
    assert (line.name, line.count, line.well) == ("intake SC206", 7, False)
    assert line.text == "the watch folder cannot be emptied: *; trying again in 5 s"


@pytest.mark.parametrize(
    ("number", "text", "said"),
    [
        (9999, "DOE^JANE", "unlisted"),
        (206, "DOE^JANE", "the watch folder cannot be emptied: *; trying again in * s"),
        (310, "disk: DOE, 12 MiB free of 100", "disk: *, 12 MiB free of 100"),
        (310, "disk: DOE, 19700101123456 MiB free of 1", "disk: *, * MiB free of *"),
        (504, "outbox message 19700101 is not one that may leave the box (X): it stays",
         "outbox message * is not one that may leave the box (*): it stays"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_line(number: int, text: str, said: str) -> None:
    """CMD-LOG-01"""
    trouble = Trouble(service="DOE^JANE", number=number, text=text, count=1, first_at=0.0, last_at=0.0)
    (line,) = excerpt([trouble], 5)
    assert line.text == said
    assert line.name.startswith("unlisted ")


@pytest.mark.parametrize(
    ("status", "boot", "uptime", "reason"),
    [
        ("init", "b", 100.0 + 30 + GRACE, ""),
        ("init", "b", 100.0 + 31 + GRACE, "nobody on this box took it up"),
        ("executing", "b", 100.0 + 31 + GRACE, "timed out"),
        ("executing", "next", 30 + GRACE, ""),
        ("executing", "next", 31 + GRACE, "timed out"),
    ],
)
def test_what_nobody_executes_is_given_up(tmp_path: Path, status: str, boot: str, uptime: float, reason: str) -> None:
    """CMD-TIMEOUT-01"""
    orders = Orders(tmp_path)
    one = any_order(Restart(service="web"))
    orders.take(one, "", "", Now(0.0, "b", 100.0))
    if status == "executing":
        orders.begin(one.id, Now(0.0, "b", 100.0))
    ordered = orders.get(one.id)
    assert ordered
    assert overdue(ordered, 30.0, Now(1e9, boot, uptime)) == reason
    orders.close()
