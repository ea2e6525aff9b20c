"""What machines ask: alive, ready, and figures that say nothing about patients."""

from __future__ import annotations

import re
from http import HTTPStatus

import msgspec
import pytest

from edge import __version__
from edge.device.health import HealthFile, State
from edge.records import Arrival
from edge.web.accounts import Role
from edge.web.condition import read_condition
from edge.web.metrics import exposition
from edge.web.probes import lacking
from tests.web import samples
from tests.web.conftest import SERVICES, Box
from tests.web.test_api import check

LINE = re.compile(r'scanside_[a-z0-9_]+(\{[a-z]+="(?:[^"\\\n]|\\.)*"(?:,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? (-?[0-9.e+]+)')


def models(box: Box) -> None:
    account = HealthFile(box.state_dir, "inference", box.clock)
    account.list_models(samples.IN_SERVICE)
    account.report(State.UP, p50_ms=31.2, p95_ms=58.0, p99_ms=80.0)


def test_it_is_alive_also_without_its_store(box: Box) -> None:
    box.store.close()
    response = box.app.test_client().get("/healthz")
    assert response.get_json() == {"status": "ok"}
    check(response.get_json(), "Liveness")


def test_it_is_ready_once_a_model_passed_its_self_test_and_not_without_its_store(box: Box) -> None:
    client = box.app.test_client()
    response = client.get("/readyz")
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    check(response.get_json(), "ProblemDetails")
    box.services_up()
    assert "no model has passed its self-test" in client.get("/readyz").get_json()["detail"]
    models(box)
    assert client.get("/readyz").get_json() == {"status": "ready"}
    box.store.close()
    assert client.get("/readyz").status_code == HTTPStatus.SERVICE_UNAVAILABLE


@pytest.mark.parametrize(
    ("service", "state", "full", "missing"),
    [
        ("intake", State.DOWN, False, ["images cannot be received"]),
        ("intake", State.STARTING, False, ["images cannot be received"]),
        ("intake", State.DEGRADED, False, []),
        ("web", State.DOWN, False, []),
        ("web", State.UP, True, ["the disk is full and no image is taken"]),
    ],
)
def test_what_readiness_needs(box: Box, service: str, state: State, full: bool, missing: list[str]) -> None:
    box.services_up()
    models(box)
    HealthFile(box.state_dir, service, box.clock).report(state)
    condition = read_condition(box.store, box.state_dir, SERVICES, box.clock())
    assert lacking(condition, full=full) == missing


def test_metrics_are_prometheus_text_without_anything_of_a_patient(box: Box) -> None:
    box.services_up()
    models(box)
    stored = samples.commit(box.store, samples.flagged())
    samples.commit(box.store, samples.not_analysed())
    box.store.accept(b"waits", Arrival(source="dicom", peer="SECRET-AE", sop_instance_uid="1.2.3"))
    box.recorder.look(lambda: read_condition(box.store, box.state_dir, SERVICES, box.clock()))
    response = box.signed_in(Role.SERVICE).get("/metrics")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    lines = response.text.splitlines()
    assert response.text.endswith("\n")
    for line in lines:
        assert line.startswith(("# HELP scanside_", "# TYPE scanside_")) or LINE.fullmatch(line), line
    assert 'scanside_results_total{status="flagged"} 1' in lines
    assert 'scanside_results_total{status="not_analysed"} 1' in lines
    assert 'scanside_service_up{service="inference"} 1' in lines
    assert 'scanside_latency_seconds{quantile="0.95"} 0.058' in lines
    assert "scanside_queue_images 1" in lines
    assert "scanside_flags_unacknowledged 1" in lines
    assert f'scanside_build_info{{version="{__version__}"}} 1' in lines
    for secret in ("417", stored.id, "SECRET-AE", str(stored.result.sop_instance_uid)):
        assert secret not in response.text
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names)), "each family stands once"


def test_labels_are_escaped(box: Box) -> None:
    odd = msgspec.structs.replace(samples.IN_SERVICE[0], id='a"b\\c\nd')
    account = HealthFile(box.state_dir, "inference", box.clock)
    account.list_models((odd,))
    account.report(State.UP)
    condition = read_condition(box.store, box.state_dir, SERVICES, box.clock())
    text = exposition(condition, answers={}, waiting=0, streams=0)
    assert 'model="a\\"b\\\\c\\nd"' in text
    assert all(line.startswith("#") or LINE.fullmatch(line) for line in text.splitlines())
