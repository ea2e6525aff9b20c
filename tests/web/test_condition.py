"""How the box is, in words."""

from __future__ import annotations

import msgspec
import pytest

from edge.device.health import Health, HealthFile, State
from edge.records import Arrival
from edge.web.condition import fleet_link, glance, judge, latencies, read_condition
from tests.web import samples
from tests.web.conftest import SERVICES, Box


def health(service: str, state: State = State.UP, reason: str = "") -> Health:
    return Health(service=service, state=state, reason=reason, since=0.0, updated_at=0.0, pid=1)


@pytest.mark.parametrize(
    ("services", "state", "summary"),
    [
        ((health("intake"), health("inference")), State.UP, "Ready"),
        (
            (health("intake"), health("inference", State.DOWN, "no sign of life")),
            State.DOWN,
            "Not ready: images are kept but not analysed (inference is down, no sign of life)",
        ),
        (
            (health("intake", State.DOWN), health("inference")),
            State.DOWN,
            "Not ready: images cannot be received (intake is down)",
        ),
        ((health("intake"), health("inference", State.STARTING)), State.STARTING, "Starting: inference is starting"),
        (
            (health("intake", State.STARTING), health("inference", State.DOWN)),
            State.DOWN,
            "Not ready: intake is starting; images are kept but not analysed (inference is down)",
        ),
        (
            (health("intake"), health("inference"), health("sync", State.DOWN, "stopped")),
            State.DEGRADED,
            "Ready, but summaries wait on this box (sync is down, stopped)",
        ),
        (
            (health("intake", State.DEGRADED, "disk nearly full"), health("inference")),
            State.DEGRADED,
            "Ready, but intake is degraded, disk nearly full",
        ),
    ],
)
def test_the_whole_follows_from_its_services(services: tuple[Health, ...], state: State, summary: str) -> None:
    assert judge(services) == (state, summary)


@pytest.mark.parametrize(
    ("sync", "words"),
    [
        (None, "none, this box stands alone"),
        (health("sync"), "connected"),
        (health("sync", State.DEGRADED, "broker unreachable"), "waiting (broker unreachable)"),
        (health("sync", State.DOWN), "down"),
    ],
)
def test_the_fleet_link_in_words(sync: Health | None, words: str) -> None:
    assert fleet_link(sync) == words


def test_latencies_are_those_that_were_measured() -> None:
    account = msgspec.structs.replace(health("inference"), details={"p50_ms": 31.2, "p95_ms": 58, "p99_ms": None})
    assert latencies(account) == {"p50": 31.2, "p95": 58.0}
    assert latencies(None) == {}


def test_a_service_that_went_silent_is_down(box: Box) -> None:
    box.services_up()
    assert read_condition(box.store, box.state_dir, SERVICES, box.clock()).state is State.UP
    box.clock.now += 11
    HealthFile(box.state_dir, "intake", box.clock).report(State.UP)
    condition = read_condition(box.store, box.state_dir, SERVICES, box.clock())
    assert condition.state is State.DOWN
    assert "no sign of life" in condition.summary


def test_a_person_is_told_when_something_changes_and_only_then(box: Box) -> None:
    box.services_up()
    before = read_condition(box.store, box.state_dir, SERVICES, box.clock())
    assert glance(before) == glance(read_condition(box.store, box.state_dir, SERVICES, box.clock() + 2))
    samples.commit(box.store, samples.clear())
    assert glance(before) == glance(read_condition(box.store, box.state_dir, SERVICES, box.clock()))
    box.store.accept(b"one that waits", Arrival(source="file", peer="x"))
    assert glance(before) != glance(read_condition(box.store, box.state_dir, SERVICES, box.clock()))
