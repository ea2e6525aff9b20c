"""Signing in, as a browser does it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from edge.web.accounts import Role
from edge.web.lockout import FREE_PER_ACCOUNT
from edge.web.permissions import FORM_COOKIE, SESSION_COOKIE
from tests.web import samples
from tests.web.conftest import IDLE_SECONDS, PASSWORD, Box, token_of


def post(client: FlaskClient, path: str, **fields: Any) -> TestResponse:
    """Load a form and send it, as a person would."""
    client.get(path)
    return client.post(path, data=fields | {"form_token": token_of(client, FORM_COOKIE)})


def test_a_new_box_asks_for_its_first_account(box: Box) -> None:
    code = box.accounts.first_boot_code() or ""
    client = box.app.test_client()
    assert client.get("/", follow_redirects=True).request.path == "/first-account"
    fields = {"code": code, "name": "ada", "password": PASSWORD}
    for wrong, status in [
        ({"code": "AAAA-AAAA-AAAA-AAAA"}, HTTPStatus.FORBIDDEN),
        ({"password": "short"}, HTTPStatus.UNPROCESSABLE_ENTITY),
        ({"name": "<script>"}, HTTPStatus.UNPROCESSABLE_ENTITY),
    ]:
        refused = post(client, "/first-account", **(fields | wrong))
        assert refused.status_code == status
        assert PASSWORD not in refused.text
        assert "<script>" not in refused.text
    response = post(client, "/first-account", **fields)
    assert response.headers["Location"] == "/"
    assert "ada" in client.get("/").text
    assert box.app.test_client().get("/first-account").headers["Location"] == "/sign-in"
    late = box.app.test_client()
    late.get("/sign-in")
    token = token_of(late, FORM_COOKIE)
    refused = late.post("/first-account", data=fields | {"name": "eve", "form_token": token})
    assert refused.status_code == HTTPStatus.FORBIDDEN
    assert [account.name for account in box.accounts.list()] == ["ada"]


def test_guessing_the_code_is_slowed_down(box: Box) -> None:
    code = box.accounts.first_boot_code() or ""
    client = box.app.test_client()
    fields = {"code": "AAAA", "name": "eve", "password": PASSWORD}
    for _ in range(FREE_PER_ACCOUNT):
        assert post(client, "/first-account", **fields).status_code == HTTPStatus.FORBIDDEN
    assert post(client, "/first-account", **(fields | {"code": code})).status_code == HTTPStatus.TOO_MANY_REQUESTS
    box.clock.now += 60
    assert post(client, "/first-account", **(fields | {"code": code})).status_code == HTTPStatus.SEE_OTHER


def test_signing_in_and_out(box: Box) -> None:
    box.account(Role.CLINICIAN)
    client = box.app.test_client()
    response = post(client, "/sign-in", name="Clinician ", password=PASSWORD)
    assert response.status_code == HTTPStatus.SEE_OTHER
    cookie = next(c for c in response.headers.getlist("Set-Cookie") if c.startswith(SESSION_COOKIE))
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/").status_code == HTTPStatus.OK
    assert client.get("/sign-in").headers["Location"] == "/"
    client.post("/sign-out", data={"form_token": token_of(client)})
    assert client.get("/").status_code == HTTPStatus.SEE_OTHER
    client.set_cookie(SESSION_COOKIE, cookie.split("=")[1].split(";")[0])
    assert client.get("/").status_code == HTTPStatus.SEE_OTHER


@pytest.mark.parametrize("name", ["clinician", "nobody", "", "' OR 1=1 --", "\u202e", "x" * 10_000])
def test_wrong_names_and_passwords_read_the_same(box: Box, name: str) -> None:
    box.account(Role.CLINICIAN)
    refused = post(box.app.test_client(), "/sign-in", name=name, password="not the password")
    assert refused.status_code == HTTPStatus.FORBIDDEN
    assert "The user name or the password is not right." in refused.text
    assert SESSION_COOKIE not in "".join(refused.headers.getlist("Set-Cookie"))


@pytest.mark.parametrize("name", ["clinician", "nobody"])
def test_after_five_failures_the_right_password_waits_too(box: Box, name: str) -> None:
    box.account(Role.CLINICIAN)
    client = box.app.test_client()
    for _ in range(FREE_PER_ACCOUNT):
        assert post(client, "/sign-in", name=name, password="wrong").status_code == HTTPStatus.FORBIDDEN
    locked = post(client, "/sign-in", name=name, password=PASSWORD)
    assert locked.status_code == HTTPStatus.TOO_MANY_REQUESTS
    assert locked.headers["Retry-After"] == "60"
    assert "Try again in 1 minute." in locked.text
    box.clock.now += 60
    expected = HTTPStatus.SEE_OTHER if name == "clinician" else HTTPStatus.FORBIDDEN
    assert post(client, "/sign-in", name=name, password=PASSWORD).status_code == expected


@pytest.mark.parametrize(
    ("target", "landed"),
    [
        ("/results/0f1e-0", "/results/0f1e-0"),
        ("/device", "/device"),
        ("/", "/"),
        ("", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example/", "/"),
        ("/results/../sign-out", "/"),
        ("/results/a\r\nX: y", "/"),
    ],
)
def test_after_signing_in_one_lands_on_this_box_only(box: Box, target: str, landed: str) -> None:
    box.account(Role.CLINICIAN)
    client = box.app.test_client()
    client.get("/sign-in")
    data = {"name": "clinician", "password": PASSWORD, "form_token": token_of(client, FORM_COOKIE)}
    response = client.post("/sign-in", query_string={"next": target}, data=data)
    assert response.headers["Location"] == landed


def test_an_idle_session_leads_back_to_where_it_was(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    assert client.get(f"/results/{stored.id}").status_code == HTTPStatus.OK
    box.clock.now += IDLE_SECONDS
    response = client.get(f"/results/{stored.id}", follow_redirects=True)
    assert response.request.path == "/sign-in"
    assert response.request.args["next"] == f"/results/{stored.id}"


def test_what_the_page_does_by_itself_does_not_keep_a_person_signed_in(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    for _ in range(4):
        box.clock.now += IDLE_SECONDS / 4
        last = client.get(f"/live/rows/{stored.id}")
    assert last.status_code == HTTPStatus.UNAUTHORIZED


def test_whoever_is_signed_out_sees_that_something_waits_and_not_what(box: Box) -> None:
    box.account()
    client = box.app.test_client()
    assert "for a person" not in client.get("/sign-in").text
    samples.commit(box.store, samples.flagged())
    page = client.get("/sign-in").text
    assert "1 flagged image waits for a person." in page
    assert "…417" not in page
    assert "neumonia" not in page
