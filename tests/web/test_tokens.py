"""API tokens do what their scopes and their account's role allow, and nothing else."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from edge.cli import main
from edge.web.accounts import Role
from edge.web.permissions import OPEN, PERMISSIONS, SCOPES
from edge.web.streams import message
from edge.web.tokens import DEFAULT_DAYS, MOST_DAYS, Scope, TokenError
from tests.store.audit_reading import in_words
from tests.web import samples
from tests.web.conftest import Box, token_of
from tests.web.test_permissions import path_of, routes

DAY = 86_400.0


def token(box: Box, *scopes: Scope, role: Role = Role.CLINICIAN, days: int = DEFAULT_DAYS) -> str:
    return box.tokens.make(box.account(role).name, scopes, "test", "ada", days)


def bearer(secret: str) -> Headers:
    return Headers({"Authorization": f"Bearer {secret}"})


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("scope", Scope)
def test_every_route_by_every_scope_and_role(box: Box, scope: Scope, role: Role) -> None:
    """A route opens when the token has its scope and the account its role; a route without a scope opens to none."""
    stored = samples.commit(box.store, samples.flagged(), pictures=False)
    client, headers = box.app.test_client(), bearer(token(box, scope, role=role))
    for rule, method in routes(box):
        roles = PERMISSIONS[rule.endpoint]
        if roles is OPEN:
            continue
        response = client.open(path_of(rule, stored.id), method=method, headers=headers)
        allowed = role in roles and SCOPES.get(rule.endpoint) is scope
        assert (response.status_code == HTTPStatus.FORBIDDEN) is not allowed, (rule, method, response.status_code)
        if not allowed:
            assert "…417".encode() not in response.data
        response.close()


def test_a_token_acknowledges_without_any_form(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    response = box.app.test_client().post(
        f"/api/v1/results/{stored.id}/acknowledge",
        json={"response": "agree"},
        headers=bearer(token(box, Scope.ACKNOWLEDGE)),
    )
    assert response.status_code == HTTPStatus.OK
    assert response.get_json()["acknowledged"]["by"] == "clinician"


@pytest.mark.parametrize("secret", ["", "scanside_", "scanside_" + "A" * 43, "\u00e4\u00f6", "x" * 5000, "' OR 1=1 --"])
def test_foreign_tokens_open_nothing_and_are_recorded_once(box: Box, secret: str) -> None:
    token(box, *Scope)
    client = box.app.test_client()
    for _ in range(3):
        response = client.get("/api/v1/results", headers={"Authorization": f"Bearer {secret}"})
        assert response.status_code == HTTPStatus.UNAUTHORIZED
        assert response.mimetype == "application/problem+json"
        assert not secret or secret not in response.text
    words = [in_words(record.xml or "") for record in box.audit.read()]
    assert len(words) <= 1, "a stranger cannot fill the trail"
    assert box.signed_in().get("/").status_code == HTTPStatus.OK, "nobody is locked out by it"


def test_a_token_is_not_taken_in_the_clear(box: Box) -> None:
    secret = token(box, Scope.READ_DEVICE)
    client = box.app.test_client()

    def answer(address: str, scheme: str) -> int:
        environ = {"REMOTE_ADDR": address, "wsgi.url_scheme": scheme}
        return client.get("/api/v1/health", headers=bearer(secret), environ_overrides=environ).status_code

    assert answer("192.0.2.7", "http") == HTTPStatus.FORBIDDEN
    assert answer("192.0.2.7", "https") == HTTPStatus.OK
    assert answer("127.0.0.1", "http") == HTTPStatus.OK


def test_a_token_ends(box: Box) -> None:
    revoked, removed = token(box, Scope.READ_DEVICE), token(box, Scope.READ_DEVICE, role=Role.SERVICE)
    over = token(box, Scope.READ_DEVICE, days=1)
    client = box.app.test_client()

    def works(secret: str) -> bool:
        return client.get("/api/v1/health", headers=bearer(secret)).status_code == HTTPStatus.OK

    assert all(map(works, (revoked, removed, over)))
    later = (one for one in box.tokens.list() if one.expires_at > box.clock() + 2 * DAY)
    box.tokens.revoke(next(one.id for one in later if one.name == "clinician"))
    assert not works(revoked)
    box.accounts.remove("service")
    assert not works(removed)
    box.clock.now += DAY
    assert not works(over)


def test_a_stream_ends_with_its_token(box: Box) -> None:
    secret = token(box, Scope.READ_RESULTS)
    with box.app.test_client().get("/api/v1/events", headers=bearer(secret)) as response:
        told = iter(response.response)
        next(told)
        box.tokens.revoke(box.tokens.list()[0].id)
        box.streams.publish(b"event: device\ndata: {}\n\n")
        assert any(part == message("signed-out", b"{}") for part in told)


def test_only_its_hash_is_kept_and_its_use_is_noted_by_the_hour(box: Box) -> None:
    secret = token(box, Scope.READ_DEVICE)
    assert secret.encode() not in (box.state_dir / "accounts" / "accounts.sqlite").read_bytes()
    (listed,) = box.tokens.list()
    assert (listed.used_at, listed.purpose, listed.created_by) == (None, "test", "ada")
    assert listed.scopes == (Scope.READ_DEVICE,)
    assert box.tokens.find(secret)
    first = box.clock()
    box.clock.now += 60
    box.tokens.find(secret)
    assert box.tokens.list()[0].used_at == first


@pytest.mark.parametrize(
    ("name", "scopes", "days", "says"),
    [
        ("nobody", ["send"], 1, "no account of this name"),
        ("clinician", [], 1, "must be one or more of"),
        ("clinician", ["send", "everything"], 1, "must be one or more of"),
        ("clinician", ["send"], 0, "1 to 1825 days"),
        ("clinician", ["send"], MOST_DAYS + 1, "1 to 1825 days"),
    ],
)
def test_what_cannot_be_made_says_why(box: Box, name: str, scopes: list[str], days: int, says: str) -> None:
    box.account(Role.CLINICIAN)
    with pytest.raises(TokenError, match=says):
        box.tokens.make(name, scopes, "", "ada", days)
    assert box.tokens.list() == []


def made_on_the_page(client: FlaskClient, **fields: str | list[str]) -> str:
    return client.post("/access/tokens", data={"form_token": token_of(client), **fields}).text


def test_an_administrator_makes_and_revokes_them_on_the_page(box: Box) -> None:
    box.account(Role.SENDER)
    client = box.signed_in(Role.ADMINISTRATOR)
    page = made_on_the_page(client, name="sender", purpose="<b>PACS</b>", scope=["send"], days="30")
    secret = page.partition("<code>")[2].partition("</code>")[0]
    found = box.tokens.find(secret)
    assert found and (found.name, found.scopes, found.created_by) == ("sender", (Scope.SEND,), "administrator")
    page = client.get("/access").text
    assert secret not in page
    assert "&lt;b&gt;PACS&lt;/b&gt;" in page
    refused = made_on_the_page(client, name="sender", purpose="", scope=["send"], days="x")
    assert "1 to 1825 days" in refused
    client.post("/access/tokens/revoke", data={"form_token": token_of(client), "token": found.id})
    assert box.tokens.find(secret) is None
    words = "\n".join(in_words(record.xml or "") for record in box.audit.read())
    assert "API token made: send" in words
    assert f"API token revoked: {found.id}" in words


def test_they_are_made_listed_and_revoked_from_the_console(box: Box, capsys: pytest.CaptureFixture[str]) -> None:
    box.account(Role.SERVICE)
    config = box.state_dir.parent / "scanside.yaml"
    config.write_text(f"state_dir: {box.state_dir}\n")

    def user(*words: str) -> str:
        assert main(["user", *words, "--config", str(config)]) == 0
        return capsys.readouterr().out

    secret = user("token", "service", "--scope", "read/device", "--purpose", "Prometheus").strip()
    found = box.tokens.find(secret)
    assert found and found.scopes == (Scope.READ_DEVICE,)
    line = user("tokens")
    assert secret not in line
    assert line.startswith(f"{found.id}\tservice\tread/device\tuntil ")
    user("revoke", found.id)
    assert box.tokens.find(secret) is None
    words = [in_words(record.xml or "") for record in box.audit.read()]
    assert any("API token made: read/device" in word for word in words)
    assert any(f"API token revoked: {found.id}" in word for word in words)
    assert main(["user", "token", "nobody", "--scope", "send", "--config", str(config)]) == 1
    assert "no account of this name" in capsys.readouterr().err
    assert main(["user", "revoke", "--config", str(config)]) == 2
