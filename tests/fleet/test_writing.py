"""What is written: each message once, the counts that go with it, and what no database can hold kept apart."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sql

from edge.errors import ScansideError
from edge.fleet import database as db
from edge.fleet import queries, reports, upkeep
from edge.fleet.alarms import DAY, RULES
from edge.fleet.database import open_database
from edge.fleet.reading import Apart, Said, Why, read
from edge.fleet.standing import Condition, Facts, condition
from edge.fleet.writing import KEPT_APART, Arrival, Writer, Written
from edge.records import Status
from tests.fleet.boxes import (
    NOW,
    OTHER_SESSION,
    SESSION,
    about,
    addressed,
    aggregate,
    audit_head,
    errors,
    health,
    service,
    state,
    summary,
)


def _arrivals(*messages: Any, box: str = "box-1", at: float = NOW, live: bool = True) -> list[Arrival]:
    said = [read(*addressed(message, box)) for message in messages]
    return [Arrival(one, at, live) for one in said if one]


def _box(engine: sql.Engine, now: float = NOW) -> Facts:
    with engine.connect() as connection:
        (facts,) = queries.facts(connection, now)
    return facts


def test_each_message_counts_once(engine: sql.Engine) -> None:
    writer = Writer(engine)
    answers = [summary(Status.FLAGGED, quality=("DCM:111209",)), summary(), summary(Status.NOT_ANALYSED)]
    batch = _arrivals(*answers, answers[0], health(0), health(0))
    assert writer.write(batch) == Written(4, 2, 0)
    assert Writer(engine).write(batch) == Written(0, 6, 0)
    facts = _box(engine)
    assert (facts.results, facts.flagged, facts.refused, facts.warned) == (3, 1, 1, 1)
    assert facts.missing == 0


def test_the_same_id_from_another_box_is_another_message(engine: sql.Engine) -> None:
    answer = summary()
    writer = Writer(engine)
    assert writer.write(_arrivals(answer) + _arrivals(answer, box="box-2")) == Written(2, 0, 0)


def test_what_the_page_shows_of_a_box(engine: sql.Engine) -> None:
    said = [state(), about(), service("intake"), service("inference", "degraded"), health(ts=NOW - 7)]
    Writer(engine).write(_arrivals(*said))
    facts = _box(engine)
    assert (facts.software, facts.not_up, facts.disk_used, facts.clock_off) == ("0.1.0", 1, 0.5, -7.0)
    assert "cxr-pneumonia" in facts.models
    assert condition(facts, NOW, 60) is Condition.DEGRADED
    Writer(engine).write(_arrivals(service("inference")))
    assert condition(_box(engine), NOW, 60) is Condition.RUNNING


def test_what_the_broker_had_retained_is_no_sign_of_life(engine: sql.Engine) -> None:
    Writer(engine).write(_arrivals(state(), about(), health(), live=False))
    facts = _box(engine)
    assert facts.born
    assert condition(facts, NOW, 60) is Condition.NEVER


@pytest.mark.parametrize(
    ("said", "word"),
    [
        ([state("ready"), state("lost")], "lost"),
        ([state("ready", OTHER_SESSION), state("lost", SESSION)], "ready"),
        ([state("lost"), state("ready", OTHER_SESSION)], "ready"),
        ([state("lost", SESSION)], "lost"),
    ],
)
def test_a_will_of_an_older_connection_counts_for_nothing(engine: sql.Engine, said: list[Any], word: str) -> None:
    Writer(engine).write(_arrivals(*said))
    assert _box(engine).word == word


@pytest.mark.parametrize(
    ("came", "missing"),
    [([0, 1, 2], 0), ([2, 0, 1], 0), ([0, 2, 2], 1), ([7, 4], 2), ([4], 0), ([], 0)],
)
def test_lost_health_messages_are_counted_whatever_their_order(
    engine: sql.Engine, came: list[int], missing: int
) -> None:
    for batch in ([state()], [health(seq) for seq in came[:1]], [health(seq) for seq in came[1:]]):
        Writer(engine).write(_arrivals(*batch))
    assert _box(engine).missing == missing


@pytest.mark.parametrize(
    ("said", "unclean"),
    [
        ([("0", 100), ("1", 200)], 0),
        ([("0", 100), ("1", 60)], 1),
        ([("0", 60), ("0", 100), ("1", 80), ("1", 200), ("2", 150), ("3", 160)], 2),
        ([("0", 100), ("0", "stopping"), ("1", 60)], 0),
        ([("0", 100), ("0", "lost"), ("1", 60)], 1),
        ([("0", 100), ("1", 60), ("1", 50), ("1", "stopping"), ("2", 40)], 1),
    ],
)
def test_restarts_without_farewell_are_told_by_uptime_and_by_no_clock(
    engine: sql.Engine, said: list[tuple[str, Any]], unclean: int
) -> None:
    for seq, (name, what) in enumerate(said):
        session = name * 32
        word = isinstance(what, str)
        message = state(what, session) if word else health(seq, session, NOW - 1e6 * seq, uptime_seconds=what)
        Writer(engine).write(_arrivals(message, at=NOW + seq))
    assert _box(engine, NOW + 60).unclean == unclean
    assert _box(engine, NOW + 90_000).unclean == 0, "a day later"


def test_what_no_database_can_hold_is_kept_apart_alone(engine: sql.Engine) -> None:
    good = _arrivals(summary(), summary())
    huge = Said("clinic", "box-1", summary(latency_ms=10**30))  # the reader would have seen to it
    assert Writer(engine).write([good[0], Arrival(huge, NOW, live=True), good[1]]) == Written(2, 0, 1)
    with engine.connect() as connection:
        counts, newest = queries.apart(connection)
    assert counts == {Why.UNSTORABLE: 1}
    assert newest[0].topic == "clinic/box-1"


def test_what_is_kept_apart_is_counted_and_only_the_newest_stays(engine: sql.Engine) -> None:
    writer = Writer(engine)
    many = [Arrival(Apart(f"t/{number}", b"x" * 5000, Why.TOPIC), NOW, live=True) for number in range(KEPT_APART + 5)]
    assert writer.write(many) == Written(0, 0, KEPT_APART + 5)
    with engine.connect() as connection:
        counts, newest = queries.apart(connection)
        kept, longest = connection.execute(
            sql.select(sql.func.count(), sql.func.max(sql.func.length(db.apart.c.payload)))
        ).one()
    assert (counts, kept, longest) == ({Why.TOPIC: KEPT_APART + 5}, KEPT_APART, 4096)
    assert newest[0].topic == f"t/{KEPT_APART + 4}"


def test_an_alarm_from_its_grace_period_to_its_end(engine: sql.Engine) -> None:
    writer = Writer(engine)
    writer.write(_arrivals(state(), health()))

    def evaluate(later: float) -> list[tuple[str, bool]]:
        told = upkeep.evaluate(engine, RULES, NOW + later, 60)
        return [(rule.name, stands.cleared_at is not None) for _, rule, stands in told]

    assert evaluate(60) == []
    assert evaluate(901) == [("lost", False)]
    assert evaluate(906) == []
    writer.write(_arrivals(health(1, ts=NOW + 1000), at=NOW + 1000))
    assert evaluate(1001) == [("lost", True)]
    assert evaluate(1006) == []
    with engine.connect() as connection:
        assert queries.standings(connection) == {}
        ((rule, stood),) = queries.past_alarms(connection, 1)
    assert (rule, stood.raised_at, stood.cleared_at) == ("lost", NOW + 901, NOW + 1001)


def test_an_alarm_that_passes_within_its_grace_period_leaves_nothing(engine: sql.Engine) -> None:
    writer = Writer(engine)
    writer.write(_arrivals(state(), service("inference", "down"), health()))
    assert upkeep.evaluate(engine, RULES, NOW, 60) == []
    writer.write(_arrivals(service("inference", "up"), health(1)))
    assert upkeep.evaluate(engine, RULES, NOW + 30, 60) == []
    with engine.connect() as connection:
        assert queries.standings(connection) == {}
        assert queries.past_alarms(connection, 1) == []


def test_what_is_old_goes_and_the_counts_stay(engine: sql.Engine) -> None:
    Writer(engine).write(_arrivals(state(), summary(), health()))
    upkeep.remove_old(engine, NOW + 10 * DAY, health_days=5, summary_days=5)
    with engine.connect() as connection:
        for table in (db.health, db.summaries):
            assert connection.execute(sql.select(sql.func.count()).select_from(table)).scalar_one() == 0
        assert [day.results for day in queries.last_days(connection, 1, NOW)] == [1]


def test_counts_of_days_and_boxes_add_up_each_once(engine: sql.Engine) -> None:
    first, second = aggregate("2025-11-24", flagged=12, clear=40), aggregate(flagged=5, under_age=4)
    writer = Writer(engine)
    assert writer.write(_arrivals(first, first, second)) == Written(2, 1, 0)
    assert writer.write(_arrivals(first) + _arrivals(first, box="box-2")) == Written(1, 1, 0)
    with engine.connect() as connection:
        numbers = {one.box: one.id for one in connection.execute(sql.select(db.boxes))}
        scores = ("scores", "cxr-pneumonia 1.0.0 SCT:233604007", "0.9")
        expected = {("answers", "", "flagged", 25), ("answers", "", "clear", 80), (*scores, 25)}
        assert set(reports.counted(connection, NOW, 28)) == expected
        one = reports.counted(connection, NOW, 28, [numbers["box-1"]])
        assert set(one) == {("answers", "", "flagged", 15), ("answers", "", "clear", 40), (*scores, 15)}
        assert {(one.name, one.images) for one in reports.counted(connection, NOW, 1)} == {("flagged", 5), ("0.9", 5)}
    assert Writer(engine).write(_arrivals(aggregate("2025-02-31", flagged=5))) == Written(0, 0, 1)


HOUR = 3600.0


@pytest.mark.parametrize(
    ("heads", "back"),
    [
        ([(audit_head(7), 0), (audit_head(7), HOUR), (audit_head(9, ts=NOW + HOUR), HOUR)], False),
        ([(audit_head(9, ts=NOW + 9), 9), (audit_head(7), 10)], False),  # two collectors, out of order
        ([(audit_head(7, ts=NOW + 10 * DAY), 0), (audit_head(9), HOUR)], False),  # its clock was set right
        ([(audit_head(9), 0), (audit_head(7, ts=NOW + HOUR), HOUR)], True),
        ([(audit_head(9), 0), (audit_head(9, "1f" * 32, ts=NOW + HOUR), HOUR)], True),
    ],
)
def test_an_audit_trail_that_went_back_is_an_alarm(
    engine: sql.Engine, heads: list[tuple[Any, float]], back: bool
) -> None:
    for head, later in heads:
        Writer(engine).write(_arrivals(head, at=NOW + later))
    facts = _box(engine)
    assert (facts.trail_back_at == NOW + HOUR) is back
    told = {rule.name for _, rule, _ in upkeep.evaluate(engine, RULES, NOW + HOUR, 60)}
    assert ("audit_trail" in told) is back


def test_of_an_audit_trail_the_furthest_stays_for_ever(engine: sql.Engine) -> None:
    for number in (1, 2, 3):
        Writer(engine).write(_arrivals(audit_head(number), at=NOW + number))
    Writer(engine).write(_arrivals(audit_head(1), box="box-2"))
    upkeep.remove_old(engine, NOW + 10 * DAY, health_days=5, summary_days=5)
    with engine.connect() as connection:
        kept = {(one.box_id, one.number) for one in connection.execute(sql.select(db.audit_heads))}
    assert {number for _, number in kept} == {1, 3}
    assert len(kept) == 2


def test_the_errors_of_a_box_are_those_that_it_told_of_last(engine: sql.Engine) -> None:
    for told in (errors(206, 403), errors(403)):
        Writer(engine).write(_arrivals(told))
    with engine.connect() as connection:
        assert reports.errors(connection, 1) == [("intake", 403, 7, int(NOW))]


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    engine = open_database(url)
    open_database(url).dispose()
    with engine.begin() as connection:
        connection.execute(db.versions.insert().values(version=db.NEWEST + 1))
    with pytest.raises(ScansideError, match="update the software"):
        open_database(url)
    engine.dispose()


def test_an_older_database_is_brought_up_to_date_once(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_database(url).dispose()
    monkeypatch.setattr(db, "NEWEST", db.NEWEST + 1)

    def add_a_note(connection: sql.Connection) -> None:
        connection.execute(sql.text("ALTER TABLE collectors ADD COLUMN note TEXT"))

    monkeypatch.setitem(db.MIGRATIONS, db.NEWEST, add_a_note)
    for _ in range(2):
        engine = open_database(url)
        columns = {column["name"] for column in sql.inspect(engine).get_columns("collectors")}
        engine.dispose()
        assert "note" in columns


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("fleet.sqlite", "cannot be used"),
        ("oracle2://x", "cannot be used"),
        ("sqlite:////nowhere/fleet.sqlite", "cannot be opened"),
        ("postgresql+psycopg://nobody:secret@127.0.0.1:1/x", "cannot be opened"),
    ],
)
def test_a_database_that_is_none_is_one_line(url: str, words: str) -> None:
    with pytest.raises(ScansideError, match=f"database: {words}") as refused:
        open_database(url)
    assert "secret" not in str(refused.value)


def test_a_database_of_the_first_version_becomes_the_present_one(url: str) -> None:
    first = open_database(url)
    with first.begin() as connection:
        for table in (db.orders, db.rollouts, db.aggregates, db.bins, db.audit_heads, db.errors):
            table.drop(connection)
        for column in ("drift", "clock", "certificate_days", "dropped", "trail_back_at", "settings", "capabilities"):
            connection.execute(sql.text(f"ALTER TABLE boxes DROP COLUMN {column}"))
        for column in ("first_uptime", "last_uptime", "said_stopping"):
            connection.execute(sql.text(f"ALTER TABLE sessions DROP COLUMN {column}"))
        connection.execute(db.versions.delete())
        connection.execute(db.versions.insert().values(version=1))
        connection.execute(db.boxes.insert().values(site="clinic", box="box-1", first_seen_at=NOW))
    first.dispose()
    opened = open_database(url)
    Writer(opened).write(_arrivals(health()))
    with opened.connect() as connection:
        (facts,) = queries.facts(connection, NOW)
        assert (facts.clock, facts.drift) == ("right", "[]")
        assert connection.execute(sql.select(db.orders)).all() == []
        assert reports.counted(connection, NOW, 28) == []
    opened.dispose()
