"""The manager's page: who sees it, and that it tells the truth about old data."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql
from flask.testing import FlaskClient

from edge.config import Config
from edge.fleet import upkeep
from edge.fleet.alarms import RULES
from edge.fleet.console import create_app
from edge.fleet.people import BY_ITSELF, KEEPERS, PERMISSIONS, Dependencies
from edge.fleet.reading import Apart, Why, read
from edge.fleet.writing import Arrival, Writer
from edge.messages.types import Drift
from edge.records import Status
from edge.store.audit import open_trail
from edge.web.accounts import Accounts, Role
from edge.web.accounts_file import AccountsFile
from edge.web.lockout import Failures
from edge.web.permissions import OPEN, PEOPLE
from edge.web.sessions import Sessions
from tests.fleet.boxes import (
    DIGEST,
    NOW,
    about,
    addressed,
    aggregate,
    audit_head,
    errors,
    health,
    moment,
    service,
    state,
    summary,
)

PASSWORD = "correct horse battery staple"
IDLE = 1800.0


@dataclass
class Page:
    """The page over a database, with a clock of its own."""

    engine: sql.Engine
    folder: Path
    now: float = NOW
    wanted: dict[str, str] = field(default_factory=dict)
    file: AccountsFile = field(init=False)

    def __post_init__(self) -> None:
        self.file = AccountsFile(self.folder)
        self.accounts = Accounts(self.file, lambda: self.now)
        self.app = create_app(
            Dependencies(
                engine=self.engine.execution_options(reading=True),
                writing=self.engine,
                audit=open_trail(Config(site="fleet", box="manager", state_dir=self.folder), "fleet"),
                accounts=self.accounts,
                sessions=Sessions(self.file, lambda: self.now, IDLE),
                failures=Failures(self.file),
                interval=60,
                clock=lambda: self.now,
                wanted=self.wanted,
                metrics_token="read-the-metrics",
            )
        )

    def visitor(self) -> FlaskClient:
        return self.app.test_client()

    def signed_in(self, role: Role = Role.ADMINISTRATOR) -> FlaskClient:
        visitor = self.visitor()
        (account,) = [one for one in self.accounts.list() if one.role is role]
        token = Sessions(self.file, lambda: self.now, IDLE).open(account)
        visitor.set_cookie(Dependencies.session_cookie, token)
        return visitor

    def say(self, *messages: Any, box: str = "box-1", site: str = "clinic") -> None:
        arrivals = [Arrival(said, self.now, live=True) for m in messages if (said := read(*addressed(m, box, site)))]
        Writer(self.engine).write(arrivals)

    def collecting(self) -> None:
        upkeep.say_alive(self.engine, "collector-1", self.now, connected=True)


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with an account of each role: passwords take their time to hash, so it is made once."""
    folder = tmp_path_factory.mktemp("accounts")
    file = AccountsFile(folder)
    for role in Role:
        Accounts(file).add(f"a-{role}", PASSWORD, role)
    file.close()
    return folder


@pytest.fixture
def page(engine: sql.Engine, accounts: Path, tmp_path: Path) -> Iterator[Page]:
    shutil.copytree(accounts, tmp_path / "state")
    made = Page(engine, tmp_path / "state")
    yield made
    made.file.close()


@pytest.fixture(params=["sqlite"])
def url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """SQLite is enough here: what is asked of the database is tested with both."""
    return f"sqlite:///{tmp_path}/fleet.sqlite"


def text_of(response: Any) -> str:
    assert response.status_code == 200, response.text
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text))


def test_every_route_is_in_the_table_and_the_table_has_no_other(page: Page) -> None:
    assert {rule.endpoint for rule in page.app.url_map.iter_rules()} == set(PERMISSIONS)


@pytest.mark.parametrize("role", [None, *Role])
def test_each_role_sees_what_the_table_says(page: Page, role: Role | None) -> None:
    page.say(state(), health())
    visitor = page.signed_in(role) if role else page.visitor()
    addresses = {"console.overview": "/", "console.sites": "/sites", "console.apart": "/apart"}
    addresses["console.answers"] = "/answers"
    addresses["console.box"] = "/boxes/clinic/box-1"
    addresses["console.metrics"] = "/metrics"
    for endpoint, address in addresses.items():
        expected = 303 if role is None else 200 if role in PERMISSIONS[endpoint] else 403
        assert visitor.get(address).status_code == expected, (role, address)
    assert PERMISSIONS["console.apart"] == KEEPERS < PEOPLE
    assert PERMISSIONS["sign_in.sign_in"] is OPEN


def send(visitor: FlaskClient, address: str, **fields: str) -> Any:
    found = re.search(r'name="form_token" value="(\w+)"', visitor.get(address).text)
    return visitor.post(address, data={"form_token": found[1] if found else "", **fields})


def test_signing_in_and_out(page: Page) -> None:
    visitor = page.visitor()
    assert visitor.get("/").headers["Location"] == "/sign-in"
    wrong = send(visitor, "/sign-in", name="a-technician", password="wrong")
    assert wrong.status_code == 403
    assert "not right" in wrong.text
    assert send(visitor, "/sign-in", name="A-Technician ", password=PASSWORD).status_code == 303
    assert "a-technician" in text_of(visitor.get("/"))
    assert send(visitor, "/", name="x").status_code == 405
    found = re.search(r'name="form_token" value="(\w+)"', visitor.get("/").text)
    assert found
    assert visitor.post("/sign-out", data={"form_token": "0" * 64}).status_code == 403
    assert visitor.post("/sign-out", data={"form_token": found[1]}).status_code == 303
    assert visitor.get("/").status_code == 303


def test_a_form_of_another_site_does_nothing(page: Page) -> None:
    answer = page.visitor().post("/sign-in", data={"name": "a-technician", "password": PASSWORD})
    assert answer.status_code == 403


def test_an_account_is_locked_after_five_failures(page: Page) -> None:
    visitor = page.visitor()
    for _ in range(5):
        assert send(visitor, "/sign-in", name="a-technician", password="wrong").status_code == 403
    assert send(visitor, "/sign-in", name="a-technician", password=PASSWORD).status_code == 429


def test_a_program_sees_nothing(page: Page) -> None:
    assert send(page.visitor(), "/sign-in", name="a-sender", password=PASSWORD).status_code == 403


def test_the_first_account_comes_with_the_code_on_the_console(engine: sql.Engine, tmp_path: Path) -> None:
    page = Page(engine, tmp_path / "other")
    code = page.accounts.first_boot_code()
    assert code
    visitor = page.visitor()
    assert visitor.get("/sign-in").headers["Location"] == "/first-account"
    assert send(visitor, "/first-account", code="no", name="ada", password=PASSWORD).status_code == 403
    assert send(visitor, "/first-account", code=code, name="ada", password="short").status_code == 422
    assert send(visitor, "/first-account", code=code, name="ada", password=PASSWORD).status_code == 303
    assert "ada administrator" in text_of(visitor.get("/"))
    page.file.close()


def test_a_page_that_loads_itself_does_not_keep_anybody_signed_in(page: Page) -> None:
    visitor, itself = page.signed_in(), page.signed_in()
    assert f"{BY_ITSELF}=1" in visitor.get("/").text
    for _ in range(4):
        page.now += IDLE / 2
        assert visitor.get("/").status_code == 200
        last = itself.get(f"/?{BY_ITSELF}=1").status_code
    assert last == 303


def test_every_answer_carries_the_headers(page: Page) -> None:
    for address in ("/", "/sign-in", "/nothing", "/static/page.css", "/fleet-static/fleet.css"):
        answer = page.visitor().get(address)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "script" not in answer.headers["Content-Security-Policy"]
        assert not re.search(r"<script|style=|https?://(?!www\.w3\.org)", answer.text) or "css" in address


def test_a_box_that_fell_silent_is_not_running_any_more(page: Page) -> None:
    page.say(state(), about(), service(), health())
    visitor = page.signed_in()
    assert "● running 0 s ago 0.1.0 cxr-pneumonia 1.0.0 0 0 50 %" in text_of(visitor.get("/"))
    page.now += 181
    assert "◌ late 3 min ago" in text_of(visitor.get("/"))
    page.now += 720
    visitor = page.signed_in()
    assert "✕ lost 15 min ago" in text_of(visitor.get("/"))
    page.now += 30 * 86400
    visitor = page.signed_in()
    assert "✕ lost 30 d ago" in text_of(visitor.get("/"))
    assert "not how it is now" in text_of(visitor.get("/boxes/clinic/box-1"))


def test_the_page_says_when_nobody_collects(page: Page) -> None:
    visitor = page.signed_in()
    assert "since the beginning" in text_of(visitor.get("/"))
    page.collecting()
    assert "No collector" not in text_of(visitor.get("/"))
    page.now += 31
    assert "No collector has worked since" in text_of(visitor.get("/"))


def test_what_is_failing_stands_first_and_says_why(page: Page) -> None:
    page.say(state(), about(), service(), health(), box="box-a")
    page.say(state(), about(), service("inference", "down", "no model passed its checks"), health(), box="box-b")
    upkeep.evaluate(page.engine, RULES, page.now, 60)
    page.now += 120
    page.say(health(1), box="box-a")
    page.say(health(1), box="box-b")
    upkeep.evaluate(page.engine, RULES, page.now, 60)
    text = text_of(page.signed_in().get("/"))
    assert text.index("clinic/box-b") < text.index("clinic/box-a")
    assert "a service is not up 0.1.0" in text
    assert "with alarms 1" in text
    assert "no model passed its checks" in text_of(page.signed_in().get("/boxes/clinic/box-b"))


@pytest.mark.parametrize(
    ("query", "boxes"),
    [
        ("", {"a/one", "a/two", "b/one"}),
        ("site=a", {"a/one", "a/two"}),
        ("condition=running", {"a/one", "b/one"}),
        ("condition=degraded&site=b", set()),
        ("text=b/o", {"b/one"}),
        ("alarm=any", set()),
        ("page=99", {"a/one", "a/two", "b/one"}),
        ("page=x&site=%00&text=%27%22%3E", set()),
    ],
)
def test_the_filters(page: Page, query: str, boxes: set[str]) -> None:
    for site, box, word in (("a", "one", "up"), ("a", "two", "degraded"), ("b", "one", "up")):
        page.say(state(), service("web", word), health(), box=box, site=site)
    answer = page.signed_in().get(f"/?{query}")
    assert set(re.findall(r'href="/boxes/([a-z/]+)"', answer.text)) == boxes


def test_rates_and_counts(page: Page) -> None:
    answers = [summary(Status.FLAGGED), summary(quality=("DCM:111209",)), summary(), summary(Status.NOT_ANALYSED)]
    page.say(state(), health(), *answers)
    text = text_of(page.signed_in().get("/"))
    assert "50 % 1.0 25 % 25 %" in text
    assert "4 1 1" in text_of(page.signed_in().get("/sites"))
    assert "2025-11-25 4 1 1 1" in text_of(page.signed_in().get("/boxes/clinic/box-1"))


def test_counts_of_one_box_and_of_a_group(page: Page) -> None:
    for site, box, flagged in (("a", "one", 10), ("a", "two", 5), ("b", "one", 20)):
        page.say(state(), health(), aggregate(flagged=flagged, clear=30), box=box, site=site)
    visitor = page.signed_in()
    assert "Answers: 40 counted" in text_of(visitor.get("/boxes/a/one"))
    group = text_of(visitor.get("/answers?site=a"))
    assert "What 2 boxes answered" in group
    assert "clear 60 80 % 80 % flagged 15 20 % 20 %" in group
    assert "Probability: cxr-pneumonia 1.0.0 SCT:233604007: 15 counted" in group
    assert "0.9 to 1.0 15 100 %" in group
    assert "clear 90" in text_of(visitor.get("/answers"))
    assert "has told of any yet" in text_of(visitor.get("/answers?site=c"))


def test_errors_and_audit_trail_of_a_box(page: Page) -> None:
    page.say(state(), health(), errors(206), audit_head(9))
    visitor = page.signed_in()
    text = text_of(visitor.get("/boxes/clinic/box-1"))
    assert "intake SC206 7 2025-11-25 21:00:00 UTC" in text
    assert re.search(r"9 2025-11-25 21:00:00 UTC 2025-11-25 21:00:00 UTC sha256:(0f){32}", text)
    assert "shorter than it was" not in text
    page.now += 60
    page.say(audit_head(3, ts=page.now))
    assert "it turned out to be shorter than it was" in text_of(visitor.get("/boxes/clinic/box-1"))


def test_another_model_than_is_wanted_is_told_on_the_page_as_an_alarm_and_to_prometheus(page: Page) -> None:
    page.say(state(), about(), health())
    visitor = page.signed_in()
    assert "not the one that is wanted" not in text_of(visitor.get("/boxes/clinic/box-1"))
    page.wanted["cxr-pneumonia"] = "sha256:" + "1" * 64
    for minutes in (0, 15):
        page.now = NOW + 60 * minutes
        page.say(health(minutes, ts=page.now))
        upkeep.evaluate(page.engine, RULES, page.now, 60, page.wanted)
    text = text_of(visitor.get("/boxes/clinic/box-1"))
    assert f"cxr-pneumonia 1.0.0, not the one that is wanted {DIGEST}" in text
    assert "serves another model than is wanted 2025" in text
    assert 'models_other{site="clinic",box="box-1"} 1' in visitor.get("/metrics").text


def test_a_graph_has_its_text_and_breaks_where_nothing_came(page: Page) -> None:
    for number in (0, 1, 2, 60, 61):
        page.now = NOW + 60 * number
        page.say(health(number, ts=page.now))
    answer = page.signed_in().get("/boxes/clinic/box-1")
    assert "Disk used, percent: between 50 and 50, last 50; 1 gap." in text_of(answer)
    assert len(re.findall(r"<polyline", answer.text)) == 6
    assert re.search(r"21:00:00 UTC 3 0 0 50 %", text_of(answer))


def test_what_was_kept_apart(page: Page) -> None:
    Writer(page.engine).write([Arrival(Apart("x/<script>", b"secret", Why.TOPIC), page.now, live=True)])
    answer = page.signed_in().get("/apart")
    assert "topic not in the contract 1" in text_of(answer)
    assert "x/&lt;script&gt;" in answer.text
    assert "secret" not in answer.text


def test_a_box_that_nobody_knows(page: Page) -> None:
    assert page.signed_in().get("/boxes/clinic/nobody").status_code == 404


def test_a_database_that_cannot_be_read_is_a_page_too(page: Page) -> None:
    with page.engine.begin() as connection:
        connection.execute(sql.text("DROP TABLE services"))
    assert page.signed_in().get("/").status_code == 503


@pytest.mark.parametrize(("token", "status"), [("read-the-metrics", 200), ("another", 303), ("", 303)])
def test_a_program_reads_the_metrics_with_its_token_and_nothing_else(page: Page, token: str, status: int) -> None:
    page.say(state(), health())
    visitor = page.visitor()
    headers = {"Authorization": f"Bearer {token}"}
    answer = visitor.get("/metrics", headers=headers)
    assert answer.status_code == status
    assert ('scanside_fleet_services_not_up{site="clinic",box="box-1"} 0' in answer.text) is (status == 200)
    assert visitor.get("/", headers=headers).status_code == 303


def test_drift_stands_on_the_box_s_page_and_is_an_alarm(page: Page) -> None:
    drift = Drift(statistic="scores", model="cxr-pneumonia", index=0.31, images=300, since=moment(NOW))
    page.say(state(), health(drift=(drift,)))
    upkeep.evaluate(page.engine, RULES, page.now, 60)
    visitor = page.signed_in()
    assert "Drift: scores of cxr-pneumonia index 0.31 over 300 images" in text_of(visitor.get("/boxes/clinic/box-1"))
    assert "what the box sees or answers is not as it was" in text_of(visitor.get("/?alarm=drift"))
