"""What comes from outside, in any field and on any route, shows as text, finds nothing, and leads nowhere."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

import pytest

from edge.records import Subject
from edge.web.accounts import Role
from edge.web.permissions import OPEN, PERMISSIONS
from tests.web import samples
from tests.web.conftest import Box
from tests.web.test_permissions import path_of, routes
from tests.web.test_upload import JPEG, upload

HOSTILE = (
    '"><script>alert(1)</script>',
    "'; DROP TABLE results; --",
    "{{ 7 * 7 }}{% for x in config %}{{ x }}{% endfor %}",
    "x\r\nSet-Cookie: scanside_session=stolen\r\n\r\n<b>",
    "\u202e\u2066gnp.exe\u0000\u001b[31m",
    "=cmd|'/C calc'!A0",
    "A" * 20_000,
)
IDS = (
    "none",
    "' OR ''='",
    "../../../etc/passwd",
    "%00",
    "\u202e",
    "a" * 4000,
    "<script>alert(1)</script>",
    "x\r\nSet-Cookie: a=b",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_every_field_that_comes_with_an_image_shows_as_text(box: Box, text: str) -> None:
    fields = {name: text for name in Subject.__struct_fields__ if name != "age_years"}
    hostile = samples.flagged(source=text, sop_instance_uid=text)
    stored = samples.commit(box.store, hostile, Subject(age_years=3.0, **fields), pictures=False)
    box.services_up()
    client = box.signed_in(Role.ADMINISTRATOR)
    for rule, method in routes(box):
        if method != "GET" or rule.endpoint in ("static", "live.events", "probes.readyz"):
            continue
        response = client.get(path_of(rule, stored.id))
        assert response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, rule
        assert "stolen" not in str(response.headers)
        if response.mimetype == "text/html":
            assert "<script>alert" not in response.text, rule
            assert "\u202e" not in response.text, rule
            assert "A" * 1000 not in response.text, rule
            assert ">49" not in response.text, rule
    assert box.store.result(stored.id) is not None


@pytest.mark.parametrize("result_id", IDS)
def test_unknown_ids_find_nothing_and_are_not_repeated(box: Box, result_id: str) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in(Role.ADMINISTRATOR)
    for rule, method in routes(box):
        if method != "GET" or "result_id" not in rule.arguments:
            continue
        response = client.get(path_of(rule, quote(result_id, safe="")))
        assert response.status_code == HTTPStatus.NOT_FOUND, rule
        assert "…417" not in response.text
        assert stored.id not in response.text
        assert len(result_id) < 5 or result_id not in response.text, rule


@pytest.mark.parametrize("query", ["before={}", "cursor={}", "limit={}", "hours={}", "after={}", "next={}", "page={}"])
def test_hostile_queries_are_refused_or_ignored(box: Box, query: str) -> None:
    client = box.signed_in(Role.ADMINISTRATOR)
    for text in (*IDS, "-1", "9" * 400, "1e9", "NaN"):
        for rule, method in routes(box):
            closed = PERMISSIONS[rule.endpoint] is OPEN and rule.endpoint != "sign_in.sign_in_form"
            if method != "GET" or rule.arguments or closed or rule.endpoint == "probes.readyz":
                continue
            with client.get(f"{rule.rule}?{query.format(quote(text, safe=''))}") as response:
                assert response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR, (rule, text)
                assert "Set-Cookie: a=b" not in str(response.headers)
                if response.mimetype == "text/html":
                    assert b"<script>alert" not in response.data


@pytest.mark.parametrize(
    "name",
    [
        "../../../../tmp/scanside-traversal.jpg",
        "..\\..\\x.jpg",
        "/etc/cron.d/x",
        "a\x00b.jpg",
        "x" * 3000,
        "\u202egpj.exe",
    ],
)
def test_a_files_name_is_no_path(box: Box, name: str, caplog: pytest.LogCaptureFixture) -> None:
    before = {path for path in box.state_dir.parent.rglob("*") if box.state_dir not in path.parents}
    response = upload(box.signed_in(), JPEG, name=name)
    assert response.status_code == HTTPStatus.SEE_OTHER
    instance = box.store.claim()
    assert instance is not None
    assert box.store.read(instance.id) == JPEG
    assert {path for path in box.state_dir.parent.rglob("*") if box.state_dir not in path.parents} == before
    assert not any("traversal" in str(path) for path in box.state_dir.rglob("*"))
    assert "traversal" not in caplog.text
