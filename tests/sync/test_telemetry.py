"""What the box says about itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.device.drift import Drifted
from edge.device.health import Health, ModelInService, State
from edge.device.vitals import Vitals
from edge.store.outbox import Depth
from edge.sync import telemetry
from edge.sync.retry import Protocol
from tests.messages.schemas import check

NOW = 1_795_218_131.75
UPTIME = 99.9
SESSION = "0" * 32
VITALS = Vitals(
    disk_total=100,
    disk_free=25,
    disk_used_share=0.75,
    memory_available=5,
    load_1min=0.5,
    temperature_celsius=None,
)
DIGEST = "sha256:" + "0f" * 32
INFERENCE: dict[str, str | int | float | bool | None] = {
    "queue_depth": 3,
    "oldest_uptime": UPTIME - 12.9,
    "p50_ms": 90.1,
    "p95_ms": 120.2,
    "p99_ms": 150.3,
}


def _account(service: str, details: dict[str, str | int | float | bool | None], reason: str = "") -> Health:
    return Health(
        service=service, state=State.UP, reason=reason, since=NOW - 60, updated_at=NOW, pid=1, details=details
    )


def _model(name: str, version: str = "1.0.0", digest: str = DIGEST, engine: str = "openvino") -> ModelInService:
    return ModelInService(id=name, version=version, digest=digest, engine=engine, experimental=False, median_ms=11.9)


WAITING = Depth(rows=7, oldest=3600.5, full=False, dropped=2, delivered=41)


def _figures(account: Health, outbox: Depth | None = WAITING) -> dict[str, object]:
    message = telemetry.figures(
        session=SESSION,
        seq=2,
        accounts={account.service: account},
        box=VITALS,
        outbox=outbox,
        uptime=UPTIME,
        now=NOW,
        synchronised=True,
        certificate_days=29.5,
    )
    return check("health", msgspec.json.encode(message))


def test_health() -> None:
    """MSG-HEALTH-01"""
    assert _figures(_account("inference", INFERENCE)) == {
        "schema": "scanside.health/3",
        "ts": "2026-11-20T23:42:11Z",
        "session": SESSION,
        "seq": 2,
        "uptime_seconds": 99,
        "services": [
            {
                "schema": "scanside.service/1",
                "service": "inference",
                "state": "up",
                "reason": "",
                "since": "2026-11-20T23:41:11Z",
            }
        ],
        "queue": {"depth": 3, "oldest_seconds": 12},
        "latency": {"p50_ms": 90.1, "p95_ms": 120.2, "p99_ms": 150.3},
        "outbox": {"depth": 7, "oldest_seconds": 3600},
        "dropped": 2,
        "delivered": 41,
        "disk": {"total_bytes": 100, "free_bytes": 25, "used": 0.75},
        "memory_available_bytes": 5,
        "load": 0.5,
        "temperature_celsius": None,
        "throttled": None,
        "clock": "right",
        "certificate_days": 29,
        "drift": [],
    }


@pytest.mark.parametrize(
    ("model", "statistic", "said"),
    [
        ("adult 1.0.0", "scores of Opacity", ("adult", "scores")),
        ("", "refusals", (None, "refusals")),
        ("Dr. Who's 1", "names of patients", ("unlisted", "unlisted")),
    ],
)
def test_drift_is_told_without_a_word_of_a_bundle(model: str, statistic: str, said: tuple[str, str]) -> None:
    drifted = Drifted(model=model, statistic=statistic, index=0.31, images=300, since=NOW)
    account = msgspec.structs.replace(_account("web", {}), drift=(drifted,))
    drift: Any = _figures(account)["drift"]
    (one,) = drift
    assert (one["model"], one["statistic"]) == said
    assert (one["index"], one["images"], one["since"]) == (0.31, 300, "2026-11-20T23:42:11Z")


@pytest.mark.parametrize(
    ("details", "queue", "latency"),
    [
        ({}, None, None),
        ({"queue_depth": 0, "oldest_uptime": None}, {"depth": 0, "oldest_seconds": None}, None),
        ({"queue_depth": "many"}, None, None),
        ({"queue_depth": -1}, None, None),
        ({"p50_ms": 1.0, "p95_ms": 2.0}, None, None),
        ({"p50_ms": 1.0, "p95_ms": 2.0, "p99_ms": "fast"}, None, None),
        ({"queue_depth": 1, "oldest_uptime": UPTIME + 60}, {"depth": 1, "oldest_seconds": 0}, None),
        ({"queue_depth": 1, "oldest_uptime": -100.0}, {"depth": 1, "oldest_seconds": int(UPTIME) + 100}, None),
    ],
)
def test_figures_that_are_not_there_are_none(
    details: dict[str, str | int | float | bool | None], queue: object, latency: object
) -> None:
    health = _figures(_account("inference", details), outbox=None)
    assert (health["queue"], health["latency"], health["outbox"]) == (queue, latency, None)


def test_the_birth() -> None:
    """LINK-BIRTH-01"""
    models = (_model("cxr-pneumonia"), _model("cxr-lungs"), _model("DOE^JANE"))
    account = msgspec.structs.replace(_account("inference", INFERENCE), models=models)
    message = telemetry.about(SESSION, "0.1.0", Protocol.MQTT_5, {"inference": account})
    birth = check("about", msgspec.json.encode(message))
    assert birth["models"] == [
        {"id": name, "version": "1.0.0", "digest": DIGEST, "engine": "openvino"}
        for name in ("cxr-pneumonia", "cxr-lungs")
    ]
    assert (birth["software"], birth["protocol"], birth["capabilities"]) == ("0.1.0", "5", [])
    assert birth["schemas"] == sorted(birth["schemas"])
    assert {"scanside.about/1", "scanside.health/3", "scanside.order/1", "scanside.summary/2"} <= set(birth["schemas"])


@pytest.mark.parametrize(
    ("details", "number"),
    [
        ({"audit_number": 7, "audit_digest": "0f" * 32}, 7),
        ({"audit_number": 0, "audit_digest": "00" * 32}, None),
        ({"audit_number": 7, "audit_digest": "DOE^JANE"}, None),
        ({"audit_number": 7}, None),
        ({}, None),
    ],
)
def test_how_far_the_audit_trail_goes(details: dict[str, str | int | float | bool | None], number: int | None) -> None:
    """MSG-AUDIT-01"""
    head = telemetry.audit_head(SESSION, {"web": _account("web", details)}, NOW)
    assert (head.number if head else None) == number
    if head:
        assert check("audit", msgspec.json.encode(head))["digest"] == DIGEST


def test_a_birth_before_the_models_are_loaded() -> None:
    assert telemetry.about(SESSION, "0.1.0", Protocol.MQTT_3_1_1, {}).models == ()


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("", ""),
        ("no model passed its checks", "no model passed its checks"),
        ("DOE^JANE", "unlisted"),
        ("1.2.840.113619.2", "unlisted"),
        ("cannot read /var/lib/scanside/x.dcm", "unlisted"),
        ("two\nlines", "unlisted"),
        ("a trailing line\n", "unlisted"),
        ("x" * 81, "unlisted"),
    ],
)
def test_only_plain_words_leave_the_box_as_reasons(reason: str, said: str) -> None:
    message = telemetry.service(_account("intake", {}, reason))
    assert message.reason == said
    check("service", msgspec.json.encode(message))


@given(
    details=st.dictionaries(
        st.sampled_from([*INFERENCE, "patient"]),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    ),
    models=st.lists(st.builds(_model, st.text(), st.text(), st.text(), st.text())),
    reason=st.text(),
    since=st.floats(allow_nan=False, allow_infinity=False),
)
def test_whatever_a_service_says_the_messages_are_valid(
    details: dict[str, str | int | float | bool | None], models: list[ModelInService], reason: str, since: float
) -> None:
    account = msgspec.structs.replace(_account("inference", details, reason), since=since, models=tuple(models))
    _figures(account)
    birth = telemetry.about(SESSION, "0.1.0", Protocol.MQTT_5, {"inference": account})
    check("about", msgspec.json.encode(birth))
