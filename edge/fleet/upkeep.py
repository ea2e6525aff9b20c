"""What a collector does beside collecting: evaluates the alarms, and removes what is old."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import sqlalchemy as sql

from edge.fleet import database as db
from edge.fleet import queries, reports
from edge.fleet.alarms import DAY, Rule, Standing, step
from edge.fleet.standing import measures

_SESSION_DAYS = 90
_BOXES_AT_ONCE = 100


def evaluate(
    engine: sql.Engine,
    rules: Sequence[Rule],
    now: float,
    interval: float,
    wanted: Mapping[str, str] = MappingProxyType({}),
) -> list[tuple[int, Rule, Standing]]:
    """Bring the alarms of all boxes up to date; those that were raised or cleared.

    Any number of collectors may do so: they see the same rows and come to the same alarms. `interval` and `wanted` are
    those of `edge.fleet.standing.measures`.
    """
    told: list[tuple[int, Rule, Standing]] = []
    with engine.begin() as connection:
        db.take_turn(connection)
        before = queries.standings(connection)
        changed: list[dict[str, Any]] = []
        gone: list[tuple[int, str, float]] = []
        for facts in queries.facts(connection, now):
            values = measures(facts, now, interval, wanted)
            known = before.get(facts.id, {})
            for rule in rules:
                stood = known.get(rule.name)
                stands = step(rule, values[rule.measure], stood, now)
                if stands == stood:
                    continue
                if stands is None:
                    assert stood is not None  # noqa: S101 - else both were None
                    gone.append((facts.id, rule.name, stood.begun_at))
                    continue
                changed.append({"box_id": facts.id, "rule": rule.name, **stands._asdict()})
                newly = stands.cleared_at if stood and stood.raised_at else stands.raised_at
                if newly is not None:
                    told.append((facts.id, rule, stands))
        _write(connection, changed, gone)
    return told


def _write(connection: sql.Connection, changed: list[dict[str, Any]], gone: Iterable[tuple[int, str, float]]) -> None:
    if changed:
        put = db.insert(connection, db.alarms)
        new = {name: put.excluded[name] for name in ("raised_at", "calm_since", "cleared_at")}
        put = put.on_conflict_do_update(index_elements=["box_id", "rule", "begun_at"], set_=new)
        connection.execute(put, changed)
    a = db.alarms.c
    for box_id, rule, begun_at in gone:
        connection.execute(sql.delete(db.alarms).where(a.box_id == box_id, a.rule == rule, a.begun_at == begun_at))


def remove_old(engine: sql.Engine, now: float, health_days: int, summary_days: int) -> None:
    """Remove history that is older than it is kept for. Counts a day stay.

    Some boxes at a time, each by an index: nobody waits long for the database, however much there is. Summaries from a
    clock that runs ahead stay until it is their turn.
    """
    health, summaries = now - health_days * DAY, now - summary_days * DAY
    h, s = db.health.c, db.summaries.c
    number: sql.BindParameter[int] = sql.bindparam("number")
    old_health = sql.delete(db.health).where(h.box_id == number, h.received_at < health)
    old_summaries = sql.delete(db.summaries).where(
        s.box_id == number, s.hour < int(summaries), s.received_at < summaries
    )
    with engine.begin() as connection:
        connection.execute(sql.delete(db.sessions).where(db.sessions.c.first_at < now - _SESSION_DAYS * DAY))
        connection.execute(sql.delete(db.alarms).where(db.alarms.c.cleared_at < summaries))
        reports.remove_old(connection, summaries)
        boxes = [{"number": number} for number in connection.execute(sql.select(db.boxes.c.id)).scalars()]
    for some in range(0, len(boxes), _BOXES_AT_ONCE):
        with engine.begin() as connection:
            for statement in (old_health, old_summaries):
                connection.execute(statement, boxes[some : some + _BOXES_AT_ONCE])


def say_alive(engine: sql.Engine, name: str, now: float, *, connected: bool) -> None:
    """Write that this collector works: where none does, the page says that it shows old data."""
    with engine.begin() as connection:
        put = db.insert(connection, db.collectors)
        put = put.on_conflict_do_update(
            index_elements=["name"], set_={"alive_at": put.excluded.alive_at, "connected": put.excluded.connected}
        )
        connection.execute(put, {"name": name, "alive_at": now, "connected": connected})
