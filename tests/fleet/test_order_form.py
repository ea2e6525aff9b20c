"""The form for orders: what it offers and why not more, and settings as a person writes them."""

from __future__ import annotations

import re

import pytest

from edge.fleet import ordering
from edge.fleet.order_pages import OPERATIONS, settings_in
from tests.fleet.boxes import about, health, reported, state
from tests.fleet.test_console import Page, accounts, page, send, text_of, url

__all__ = ["accounts", "page", "url"]

REST = {"wave": "1", "go_on_percent": "100", "stop_after": "1", "deadline_minutes": "5"}


def _offered(page: Page) -> list[str]:
    select = re.search(r'<select name="operation".*?</select>', page.signed_in().get("/orders/new").text, re.DOTALL)
    assert select
    return re.findall(r'value="([^"]+)"', select[0])


def test_offered_is_what_every_chosen_box_says_that_it_can(page: Page) -> None:
    """CMD-CAPABILITY-01"""
    page.say(state(), about(*OPERATIONS), health())
    assert _offered(page) == list(OPERATIONS)
    assert "Not offered" not in text_of(page.signed_in().get("/orders/new"))
    page.say(state(), about("health-check", "log-excerpt"), health(), box="box-2")
    assert _offered(page) == ["health-check", "log-excerpt"]
    form = text_of(page.signed_in().get("/orders/new"))
    assert "restart a service: not clinic/box-2 " in form
    assert "say health now: not" not in form
    page.say(about(*OPERATIONS), box="box-2")
    assert _offered(page) == list(OPERATIONS)


def test_a_box_of_which_it_was_never_heard_what_it_can_is_offered_nothing(page: Page) -> None:
    page.say(state(), health())
    assert _offered(page) == []
    told = "not clinic/box-1 (of 1 it was never heard what they can do)"
    assert text_of(page.signed_in().get("/orders/new")).count(told) == len(OPERATIONS)


def test_what_a_box_cannot_do_any_more_is_not_ordered(page: Page) -> None:
    """The form was fetched before."""
    page.say(state(), about("health-check"), health())
    fields = {"count": "1", "service": "web", **REST}
    refused = send(page.signed_in(), "/orders/new", operation="restart", **fields)
    assert (refused.status_code, "restart a service: not clinic/box-1: choose" in refused.text) == (422, True)
    with page.engine.connect() as connection:
        assert ordering.rollouts(connection) == []
    assert send(page.signed_in(), "/orders/new", operation="health-check", **fields).status_code == 303
    with page.engine.connect() as connection:
        assert len(ordering.rollouts(connection)) == 1


def test_settings_are_shown_and_stand_in_the_form_of_one_box(page: Page) -> None:
    page.say(state(), health(), reported(operating_point="sensitive", threads=2))
    visitor = page.signed_in()
    lines = 'inference.operating_point: "sensitive"', "inference.threads: 2"
    assert f"{lines[0]} {lines[1]} version 7" in text_of(visitor.get("/boxes/clinic/box-1")).replace("&#34;", '"')
    form = visitor.get("/orders/new?text=clinic/box-1")
    assert "\n".join(lines) in form.text.replace("&#34;", '"')
    page.say(state(), health(), box="box-2")
    assert lines[1] not in visitor.get("/orders/new").text.replace("&#34;", '"')


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", []),
        (
            "inference.threads: 2\n\n mqtt.summary_hour : false ",
            [("inference.threads", 2), ("mqtt.summary_hour", False)],
        ),
        ("inference.operating_point: null", [("inference.operating_point", None)]),
        ("inference.operating_point: sensitive", [("inference.operating_point", "sensitive")]),
    ],
)
def test_settings_as_a_person_writes_them(text: str, settings: list[tuple[str, object]]) -> None:
    assert [(one.key, one.value) for one in settings_in(text)] == settings


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("inference.threads", "must be KEY: VALUE"),
        ("web.host: 0.0.0.0", "one of the keys"),
        ("inference.threads: 1\ninference.threads: 2", "twice"),
        ("inference.threads: [1]", "no number"),
        ("inference.threads: 2026-11-26", "no number"),
        ("inference.threads: {", "no number"),
        ("patient", "one of the keys"),
    ],
)
def test_settings_that_are_none_order_nothing(page: Page, text: str, words: str) -> None:
    page.say(state(), health())
    answer = send(page.signed_in(), "/orders/new", count="1", operation="configure", settings=text, **REST)
    assert (answer.status_code, words in answer.text) == (422, True)
    with page.engine.connect() as connection:
        assert ordering.rollouts(connection) == []
