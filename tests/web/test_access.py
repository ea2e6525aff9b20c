"""Sessions are seen and ended, the screen is private, the trail is read, and reading it is recorded."""

from __future__ import annotations

from http import HTTPStatus
from pathlib import Path

import pytest

from edge.web.accounts import Role
from edge.web.sessions import SHOWN_FOR, session_id
from tests.store.audit_reading import in_words
from tests.web import samples
from tests.web.conftest import Box, token_of


def end(box: Box, role: Role, session: str) -> int:
    client = box.signed_in(role)
    data = {"form_token": token_of(client), "session": session_id(session)}
    return client.post("/access/sessions/end", data=data).status_code


def test_people_see_and_end_their_own_sessions_and_an_administrator_any(box: Box) -> None:
    tablet, other = (box.sessions.open(box.account(role), "192.0.2.7") for role in (Role.TECHNICIAN, Role.CLINICIAN))
    page = box.signed_in(Role.TECHNICIAN).get("/access").text
    assert "192.0.2.7" in page
    assert "clinician" not in page
    assert "API token" not in page
    assert end(box, Role.TECHNICIAN, other) == HTTPStatus.NOT_FOUND
    assert box.sessions.person(other, renew=False)
    assert end(box, Role.TECHNICIAN, tablet) == HTTPStatus.SEE_OTHER
    assert box.sessions.person(tablet, renew=False) is None
    assert "clinician" in box.signed_in(Role.ADMINISTRATOR).get("/access").text
    assert end(box, Role.ADMINISTRATOR, other) == HTTPStatus.SEE_OTHER
    assert box.sessions.person(other, renew=False) is None
    words = "\n".join(in_words(record.xml or "") for record in box.audit.read())
    assert words.count("a session ended by hand") == 2


@pytest.mark.parametrize("session", ["", "%", "_" * 16, "' OR ''='", "0" * 16, "x" * 5000])
def test_unknown_sessions_are_not_found(box: Box, session: str) -> None:
    client = box.signed_in(Role.ADMINISTRATOR)
    data = {"form_token": token_of(client), "session": session}
    assert client.post("/access/sessions/end", data=data).status_code == HTTPStatus.NOT_FOUND
    assert client.get("/access").status_code == HTTPStatus.OK


def test_in_a_shared_room_patients_show_only_for_a_while_after_somebody_asked(tmp_path: Path) -> None:
    box = Box(tmp_path / "state", privacy_screen=True)
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()

    def page() -> str:
        answer = client.get(f"/results/{stored.id}")
        assert ("Refresh" in answer.headers) is ("…417" in answer.text), (
            "a page that shows them comes back to hide them"
        )
        assert "child 3 y" in answer.text or "patient hidden" in answer.text
        return answer.text + client.get(f"/live/rows/{stored.id}").text + client.get(f"/live/study/{stored.id}").text

    assert "…417" not in page()
    back = {"form_token": token_of(client), "show": "yes", "back": f"/results/{stored.id}"}
    answer = client.post("/privacy", data=back)
    assert answer.headers["Location"] == f"/results/{stored.id}"
    assert page().count("patient hidden") == 0
    assert "…417" in page()
    box.clock.now += SHOWN_FOR
    assert "…417" not in page()
    box.close()


def test_anywhere_a_person_may_hide_them_by_hand(box: Box) -> None:
    samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    assert "…417" in client.get("/").text
    client.post("/privacy", data={"form_token": token_of(client), "show": "no"})
    page = client.get("/").text
    assert "…417" not in page
    assert "Call the clinician now" in page, "that somebody must look shows all the same"
    client.post("/privacy", data={"form_token": token_of(client), "show": "yes"})
    box.clock.now += SHOWN_FOR
    answer = client.get("/")
    assert "…417" in answer.text
    assert "Refresh" not in answer.headers


@pytest.mark.parametrize("back", ["", "//evil.example", "https://evil.example/", "/\\evil", "/results/1\r\nX: y", "/x"])
def test_one_comes_back_to_own_pages_only(box: Box, back: str) -> None:
    client = box.signed_in()
    answer = client.post("/privacy", data={"form_token": token_of(client), "show": "yes", "back": back})
    assert answer.headers["Location"] == "/"


def test_a_locked_screen_tells_how_many_flags_wait_and_nothing_else(box: Box) -> None:
    client = box.app.test_client()
    assert client.get("/api/v1/alert").get_json() == {"waiting": 0}
    for result in (samples.flagged(), samples.flagged(), samples.clear()):
        stored = samples.commit(box.store, result)
    assert client.get("/api/v1/alert").get_json() == {"waiting": 2}
    box.accounts.add("ada", "correct horse battery", Role.TECHNICIAN)
    page = client.get("/sign-in").text
    assert "2 flagged images wait" in page
    assert "alert.js" in page
    assert "417" not in page
    assert stored.id not in page


def test_reading_the_trail_is_in_the_trail(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    box.signed_in(Role.TECHNICIAN).get(f"/results/{stored.id}")
    client = box.signed_in(Role.ADMINISTRATOR)
    page = client.get("/audit").text
    assert "Result and image seen" in page
    assert f"result {stored.id}" in page
    assert "patient …417" in page
    assert "PAT-000417" not in page
    words = [in_words(record.xml or "") for record in box.audit.read()]
    assert words[-1].startswith("Audit Log Used R 0 | administrator")
    assert "Audit trail read" in client.get("/audit").text


def test_the_trail_is_read_page_by_page(box: Box) -> None:
    client = box.signed_in(Role.ADMINISTRATOR)
    for _ in range(102):
        page = client.get("/audit").text
    assert 'href="/audit?before=3"' in page
    older = client.get("/audit?before=3").text
    assert ">2</th>" in older
    assert ">3</th>" not in older
    assert "Older" not in older
    assert client.get("/audit?before=x' OR 1").status_code == HTTPStatus.OK


def test_names_from_outside_show_as_text_in_the_trail(box: Box) -> None:
    client = box.app.test_client()
    box.accounts.add("ada", "correct horse battery", Role.TECHNICIAN)
    client.get("/sign-in")
    form = {
        "form_token": token_of(client, "scanside_form"),
        "name": "<script>alert(1)</script>\u202e",
        "password": "x" * 12,
    }
    client.post("/sign-in", data=form)
    page = box.signed_in(Role.ADMINISTRATOR).get("/audit").text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
