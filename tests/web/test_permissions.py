"""Every route by every role: what is not allowed in the table is closed."""

from __future__ import annotations

from http import HTTPStatus

import pytest
from werkzeug.routing import Rule

from edge.web.accounts import Role
from edge.web.permissions import OPEN, PATIENT_DATA, PERMISSIONS
from edge.web.sessions import form_token
from tests.web import samples
from tests.web.conftest import Box

REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def routes(box: Box) -> list[tuple[Rule, str]]:
    """Every rule and method of the app."""
    methods = [(rule, method) for rule in box.app.url_map.iter_rules() for method in sorted(rule.methods or ())]
    return [(rule, method) for rule, method in methods if method not in ("HEAD", "OPTIONS")]


def path_of(rule: Rule, result_id: str) -> str:
    return (
        rule.rule.replace("<result_id>", result_id).replace("<study_uid>", "1.2").replace("<path:filename>", "page.css")
    )


def test_the_table_names_every_route_and_nothing_else(box: Box) -> None:
    assert set(PERMISSIONS) == {rule.endpoint for rule in box.app.url_map.iter_rules()}


def test_without_a_session_only_what_is_open_answers(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    for rule, method in routes(box):
        response = box.app.test_client().open(path_of(rule, stored.id), method=method)
        if PERMISSIONS[rule.endpoint] is OPEN:
            assert response.status_code not in REFUSED or method == "POST", rule
        elif rule.rule.startswith(("/api/", "/live/", "/metrics")):
            assert response.status_code == HTTPStatus.UNAUTHORIZED, rule
            assert response.mimetype == "application/problem+json"
        else:
            assert response.status_code == HTTPStatus.SEE_OTHER, rule
            assert response.headers["Location"].startswith("/sign-in")
        assert "…417".encode() not in response.data


@pytest.mark.parametrize("role", Role)
def test_each_role_reaches_what_the_table_says(box: Box, role: Role) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in(role)
    for rule, method in routes(box):
        if method != "GET":
            continue
        response = client.get(path_of(rule, stored.id))
        allowed = PERMISSIONS[rule.endpoint] is OPEN or role in PERMISSIONS[rule.endpoint]
        assert (response.status_code == HTTPStatus.FORBIDDEN) is not allowed, (rule, role)
        if not allowed:
            assert "…417".encode() not in response.data
        response.close()


def test_whoever_looks_after_the_box_sees_no_patient_data(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in(Role.SERVICE)
    for rule, method in routes(box):
        if method == "GET":
            with client.get(path_of(rule, stored.id)) as response:
                seen = b"" if rule.endpoint == "static" else response.data
            assert "…417".encode() not in seen
            assert stored.id.encode() not in seen
    assert Role.SERVICE not in PATIENT_DATA


@pytest.mark.parametrize("token", [None, "", "forged", "0" * 64])
def test_nothing_changes_without_the_pages_own_form(box: Box, token: str | None) -> None:
    stored = samples.commit(box.store, samples.flagged())
    box.accounts.first_boot_code()
    client = box.signed_in()
    for rule, method in routes(box):
        if method == "GET":
            continue
        data = {"response": "agree"} | ({"form_token": token} if token is not None else {})
        response = client.open(path_of(rule, stored.id), method=method, data=data)
        assert response.status_code == HTTPStatus.FORBIDDEN, rule
    unchanged = box.store.result(stored.id)
    assert unchanged and unchanged.acknowledged_at is None
    assert client.get("/").status_code == HTTPStatus.OK


def test_whoever_may_not_send_is_refused_before_the_body_is_read(box: Box) -> None:
    class Unread:
        def read(self, _size: int = -1) -> bytes:
            raise AssertionError("the body was read")

    for client in (box.app.test_client(), box.signed_in(Role.SERVICE)):
        for path in ("/api/v1/studies", "/upload"):
            response = client.post(
                path,
                content_type='multipart/form-data; boundary="x"',
                environ_overrides={"wsgi.input": Unread(), "wsgi.input_terminated": True, "CONTENT_LENGTH": "1000"},
            )
            assert response.status_code in (*REFUSED, HTTPStatus.SEE_OTHER)


def test_another_persons_form_token_does_not_count(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    other = box.sessions.open(box.account(Role.CLINICIAN))
    client = box.signed_in(Role.TECHNICIAN)
    data = {"response": "agree", "form_token": form_token(other)}
    assert client.post(f"/results/{stored.id}/acknowledge", data=data).status_code == HTTPStatus.FORBIDDEN
