"""The page in each of its languages."""

from __future__ import annotations

import errno
import logging
import os
import re
from collections import Counter
from collections.abc import Callable
from string import Formatter
from typing import Literal

import msgspec
import pytest

from edge import reasons
from edge.device.drift import of_answer, of_image
from edge.device.health import HealthFile, State
from edge.device.history import Sample
from edge.device.troubles import TroubleLog
from edge.records import OrderDifference, Reason, Status
from edge.store.audit import actions
from edge.web import languages, retelling, words
from edge.web.accounts import Role
from edge.web.condition import read_condition
from edge.web.languages import LANGUAGES
from edge.web.notices import notices
from edge.web.remedies import REMEDIES, last_errors
from edge.web.trail_view import line_of
from tests.web import samples
from tests.web.conftest import Box
from tests.web.test_pages import text_of

OTHERS = tuple(LANGUAGES)[1:]


@pytest.mark.parametrize(
    ("accepts", "cookie", "spoken"),
    [
        ("", None, "en"),
        ("fr-CH, fr;q=0.9, en;q=0.8", None, "fr"),
        ("de, hi;q=0.5", None, "hi"),
        ("de", None, "en"),
        ("ar", "sw", "sw"),
        ("ar", "xx", "ar"),
        ("x" * 3000, "../../etc", "en"),
    ],
)
def test_the_language_is_the_persons_then_the_browsers_then_the_box_s(
    box: Box, accepts: str, cookie: str | None, spoken: str
) -> None:
    client = box.signed_in()
    if cookie:
        client.set_cookie("scanside_language", cookie)
    assert f'<html lang="{spoken}"' in client.get("/", headers={"Accept-Language": accepts}).text


def test_the_configured_language_is_for_browsers_that_ask_for_none(box: Box) -> None:
    box.app.config["BABEL_DEFAULT_LOCALE"] = "pt"
    box.app.extensions["babel"].default_locale = "pt"
    assert '<html lang="pt"' in box.signed_in().get("/").text


@pytest.mark.parametrize("path", ["/sign-in", "/nowhere", "/device?language=xx"])
def test_the_picker_leads_back_to_the_same_page_and_nowhere_else(box: Box, path: str) -> None:
    client = box.signed_in() if "device" in path else box.app.test_client()
    chosen = client.get(path + ("&" if "?" in path else "?") + "language=ar&theme=dark")
    if "xx" in path:  # the first value counts, and is none: nothing is kept
        assert chosen.headers.get("Location", "").startswith("/device")
        return
    assert chosen.headers["Location"] == path
    elsewhere = client.get("/?language=ar", environ_overrides={"PATH_INFO": "//example.org/x"})
    assert elsewhere.headers["Location"] == "/example.org/x"
    page = client.get("/sign-in", follow_redirects=True).text
    assert '<html lang="ar" dir="rtl"' in page
    assert 'content="dark"' in page


@pytest.mark.parametrize("language", OTHERS)
def test_every_page_speaks_the_language(box: Box, language: str) -> None:
    flagged = samples.commit(box.store, samples.flagged(quality=(samples.CUT_OFF,)))
    refused = samples.commit(box.store, samples.not_analysed(Reason.UNDER_AGE))
    box.store.note_order_differences(flagged.id, OrderDifference)
    client = box.signed_in(Role.ADMINISTRATOR)
    client.set_cookie("scanside_language", language)
    ordered = "Not as ordered|date of birth|another patient"
    english = re.compile(
        rf"{ordered}|Call the clinician|Worklist|Probability|Image quality|What was looked for|Agree\b|Queue"
    )
    for path in (
        "/",
        f"/results/{flagged.id}",
        f"/results/{refused.id}",
        "/device",
        "/upload",
        f"/live/rows/{flagged.id}",
    ):
        page = client.get(path).text
        assert not english.search(page), (path, english.search(page))
    api = client.get(f"/api/v1/results/{flagged.id}").json
    assert api is not None
    assert api["headline"] == "Flagged: pneumonia, very likely"  # programs are answered in English


def in_language(box: Box, language: str, read: Callable[[], list[str]]) -> list[str]:
    """What is said to somebody who reads this language."""
    with box.app.test_request_context(headers={"Accept-Language": language}):
        return read()


def logged(box: Box) -> list[str]:
    """What the page says of every error of the catalogue, and what to do."""
    for number, event in enumerate(REMEDIES):
        fields = [(name, spec) for _, name, spec, _ in Formatter().parse(event.template) if name]
        text = event.template.format(**{name: 7 if spec else f"the-{name}" for name, spec in fields})
        log = TroubleLog(box.state_dir, f"service-{number // 10}", box.clock)
        log.emit(logging.LogRecord("scanside", logging.ERROR, "", 0, "SC%03d %s", (event.number, text), None))
    return [words for error in last_errors(box.state_dir) for words in (error.text, error.remedy)]


def to_be_done(box: Box) -> list[str]:
    """Every notice of the device page."""
    condition = read_condition(box.store, box.state_dir, ("intake", "web"), box.clock())
    assert condition.vitals
    web = HealthFile(box.state_dir, "web", box.clock)
    web.report(State.DEGRADED, "why")
    degraded = read_condition(box.store, box.state_dir, ("intake", "web"), box.clock())
    vitals = msgspec.structs.replace(condition.vitals, temperature_celsius=91.0, memory_available=10**8)
    worst = msgspec.structs.replace(
        degraded, vitals=vitals, hours_until_full=20.0, queue_depth=7, oldest_received_at=box.clock() - 9000,
        synchronised=False,
    )  # fmt: skip
    history = [Sample(minute=1, throttled=3), Sample(minute=2, throttled=9)]
    found = [*notices(worst, history, box.clock()), *notices(msgspec.structs.replace(worst, vitals=None), [], 0.0)]
    return [words for notice in found for words in notice]


def in_the_trail(box: Box) -> list[str]:
    """What the page says of every kind of audit message, but for names and numbers."""
    source, who = box.audit.source, actions.Person("ada", "192.0.2.7")
    stored = samples.commit(box.store, samples.flagged(), pictures=False)
    received = Counter((actions.Received("P1", True, "1.2", "1.2.3"),))
    box.audit.record(
        actions.application(source, starts=True),
        actions.application(source, starts=False),
        actions.signed_in(source, who),
        actions.sign_in_refused(source, who, "why"),
        actions.sign_in_locked(source, who, 60.0),
        actions.signed_out(source, who),
        actions.listed(source, who, "/", "GET /"),
        actions.viewed(source, who, stored),
        *(actions.acknowledged(source, who, stored, answer, stands=True) for answer in words.Answer),
        actions.exported(source, who, stored, "file:/x"),
        actions.imported(source, who, received, "upload"),
        *actions.transferred(source, actions.program(who), received),
        actions.restricted(source, who, "GET /"),
        actions.restricted(source, who, "GET /", "not in the token's scopes"),
        actions.node_refused(source, "192.0.2.8", "why"),
        *(actions.account_changed(source, who, "bob", what) for what in ACCOUNT_CHANGES),
        *(actions.whole_box(source, who, what, "file:/x") for what in WHOLE_BOX),
        actions.trail_used(source, "root", "/audit"),
        actions.recording_resumed(source, 3, 0.0),
        actions.records_retired(source, 3, 2190),
    )
    lines = [line_of(each) for each in box.audit.read(0, 1000)]
    about = [about for line in lines for about in line.about if not re.fullmatch(r"[\w/:.]+|192.0.2.8: why", about)]
    return [*(line.what for line in lines), *filter(None, (line.outcome for line in lines)), *about]


def reasons_given(box: Box) -> list[str]:
    """What the page says of every reason that a service may give."""
    told = []
    for template in reasons.ALL:
        text = template.format(**{name: f"the-{name}" for _, name, _, _ in Formatter().parse(template) if name})
        HealthFile(box.state_dir, "sync", box.clock).report(State.DEGRADED, text)
        condition = read_condition(box.store, box.state_dir, ("sync",), box.clock())
        told += [condition.services[0].reason, condition.fleet_link]
    return told


ACCOUNT_CHANGES = (
    "created, role technician",
    "created with the first-boot code, role administrator",
    "password changed",
    "removed",
    "API token made: send",
    "API token revoked: 1a2b",
    "a session ended by hand",
)
SAME = {("fr", "patient …417"), ("fr", "patient …1")}
"""What reads the same in a language as in English."""

WHOLE_BOX: tuple[Literal["backup", "restore", "factory-reset"], ...] = ("backup", "restore", "factory-reset")


@pytest.mark.parametrize("said", [logged, to_be_done, in_the_trail, reasons_given])
def test_what_other_parts_have_said_is_said_in_the_language(box: Box, said: Callable[[Box], list[str]]) -> None:
    """Each sentence in each language is another one than in English, with the same values in it."""
    english = in_language(box, "en", lambda: said(box))
    for language in OTHERS:
        again = Box(box.state_dir.parent / language)
        translated = in_language(again, language, lambda: said(again))  # noqa: B023 - called at once
        again.close()
        assert len(translated) == len(english)
        for text, source in zip(translated, english, strict=True):
            assert text != source or (language, text) in SAME, (language, text)
            assert set(re.findall(r"the-\w+", text)) == set(re.findall(r"the-\w+", source))


def test_reasons_within_and_after_one_another_are_told_too(box: Box) -> None:
    parked = reasons.RESULTS_PARKED.format(count=2, destination="main")
    waits = reasons.RESULTS_WAIT.format(count=3, destination="ward", why=reasons.NO_CONNECTION)
    unknown = reasons.NOT_FORWARDED.format(why="something else")
    for text, kept in (
        (reasons.joined([reasons.NO_REPORTS, waits, parked, waits]), "ward"),
        (unknown, "something else"),
        ("something else", "something else"),
    ):
        assert in_language(box, "en", lambda: [retelling.reason(text)]) == [text]  # noqa: B023 - called at once
        (said,) = in_language(box, "fr", lambda: [retelling.reason(text)])  # noqa: B023
        assert kept in said
        assert not re.search(r"results|cannot|no connection", said)


@pytest.mark.parametrize("language", OTHERS)
def test_what_is_watched_for_drift_has_words_in_the_language(box: Box, language: str) -> None:
    stored = samples.commit(box.store, samples.flagged(), pictures=False)
    names = sorted(of_image(stored) | of_answer(stored))
    for name, said in zip(names, in_language(box, language, lambda: [*map(words.statistic, names)]), strict=True):
        assert said != name


@pytest.mark.parametrize("language", OTHERS)
def test_an_error_of_the_system_within_a_reason_is_told_too(box: Box, language: str) -> None:
    for number in (errno.EADDRINUSE, errno.ENOSPC, errno.EIO, errno.EACCES, errno.ETIMEDOUT, errno.ECONNREFUSED):
        text = reasons.CANNOT_LISTEN.format(port=104, error=os.strerror(number))
        (said,) = in_language(box, language, lambda: [retelling.reason(text)])  # noqa: B023 - called at once
        assert os.strerror(number) not in said
        assert "104" in said
    (said,) = in_language(box, language, lambda: [retelling.reason(reasons.NOT_FORWARDED.format(why="Unheard of"))])
    assert "Unheard of" in said


def test_arabic_separates_by_its_own_marks(box: Box) -> None:
    two = samples.flagged(findings=(samples.finding(0.94), samples.finding(0.7)))
    stored = samples.commit(box.store, two)
    box.services_up()
    client = box.signed_in(Role.ADMINISTRATOR)
    client.set_cookie("scanside_language", "ar")
    said = in_language(box, "ar", lambda: [words.headline(two), words.advice(two)])
    said += [text_of(client.get(path).text) for path in ("/", f"/results/{stored.id}", "/device", "/access")]
    assert "؛" in said[0]
    assert "،" in said[1]
    for text in said:
        assert not re.search(r"[,;] ", text)


def test_curves_have_the_decimal_comma_of_the_language(box: Box) -> None:
    box.services_up()
    box.recorder.look(lambda: read_condition(box.store, box.state_dir, ("web",), box.clock()))
    client = box.signed_in(Role.SERVICE)
    client.set_cookie("scanside_language", "fr")
    newest = text_of(" ".join(re.findall(r'<span class="key">.*?</span>', client.get("/device").text, re.DOTALL)))
    assert re.search(r"\d,\d", newest)
    assert not re.search(r"\d\.\d", newest)


def test_words_say_the_same_four_answers_in_each_language(box: Box) -> None:
    for language in LANGUAGES:
        with box.app.test_request_context(headers={"Accept-Language": language}):
            said = {words.headline(samples.result(status)) for status in Status}
            assert len(said) == 4
            assert words.percent(1.0) != words.percent(0.98)
            assert languages.number(1234.5, 1)[0] == "1"
