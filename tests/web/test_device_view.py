"""From the page alone: what is wrong with the box, what will be, and what to do."""

from __future__ import annotations

import logging
import re
from html.parser import HTMLParser

import msgspec
import pytest

from edge import __version__, events, reasons
from edge.device.health import HealthFile, State
from edge.device.history import MINUTES_KEPT, Sample
from edge.device.troubles import TroubleLog
from edge.records import Reason
from edge.web.accounts import Role
from edge.web.condition import Condition, judge, read_condition
from edge.web.graphs import Curve, Graph, over_time
from edge.web.notices import notices, when_full
from edge.web.remedies import REMEDIES
from edge.web.tally import DAYS_KEPT, MOST_NAMES, Tally, count
from tests.web import samples
from tests.web.conftest import SERVICES, Box
from tests.web.test_pages import text_of

DAY = 86_400.0


def condition_of(box: Box) -> Condition:
    return read_condition(box.store, box.state_dir, SERVICES, box.clock())


def test_a_person_finds_that_the_disk_will_be_full_tomorrow(box: Box) -> None:
    box.services_up()
    HealthFile(box.state_dir, "intake", box.clock).report(State.UP, hours_until_full=20.0, synchronised=True)
    box.recorder.look(lambda: condition_of(box))
    page = text_of(box.signed_in(Role.SERVICE).get("/device").text)
    assert f"The disk will be full {when_full(20.0, box.clock())}. From then on no image is taken." in page
    assert "Lower storage.image_days" in page
    assert "Ready, but the disk will be full in about 20 h" in text_of(box.signed_in().get("/").text)


def test_a_person_sees_which_software_runs(box: Box) -> None:
    assert f"Software Scanside {__version__}" in text_of(box.signed_in(Role.SERVICE).get("/device").text)


@pytest.mark.parametrize(
    ("hours", "words"),
    [(3, "today"), (20, "tomorrow"), (30, "tomorrow"), (100, "in 4 days")],
)
def test_when_it_is_full_in_words(monkeypatch: pytest.MonkeyPatch, hours: float, words: str) -> None:
    noon = 1_790_000_000.0 - 1_790_000_000.0 % DAY + 12 * 3600 - _offset()
    assert when_full(hours, noon).startswith(words)
    assert hours > 48 or f"(in {hours:.0f} h)" in when_full(hours, noon)


def _offset() -> float:
    import time  # noqa: PLC0415

    return -time.timezone if not time.localtime(1_790_000_000).tm_isdst else -time.altzone


@pytest.mark.parametrize(("hours", "state"), [(None, State.UP), (47.9, State.DEGRADED), (48.0, State.UP)])
def test_a_disk_that_fills_soon_is_said_on_every_page(hours: float | None, state: State) -> None:
    assert judge((), hours)[0] is state


def test_every_error_of_the_catalogue_has_a_remedy() -> None:
    severe = {
        event
        for event in vars(events).values()
        if isinstance(event, events.Event) and event.level >= logging.ERROR and event.number < 900  # SC900: no box's
    }
    assert set(REMEDIES) == severe


def test_the_last_errors_stand_there_with_number_and_remedy(box: Box) -> None:
    log = TroubleLog(box.state_dir, "intake", box.clock)
    number = events.TLS_UNUSABLE.number
    text = "<script>alert(1)</script>"
    log.emit(logging.LogRecord("scanside", logging.ERROR, "", 0, "SC%03d %s", (number, text), None))
    client = box.signed_in(Role.SERVICE)
    page = client.get("/device").text
    assert f"SC{number}" in page
    assert " ".join(REMEDIES[events.TLS_UNUSABLE]) in text_of(page)
    assert text not in page
    (error,) = client.get("/api/v1/errors").get_json()["errors"]
    assert (error["number"], error["count"], error["text"]) == (f"SC{number}", 1, text)


def changed(condition: Condition, **changes: object) -> Condition:
    return msgspec.structs.replace(condition, **changes)


def test_what_is_amiss_is_said_with_what_to_do(box: Box) -> None:
    box.services_up()
    account = HealthFile(box.state_dir, "inference", box.clock)
    account.list_models(samples.IN_SERVICE)
    account.report(State.UP)
    well = condition_of(box)
    assert well.vitals
    now, vitals = box.clock(), msgspec.structs.replace(well.vitals, temperature_celsius=50.0, memory_available=10**9)
    well = changed(well, vitals=vitals)
    assert notices(well, [], now) == []
    hot = msgspec.structs.replace(vitals, temperature_celsius=91.0)
    throttled = [Sample(minute=1, throttled=3), Sample(minute=2, throttled=9)]
    for amiss, history, says in (
        (changed(well, queue_depth=7, oldest_received_at=now - 1800), [], "7 images wait, the oldest for 30 min"),
        (changed(well, synchronised=False), [], "Nothing keeps the clock right"),
        (changed(well, vitals=hot), [], "The processor is hot: 91 °C."),
        (well, throttled, "The processor was slowed down by heat in the last day."),
        (changed(well, vitals=None), [], "cannot be read"),
        (changed(well, services=()), [], "No model is in service"),
        (changed(well, vitals=msgspec.structs.replace(vitals, memory_available=10**8)), [], "Little memory"),
    ):
        (notice,) = notices(amiss, history, now)
        assert says in notice.what
        assert notice.remedy


class _Tables(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.graphs = self.tables = self.styles = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.graphs += tag == "section" and given.get("class") == "graph"
        self.tables += tag == "details" and not given.get("class")
        self.styles += "style" in given or tag == "style" or (tag == "script" and "src" not in given)


def test_every_graph_has_a_table_and_needs_neither_script_nor_inline_style(box: Box) -> None:
    samples.commit(box.store, samples.flagged(quality=(samples.CUT_OFF,)), pictures=False)
    samples.commit(box.store, samples.not_analysed(Reason.UNDER_AGE), pictures=False)
    box.services_up()
    for _ in range(3):
        box.recorder.look(lambda: condition_of(box))
        box.clock.now += 60
    box.clock.now -= 60
    page = box.signed_in(Role.SERVICE).get("/device").text
    parser = _Tables()
    parser.feed(page)
    empty = page.count("Nothing was measured in this time.")
    assert parser.graphs == parser.tables + empty
    assert parser.tables >= 6
    assert parser.styles == 0
    assert "Pneumonia: mean probability, percent" in page
    trends = box.signed_in(Role.SERVICE).get("/api/v1/trends").get_json()
    assert [day["answers"] for day in trends["days"]] == [{"flagged": 1, "not_analysed": 1}]
    assert {(one["model"], one["statistic"], one["index"]) for one in trends["watched"]} >= {
        ("", "refusals", None),
        (f"{samples.MODEL.id} {samples.MODEL.version}", "scores of Pneumonia", None),
    }
    assert "1: the patient is younger than the model is made for" in text_of(page)


@pytest.mark.parametrize(
    ("values", "segments"),
    [
        ((0.0, 5.0, 10.0), ["0.0,100.0 500.0,50.0 1000.0,0.0"]),
        ((None, None, None), []),
        ((10.0, None, 10.0), ["0.0,0.0 3.0,0.0", "1000.0,0.0 1003.0,0.0"]),
        ((-1.0, 0.0, 10.0), ["0.0,100.0 500.0,100.0 1000.0,0.0"]),
    ],
)
def test_curves_break_where_nothing_is_known(values: tuple[float | None, ...], segments: list[str]) -> None:
    graph = Graph("x", (Curve("x", values),), 0.0, 60.0)
    assert graph.segments(graph.curves[0]) == segments


def test_the_table_says_the_highest_of_each_stretch_newest_first() -> None:
    graph = Graph("x", (Curve("x", tuple(float(number) for number in range(96))),), 0.0, 900.0)
    rows = graph.rows()
    assert rows[0] == (92 * 900.0, (95.0,))
    assert rows[-1] == (0.0, (3.0,))
    assert len(rows) == 24


def test_samples_fall_into_even_stretches_of_time() -> None:
    history = [Sample(minute=minute, queue_depth=minute) for minute in range(1440)]
    values = over_time(history, lambda sample: sample.queue_depth, 0, 1440)
    assert values[:2] == (14.0, 29.0)
    assert values[-1] == 1439.0
    assert over_time([], lambda sample: sample.queue_depth, 0, 1440) == (None,) * 96


def test_answers_are_counted_once_whatever_happens_to_them(box: Box) -> None:
    first = samples.commit(box.store, samples.flagged(), pictures=False)
    box.recorder.look(lambda: condition_of(box))
    box.store.acknowledge(first.id, "ada", "agree")
    samples.commit(box.store, samples.clear(), pictures=False)
    for _ in range(2):
        box.recorder.look(lambda: condition_of(box))
    assert box.recorder.counted() == {"flagged": 1, "clear": 1}
    (day,) = box.recorder.answers().days
    assert day.scores["Pneumonia"].count == 2
    assert day.scores["Pneumonia"].mean == pytest.approx((0.941 + 0.08) / 2)
    box.clock.now += 60
    box.recorder.look(lambda: condition_of(box))
    reopened = type(box.recorder)(box.store, box.state_dir, box.clock, lambda _model: {})
    assert reopened.counted() == {"flagged": 1, "clear": 1}
    reopened.close()


def test_what_is_counted_is_bounded(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged(), pictures=False)
    tally = Tally()
    for number in range(1, 3 * DAYS_KEPT):
        finding = msgspec.structs.replace(stored.result.findings[0], meaning=f"finding {number}")
        result = msgspec.structs.replace(stored.result, findings=(finding,) * 2)
        later = msgspec.structs.replace(stored, number=number, committed_at=number * DAY / 2, result=result)
        tally = count(tally, [later])
    assert len(tally.days) == DAYS_KEPT
    one_day = Tally()
    for number in range(1, 3 * MOST_NAMES):
        finding = msgspec.structs.replace(stored.result.findings[0], meaning=f"finding {number}")
        result = msgspec.structs.replace(stored.result, findings=(finding,))
        one_day = count(one_day, [msgspec.structs.replace(stored, number=number, result=result)])
    assert len(one_day.days[0].scores) == MOST_NAMES


def test_an_open_device_page_is_drawn_anew_only_when_something_changed(box: Box) -> None:
    box.services_up()
    client = box.signed_in(Role.SERVICE)

    def look(tag: str = "") -> tuple[int, str, str]:
        response = client.get("/live/device-view", headers={"If-None-Match": tag})
        return response.status_code, response.headers["ETag"], text_of(response.text)

    status, tag, said = look()
    assert (status, "intake up" in said) == (200, True)
    assert look(tag)[::2] == (304, "")
    HealthFile(box.state_dir, "intake", box.clock).report(State.DEGRADED, reasons.DISK_FULL)
    status, changed_tag, said = look(tag)
    assert (status, "intake degraded" in said) == (200, True)
    assert look(changed_tag)[0] == 304
    box.clock.now += 60
    assert look(changed_tag)[0] == 200  # its curves have one more minute


@pytest.mark.parametrize(("query", "status"), [("", 200), ("?hours=1", 200), ("?hours=168", 200), ("?hours=169", 422)])
def test_history_over_the_api(box: Box, query: str, status: int) -> None:
    box.services_up()
    box.recorder.look(lambda: condition_of(box))
    response = box.signed_in(Role.SERVICE).get(f"/api/v1/history{query}")
    assert response.status_code == status
    if status == 200:
        (sample,) = response.get_json()["samples"]
        assert sample["queue_depth"] == 0
        assert re.fullmatch(r"\d+", str(sample["minute"]))
    assert MINUTES_KEPT == 168 * 60
