"""Rollouts in both databases, without a broker: written before sent, answered by their own box alone, and stopped."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sql
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge.fleet import database as db
from edge.fleet import ordering
from edge.fleet.cascade import Plan
from edge.fleet.ordering import Made, Publication
from edge.messages.commands import Command, Restart, read
from tests.fleet.boxes import NOW

KEY = Ed25519PrivateKey.generate()
PLAN = Plan(wave=1, go_on_percent=100, stop_after=1, deadline=600)


@pytest.fixture
def rollout(engine: sql.Engine) -> str:
    with engine.begin() as connection:
        rows = [{"site": "clinic", "box": f"box-{number}", "first_seen_at": NOW} for number in (1, 2)]
        connection.execute(db.boxes.insert(), rows)
        boxes = list(connection.execute(sql.select(db.boxes.c.id).order_by(db.boxes.c.box)).scalars())
        return ordering.make(connection, Restart(service="web"), boxes, PLAN, Made("ada", NOW))


def _states(engine: sql.Engine, rollout: str) -> tuple[str, list[str]]:
    with engine.connect() as connection:
        (found,) = ordering.rollouts(connection, rollout)
        return found.progress, [one.state for one in ordering.orders(connection, rollout)]


def _answer(publication: Publication, status: str) -> Command:
    document = read(publication.payload)
    assert isinstance(document, Command)
    return msgspec.structs.replace(document, status=status)


def test_what_goes_out_is_written_before_and_comes_again_until_it_is_answered(engine: sql.Engine, rollout: str) -> None:
    (sent,) = ordering.hand_out(engine, KEY, NOW)
    assert sent.topic.startswith("scanside/1/clinic/box-1/-/cmd/restart/")
    assert ordering.unanswered(engine) == [sent]
    assert ordering.hand_out(engine, KEY, NOW + 1) == []
    assert _states(engine, rollout) == ("running", ["sent", "waiting"])
    order_id = sent.topic.rpartition("/")[2]
    assert ordering.take(engine, order_id, _answer(sent, "executing"), sent.topic) is None
    assert ordering.unanswered(engine) == []
    assert ordering.take(engine, order_id, _answer(sent, "successful"), sent.topic) == Publication(sent.topic, b"")
    (second,) = ordering.hand_out(engine, KEY, NOW + 2)
    assert "/box-2/" in second.topic
    ordering.take(engine, second.topic.rpartition("/")[2], _answer(second, "successful"), second.topic)
    assert ordering.hand_out(engine, KEY, NOW + 3) == []
    assert _states(engine, rollout) == ("finished", ["successful", "successful"])


def test_another_box_cannot_answer_and_what_has_ended_stays_so(engine: sql.Engine, rollout: str) -> None:
    (sent,) = ordering.hand_out(engine, KEY, NOW)
    order_id = sent.topic.rpartition("/")[2]
    foreign = sent.topic.replace("box-1", "box-2")
    assert ordering.take(engine, order_id, _answer(sent, "successful"), foreign) is None
    assert ordering.take(engine, "unknown", _answer(sent, "successful"), sent.topic) is None
    assert ordering.hand_out(engine, KEY, NOW + 601) == [Publication(sent.topic, b"")]
    assert ordering.take(engine, order_id, _answer(sent, "successful"), sent.topic) == Publication(sent.topic, b"")
    assert _states(engine, rollout) == ("stopped", ["overdue", "not sent"])


def test_a_person_stops_it_once(engine: sql.Engine, rollout: str) -> None:
    ordering.hand_out(engine, KEY, NOW)
    with engine.begin() as connection:
        assert ordering.stop(connection, rollout, "by ada")
        assert not ordering.stop(connection, rollout, "by bob")
        assert not ordering.stop(connection, "unknown", "by ada")
    assert ordering.hand_out(engine, KEY, NOW + 1) == []
    assert _states(engine, rollout) == ("stopped", ["sent", "not sent"])
