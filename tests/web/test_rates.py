"""One client's flood is answered cheaply, and nobody else notices."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest

from edge.web.rates import Rates, limited, subject
from tests.web.conftest import Box
from tests.web.test_api import check


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_then_a_steady_rate() -> None:
    clock = Clock()
    rates = Rates(clock, per_second=10, burst=20)
    assert [rates.wait("a") for _ in range(20)] == [0.0] * 20
    assert rates.wait("a") == pytest.approx(0.1)
    assert rates.wait("b") == 0.0
    clock.now += 0.5
    assert [rates.wait("a") == 0.0 for _ in range(6)] == [True] * 5 + [False]
    clock.now += 3600
    assert sum(rates.wait("a") == 0.0 for _ in range(30)) == 20
    clock.now -= 7200
    assert rates.wait("a") > 0, "a clock that goes back gives nothing"


def test_a_dear_request_costs_more_and_is_had_less_often() -> None:
    clock, worked = Clock(), [0.0]
    rates = Rates(clock, per_second=10, burst=20)

    def page(_environ: object, _start: object) -> list[bytes]:
        worked[0] += 0.020
        return [b""]

    app = limited(page, rates, lambda: worked[0])

    def ask(path: str, address: str) -> bool:
        refused: list[str] = []
        environ = {"REMOTE_ADDR": address, "PATH_INFO": path}
        app(environ, lambda status, _headers: refused.append(status))  # type: ignore[arg-type]
        return not refused

    assert [ask("/", "a") for _ in range(4)] == [True, True, False, False], "11 each"
    clock.now += 0.5
    assert [ask("/", "a") for _ in range(2)] == [True, False]
    clock.now += 0.8
    assert not ask("/", "a"), "it still owes"
    clock.now += 0.2
    assert ask("/", "a")
    assert all(ask("/upload", "b") for _ in range(20)), "what brings images has limits of its own"
    assert (rates.is_over("a"), rates.is_over("b"), rates.is_over("c")) == (True, True, False)
    rates.charge("never seen", 1.0)
    assert ask("/", "never seen")


def test_what_is_remembered_is_bounded_and_a_flooder_stays_known() -> None:
    rates = Rates(Clock(), per_second=1, burst=2, most=10)
    for number in range(1000):
        rates.wait("flooder")
        rates.wait(f"10.0.0.{number}")
    assert rates.wait("flooder") > 0


@pytest.mark.parametrize(
    ("address", "counts_as"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "20010db800010002"),
        ("2001:db8:1:2::9%eth0", "20010db800010002"),
        ("nonsense:" + "x" * 100, ("nonsense:" + "x" * 100)[:64]),
        ("", ""),
    ],
)
def test_who_counts_as_one_client(address: str, counts_as: str) -> None:
    assert subject(address) == counts_as


def test_a_flood_gets_429_and_costs_neither_session_nor_store_nor_trail(tmp_path: Path) -> None:
    box = Box(tmp_path / "state", per_second=0.001, burst=20.0)
    flooder, visitor = box.signed_in(), box.signed_in()
    answers = [flooder.get("/healthz").status_code for _ in range(300)]
    assert answers.count(HTTPStatus.OK) <= 20
    assert set(answers) == {HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS}
    box.store.close()
    box.file.close()
    box.audit.close()
    response = flooder.get("/", headers={"Cookie": "scanside_session=x"})
    assert response.status_code == HTTPStatus.TOO_MANY_REQUESTS, "answered before anything is opened"
    assert int(response.headers["Retry-After"]) >= 1
    check(response.get_json(), "ProblemDetails")
    elsewhere = visitor.get("/healthz", environ_overrides={"REMOTE_ADDR": "192.0.2.9"})
    assert elsewhere.status_code == HTTPStatus.OK
    box.recorder.close()
