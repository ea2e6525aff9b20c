"""The link to a real Mosquitto: what is said on it, and that nothing is lost, whoever is killed."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import paho.mqtt.client as paho
import pytest

from edge.config import Config
from edge.config_section import ConfigError
from edge.device.health import HealthFile, State
from edge.device.troubles import Trouble
from edge.messages.aggregate import Aggregate
from edge.messages.topics import parse
from edge.sync.link import WINDOW
from edge.sync.service import serve
from tests.messages.schemas import check
from tests.sync.conftest import PREFIX, Mosquitto, SyncProcess, Watcher, summary_body
from tests.system.conftest import kept_up

pytestmark = pytest.mark.system

FINDING = "inference/find/image/"


def _tail(message: paho.MQTTMessage) -> str:
    return message.topic.removeprefix(PREFIX)


def _schema(tail: str) -> str:
    """The name of the schema that the contract gives to a topic."""
    service, channel, name, _ = tail.split("/")
    by_channel = {"find": "summary", "m": name}
    return by_channel.get(channel) or (name if service == "-" else "service")


def _said_at_birth(seen: list[paho.MQTTMessage]) -> bool:
    wanted = {"-/status/state/-", "-/status/about/-", "intake/status/health/-", "sync/status/health/-", "-/m/health/-"}
    wanted |= {"-/m/audit/-"}
    return wanted <= {_tail(message) for message in seen}


def _outbox_depths(seen: list[paho.MQTTMessage]) -> list[int]:
    healths = [msgspec.json.decode(message.payload) for message in seen if _tail(message) == "-/m/health/-"]
    return [health["outbox"]["depth"] for health in healths]


def test_birth_health_and_summaries(watcher: Watcher, sync: SyncProcess) -> None:
    """LINK-BIRTH-01 MSG-SCHEMA-01 MSG-TOPIC-01 MSG-HEALTH-01 MSG-AUDIT-01 MSG-AGGREGATE-01 OUTBOX-EXPIRY-01"""
    sync.put(3)
    aggregate = Aggregate(message_id="1" * 32, day="2026-11-26", clock="right", histograms=())
    sync.outbox.put([(aggregate.message_id, "aggregate", msgspec.json.encode(aggregate))])
    intake, web = HealthFile(sync.state_dir, "intake"), HealthFile(sync.state_dir, "web")

    def services() -> None:
        intake.report(State.UP)
        web.report(State.UP, audit_number=7, audit_digest="0f" * 32)

    with kept_up(services):
        sync.start()
        watcher.until(_said_at_birth, "everything of the birth")
    watcher.findings(3)
    assert watcher.first(f"inference/m/aggregate/{aggregate.message_id}").payload == msgspec.json.encode(aggregate)
    sync.await_empty_outbox()
    assert sync.outbox.depth().delivered == 3, "summaries are counted, no aggregate"
    ours = [message for message in watcher.seen if message.topic.startswith(PREFIX)]
    bodies = [check(_schema(_tail(message)), message.payload) for message in ours]
    assert {body["schema"].split(".")[1] for body in bodies} == {
        "state/1",
        "about/1",
        "service/1",
        "health/3",
        "summary/2",
        "aggregate/1",
        "audit/1",
    }
    assert [body["number"] for body in bodies if body["schema"] == "scanside.audit/1"] == [7]
    health = next(body for body in bodies if body["schema"] == "scanside.health/3")
    assert {"intake", "sync", "web"} <= {one["service"] for one in health["services"]}
    assert (health["dropped"], health["disk"]["used"] > 0, health["certificate_days"]) == (0, True, 0)
    assert _tail(ours[0]) == "-/status/state/-"
    assert _tail(ours[1]) == "-/status/about/-"
    assert len({body["session"] for body in bodies if "session" in body}) == 1
    assert {message.qos for message in ours} == {1}
    for message in ours:
        assert str(parse(message.topic)) == message.topic
        properties: Any = message.properties
        assert properties.ContentType == "application/json"
        if FINDING in message.topic:
            assert 30 * 86400 - 60 <= properties.MessageExpiryInterval <= 30 * 86400


def test_what_is_put_again_under_its_id_arrives_once(watcher: Watcher, sync: SyncProcess) -> None:
    """OUTBOX-ID-01"""
    ids = sync.put(3)
    sync.outbox.put((message_id, "summary", summary_body(message_id)) for message_id in ids)
    sync.start()
    sync.await_empty_outbox()
    watcher.settle()
    assert watcher.findings(3) == ids


def test_health_is_numbered_anew_on_each_connection(watcher: Watcher, sync: SyncProcess) -> None:
    """MSG-HEALTH-02"""

    def numbers(seen: list[paho.MQTTMessage]) -> list[int]:
        return [msgspec.json.decode(message.payload)["seq"] for message in seen if _tail(message) == "-/m/health/-"]

    sync.start()
    watcher.until(lambda seen: len(numbers(seen)) >= 2, "two healths")
    sync.stop()
    watcher.settle()
    before = len(numbers(watcher.seen))
    sync.start()
    watcher.until(lambda seen: len(numbers(seen)) > before, "a health of the next connection")
    assert numbers(watcher.seen)[: before + 1] == [*range(before), 0]


def test_only_what_is_a_state_is_retained(broker: Mosquitto, watcher: Watcher, sync: SyncProcess) -> None:
    sync.put(1)
    sync.start()
    watcher.first("-/m/health/-")
    watcher.findings(1)
    late = Watcher(broker.port, "late", tls=broker.context())
    late.settle()
    retained = {_tail(message) for message in late.seen if message.retain}
    late.stop()
    assert retained == {"-/status/state/-", "-/status/about/-", "sync/status/health/-"}


def test_a_change_of_a_service_is_told_once_it_happens(watcher: Watcher, sync: SyncProcess) -> None:
    intake = HealthFile(sync.state_dir, "intake")
    with kept_up(lambda: intake.report(State.UP)):
        sync.start()
        watcher.first("intake/status/health/-", state="up")
    with kept_up(lambda: intake.report(State.DEGRADED, "the disk is full")):
        watcher.first("intake/status/health/-", state="degraded", reason="the disk is full")
    told = Counter(message.payload for message in watcher.seen if _tail(message) == "intake/status/health/-")
    assert set(told.values()) == {1}


def test_killed_the_broker_says_lost_of_that_session(
    broker: Mosquitto, watcher: Watcher, make_sync: Callable[..., SyncProcess]
) -> None:
    """LINK-WILL-01: the will waits for its delay or the session's end (MQTT 5, 3.1.2.5): here no session stays."""
    sync = make_sync(**broker.section(), session_expiry_hours=0)
    sync.start()
    ready = msgspec.json.decode(watcher.first("-/status/state/-", state="ready").payload)
    sync.kill()
    lost = watcher.first("-/status/state/-", state="lost")
    assert msgspec.json.decode(lost.payload)["session"] == ready["session"]
    check("state", lost.payload)
    late = Watcher(broker.port, "late", tls=broker.context())
    assert late.first("-/status/state/-").payload == lost.payload
    late.stop()


def test_back_within_the_delay_nobody_hears_of_it(watcher: Watcher, sync: SyncProcess) -> None:
    """LINK-WILL-01"""
    sync.start()
    first = watcher.first("-/status/state/-", state="ready")
    sync.kill()
    sync.start()
    watcher.until(
        lambda seen: len({m.payload for m in seen if _tail(m) == "-/status/state/-"}) == 2, "the second session's state"
    )
    watcher.settle()
    states = [msgspec.json.decode(m.payload) for m in watcher.seen if _tail(m) == "-/status/state/-"]
    assert [state["state"] for state in states] == ["ready", "ready"]
    assert states[1]["session"] != msgspec.json.decode(first.payload)["session"]


def test_stopped_it_says_so_and_the_will_is_forgotten(
    broker: Mosquitto, watcher: Watcher, make_sync: Callable[..., SyncProcess]
) -> None:
    sync = make_sync(**broker.section(), session_expiry_hours=0)
    sync.start()
    watcher.first("-/status/state/-", state="ready")
    assert sync.stop() == 0
    watcher.first("-/status/state/-", state="stopping")
    watcher.settle()
    states = [msgspec.json.decode(m.payload) for m in watcher.seen if _tail(m) == "-/status/state/-"]
    assert [state["state"] for state in states] == ["ready", "stopping"]
    assert len({state["session"] for state in states}) == 1
    sync.wait_for("SC506")


def test_stopped_while_the_broker_is_away(mosquitto: Mosquitto, make_sync: Callable[..., SyncProcess]) -> None:
    sync = make_sync(**mosquitto.section())
    ids = sync.put(2)
    sync.start()
    assert "Connection refused" in sync.wait_for("SC501")
    assert sync.stop() == 0
    assert [message.message_id for message in sync.outbox.waiting()] == ids


def test_the_outbox_is_drained_in_order(watcher: Watcher, sync: SyncProcess) -> None:
    """OUTBOX-ORDER-01"""
    ids = sync.put(500)
    sync.start()
    assert watcher.findings(500) == ids
    sync.await_empty_outbox()
    more = sync.put(1)
    assert watcher.findings(501) == ids + more


def test_many_messages_drain_without_loss_and_memory_does_not_grow(watcher: Watcher, sync: SyncProcess) -> None:
    """OUTBOX-MANY-01: 100,000 in `benchmarks/outbox.py`. As Python objects 2,500 would take 1.6 MB."""
    ids = sync.put(6200)  # more than are held until they are settled
    sync.start()
    sync.await_empty_outbox()
    before = _resident(sync)
    ids += sync.put(2500)
    sync.await_empty_outbox()
    assert _resident(sync) - before < 1_000_000
    assert set(watcher.findings(8700)) == set(ids)


def _resident(sync: SyncProcess) -> int:
    """Bytes of its own memory (proc(5)): pages of files that it has mapped do not count."""
    status = Path(f"/proc/{sync.program.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("RssAnon:")[2].split()[0]) * 1024


def test_the_site_may_keep_the_hour_to_itself(
    watcher: Watcher, broker: Mosquitto, make_sync: Callable[..., SyncProcess]
) -> None:
    """MSG-SUMMARY-01"""
    sync = make_sync(**broker.section(), summary_hour=False)
    sync.put(1)
    sync.start()
    watcher.findings(1)
    (message,) = [message for message in watcher.seen if FINDING in message.topic]
    assert check("summary", message.payload)["hour"] is None


def test_errors_are_told_by_number_when_one_has_come(watcher: Watcher, sync: SyncProcess) -> None:
    """MSG-EVENTS-01 MSG-PRIVATE-01"""
    (sync.state_dir / "troubles").mkdir()
    trouble = Trouble(service="intake", number=206, text="DOE^JANE", count=7, first_at=0.0, last_at=2.0)
    kept = sync.state_dir / "troubles" / "intake.json"
    kept.write_bytes(msgspec.json.encode([trouble, msgspec.structs.replace(trouble, service="DOE^JANE")]))
    sync.start()
    said = check("events", watcher.first("-/m/events/-").payload)
    assert said["events"] == [{"service": "intake", "number": 206, "count": 7, "since": "1970-01-01T00:00:00Z"}]
    kept.write_bytes(msgspec.json.encode([msgspec.structs.replace(trouble, count=8)]))
    watcher.until(lambda seen: any(b'"count":8' in message.payload for message in seen), "one more")
    assert not any(b"DOE" in message.payload for message in watcher.seen)


def test_the_broker_is_restarted_in_the_middle(broker: Mosquitto, watcher: Watcher, sync: SyncProcess) -> None:
    """LINK-RESTART-01"""
    ids = sync.put(3000)
    sync.start()
    watcher.findings(200)
    broker.stop()
    sync.wait_for("SC501")
    taken = 3000 - sync.outbox.depth().rows
    ids += sync.put(10)
    broker.start()
    arrived = watcher.findings(3010)
    sync.await_empty_outbox()
    assert set(arrived) == set(ids)
    # What the broker took just before may be repeated, a window on the way to it, and one of Mosquitto's (20 by
    # default) from it to the watcher.
    assert len(arrived) - len(ids) <= taken + WINDOW + 20


def test_sync_is_killed_again_and_again_in_the_middle(
    watcher: Watcher, broker: Mosquitto, make_sync: Callable[..., SyncProcess]
) -> None:
    """OUTBOX-KILL-01: so slowly that each kill meets messages that wait, on a machine that does much else too."""
    sync = make_sync(**broker.section(), messages_per_second=300)
    chance, kills = random.Random(2), 8
    ids = sync.put(3000)
    for _ in range(kills):
        before = len(set(watcher.findings(0)))
        sync.start()
        watcher.findings(min(before + chance.randrange(1, 250), 2500))
        sync.kill()
    assert sync.outbox.depth()[0] > 0, "the kills came too late to test anything"
    sync.start()
    watcher.findings(3000)
    sync.await_empty_outbox()
    watcher.settle()
    arrived = Counter(watcher.findings(3000))
    assert set(arrived) == set(ids)
    assert max(arrived.values()) <= 1 + kills
    assert sum(arrived.values()) - len(ids) <= kills * WINDOW


def test_what_is_not_a_summary_stays_and_holds_up_nothing(watcher: Watcher, sync: SyncProcess) -> None:
    """MSG-SCHEMA-02 MSG-PRIVATE-01"""
    body = msgspec.json.encode({"schema": "scanside.summary/2", "patient_name": "DOE^JANE"})
    bad = [("1", "summary", body), ("2", "note", b"DOE^JANE"), ("3", "summary", b"\xff\xfe"), ("4", "summary", b"")]
    sync.outbox.put(bad)
    ids = sync.put(3)
    sync.start()
    assert watcher.findings(3) == ids
    sync.wait_for("SC504")
    watcher.until(lambda seen: 4 in _outbox_depths(seen), "four messages in the outbox, in health")
    assert [message.message_id for message in sync.outbox.waiting()] == ["1", "2", "3", "4"]
    assert not any(b"DOE" in message.payload for message in watcher.seen)
    assert "DOE" not in sync.log()


def test_an_outbox_that_fails_is_told_and_heals(watcher: Watcher, sync: SyncProcess) -> None:
    sync.start()
    watcher.first("sync/status/health/-", state="up")
    other = sqlite3.connect(sync.state_dir / "outbox" / "outbox.sqlite", isolation_level=None)
    other.execute("ALTER TABLE messages RENAME TO away")
    sync.wait_for("SC505")
    watcher.first("sync/status/health/-", state="degraded", reason="the outbox cannot be used")
    watcher.first("-/m/health/-", outbox=None)
    other.execute("ALTER TABLE away RENAME TO messages")
    other.close()
    ids = sync.put(2)
    assert watcher.findings(2) == ids
    sync.await_empty_outbox()


def test_it_opens_nothing_but_outbox_health_and_doorbells(watcher: Watcher, sync: SyncProcess, tmp_path: Path) -> None:
    """An audit hook sees each file that the process opens; where journal and key would be, nobody can read anything."""
    (sync.state_dir / "journal.sqlite").mkdir()
    (sync.state_dir / "keys" / "store.key").mkdir(parents=True)
    (sync.state_dir / "keys").chmod(0o000)
    hook = (
        "import sys\n"
        "def look(event, arguments):\n"
        "    if event in ('open', 'sqlite3.connect', 'os.listdir', 'os.scandir'):\n"
        "        sys.stderr.write(f'LOOKED {arguments[0]!s}\\n')\n"
        "sys.addaudithook(look)\n"
        "from edge.cli import main\n"
        "sys.exit(main())\n"
    )
    program = tmp_path / "watched.py"
    program.write_text(hook, encoding="utf-8")
    ids = sync.put(5)
    sync.start(program)
    assert watcher.findings(5) == ids
    watcher.first("-/m/health/-")
    assert sync.stop() == 0
    looked = {line.removeprefix("LOOKED ") for line in sync.log().splitlines() if line.startswith("LOOKED ")}
    state = f"{sync.state_dir}/"
    rooms = {path.removeprefix(state).split("/")[0] for path in looked if path.startswith(state)}
    configured = {"settings", "configuration"}  # the fleet's, and the last good file
    assert rooms == {*configured, "outbox", "health", "doorbells", "troubles"}, "the last are its own last errors"
    assert "SC302" not in sync.log(), "no key was made"


def test_it_loads_nothing_that_it_does_not_need() -> None:
    code = "import sys, edge.sync.service; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "paho.mqtt.client" in loaded
    assert not {"numpy", "cv2", "pydicom", "pynetdicom", "onnxruntime", "openvino", "flask", "torch"} & set(loaded)
    assert not {"cryptography", "edge.store.keys", "edge.store.vault", "edge.store.store"} & set(loaded), (
        "opens nothing"
    )


def test_without_a_broker_in_the_configuration_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="mqtt"):
        serve(Config(state_dir=tmp_path))
