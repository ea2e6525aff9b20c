"""Sessions end when nobody uses them."""

from __future__ import annotations

from edge.web.accounts import Role
from edge.web.sessions import form_token, form_token_fits, new_secret
from tests.web.conftest import IDLE_SECONDS, PASSWORD, Box


def test_a_session_belongs_to_its_account(box: Box) -> None:
    person = box.sessions.person(box.sessions.open(box.account(Role.CLINICIAN)), renew=True)
    assert person and (person.name, person.role) == ("clinician", Role.CLINICIAN)
    assert box.sessions.person("forged", renew=True) is None
    assert box.sessions.person("", renew=True) is None


def test_an_idle_session_is_over(box: Box) -> None:
    token = box.sessions.open(box.account())
    box.clock.now += IDLE_SECONDS - 1
    assert box.sessions.person(token, renew=False)
    box.clock.now += 1
    assert box.sessions.person(token, renew=True) is None


def test_use_renews_a_session_and_the_page_itself_does_not(box: Box) -> None:
    used, watched = box.sessions.open(box.account()), box.sessions.open(box.account())
    for _ in range(3):
        box.clock.now += IDLE_SECONDS / 2
        box.sessions.person(used, renew=True)
        box.sessions.person(watched, renew=False)
    assert box.sessions.person(used, renew=False)
    assert box.sessions.person(watched, renew=False) is None


def test_closing_and_removing_the_account_end_it(box: Box) -> None:
    first, second = box.sessions.open(box.account()), box.sessions.open(box.account())
    box.sessions.close(first)
    assert box.sessions.person(first, renew=True) is None
    assert box.sessions.person(second, renew=True)
    box.accounts.remove("technician")
    assert box.sessions.person(second, renew=True) is None


def test_sessions_that_are_over_do_not_pile_up(box: Box) -> None:
    for _ in range(3):
        box.sessions.open(box.account())
        box.clock.now += IDLE_SECONDS
    with box.file.reading() as sql:
        assert sql.execute("SELECT count(*) AS n FROM open_sessions").fetchone()["n"] == 1


def test_a_form_token_fits_its_own_secret_only() -> None:
    secret, other = new_secret(), new_secret()
    assert secret != other
    assert form_token_fits(secret, form_token(secret))
    assert not form_token_fits(other, form_token(secret))
    assert not form_token_fits(secret, "")
    assert not form_token_fits(secret, "\u00e4" * 64)
    assert secret not in form_token(secret)
    assert PASSWORD not in form_token(secret)
