"""What collector and console ask of the database. Reading only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sql

from edge.fleet import database as db
from edge.fleet.alarms import DAY, Standing
from edge.fleet.standing import Facts

_SAME = (
    "software",
    "heard_at",
    "session",
    "clock_off",
    "uptime",
    "word",
    "word_session",
    "site",
    "box",
    "first_seen_at",
    "clock",
    "certificate_days",
    "dropped",
    "trail_back_at",
    "settings",
    "capabilities",
)
_FIGURES = ("queue_depth", "queue_oldest", "outbox_depth", "outbox_oldest", "disk_used", "temperature", "latency_p95")
_WEEK = 7


class Point(NamedTuple):
    """One health message of a box's history."""

    received_at: float
    queue_depth: int | None
    outbox_depth: int | None
    disk_used: float | None
    temperature: float | None


class Day(NamedTuple):
    """Answers of one UTC day (its number since the epoch)."""

    day: int
    results: int
    flagged: int
    refused: int
    warned: int


def facts(connection: sql.Connection, now: float, box_id: int | None = None) -> list[Facts]:
    """Every box (or one), by site and name. Takes few queries, whatever the number of boxes."""

    def of(table: sql.Table, query: sql.Select[Any], column: str = "box_id") -> sql.Select[Any]:
        return query if box_id is None else query.where(table.c[column] == box_id)

    b, s, d, v = db.boxes, db.sessions, db.days, db.services
    missing = (s.c.highest - s.c.lowest + 1 - s.c.received).label("missing")
    joined = b.outerjoin(s, (s.c.box_id == b.c.id) & (s.c.session == b.c.session))
    columns = [b.c.id, b.c.models, b.c.drift, *(b.c[name] for name in (*_SAME, *_FIGURES)), missing]
    rows = connection.execute(of(b, sql.select(*columns).select_from(joined), "id").order_by(b.c.site, b.c.box)).all()
    not_up = sql.select(v.c.box_id, sql.func.count()).where(v.c.state != "up").group_by(v.c.box_id)
    opened = sql.select(s.c.box_id, sql.func.count()).where(s.c.first_at > now - DAY).group_by(s.c.box_id)
    sums = [sql.func.sum(d.c[name]) for name in ("results", "flagged", "refused", "warned")]
    week = sql.select(d.c.box_id, *sums).where(d.c.day > int(now // DAY) - _WEEK, d.c.day <= int(now // DAY))
    counted = {row[0]: row[1:] for row in connection.execute(of(d, week).group_by(d.c.box_id))}
    down: dict[int, int] = {row[0]: row[1] for row in connection.execute(of(v, not_up))}
    connections: dict[int, int] = {row[0]: row[1] for row in connection.execute(of(s, opened))}
    unclean: dict[int, int] = {row[0]: row[1] for row in connection.execute(_unclean(of, now))}
    return [_facts(row._mapping, down, connections, unclean, counted) for row in rows]


def _unclean(of: Callable[..., sql.Select[Any]], now: float) -> sql.Select[Any]:
    """How often within a day each box was switched on anew after a connection on which it never said that it leaves.

    It was, when it has been on for a shorter time than on the connection before: no clock has a part in that. One that
    came back only after a longer time than that is not counted.
    """
    s = db.sessions
    in_order: dict[str, Any] = {"partition_by": s.c.box_id, "order_by": s.c.first_at}
    longest = sql.func.lag(s.c.last_uptime).over(**in_order).label("longest")
    left = sql.func.lag(s.c.said_stopping, type_=sql.Boolean()).over(**in_order).label("left_before")
    query = sql.select(s.c.box_id, s.c.first_uptime, longest, left).where(s.c.first_at > now - DAY)
    day = of(s, query).subquery().c
    restarted = (day.first_uptime < day.longest) & day.left_before.is_not(sql.true())
    return sql.select(day.box_id, sql.func.count()).where(restarted).group_by(day.box_id)


def _facts(
    row: Any, down: dict[int, int], connections: dict[int, int], unclean: dict[int, int], counted: dict[int, Any]
) -> Facts:
    number = row["id"]
    results, flagged, refused, warned = (int(count) for count in counted.get(number, (0, 0, 0, 0)))
    return Facts(
        id=number,
        **{name: row[name] for name in (*_SAME, *_FIGURES)},
        models=row["models"] or "[]",
        drift=row["drift"] or "[]",
        missing=row["missing"] or 0,
        not_up=down.get(number, 0),
        connections=connections.get(number, 0),
        unclean=unclean.get(number, 0),
        results=results,
        flagged=flagged,
        refused=refused,
        warned=warned,
    )


def standings(connection: sql.Connection) -> dict[int, dict[str, Standing]]:
    """Alarms that are not over, by box and rule; those in their grace period too."""
    a = db.alarms
    found: dict[int, dict[str, Standing]] = defaultdict(dict)
    query = sql.select(a.c.box_id, a.c.rule, a.c.begun_at, a.c.raised_at, a.c.calm_since).where(
        a.c.cleared_at.is_(None)
    )
    for box_id, rule, *times in connection.execute(query):
        found[box_id][rule] = Standing(*times)
    return found


def past_alarms(connection: sql.Connection, box_id: int, limit: int = 20) -> list[tuple[str, Standing]]:
    """The newest alarms of one box that were raised, those that stand too."""
    a = db.alarms
    query = sql.select(a.c.rule, a.c.begun_at, a.c.raised_at, a.c.calm_since, a.c.cleared_at)
    query = query.where(a.c.box_id == box_id, a.c.raised_at.is_not(None)).order_by(a.c.raised_at.desc()).limit(limit)
    return [(rule, Standing(*times)) for rule, *times in connection.execute(query)]


def services(connection: sql.Connection, box_id: int) -> list[Any]:
    """What each service of one box said last: `service`, `state`, `reason`, `since`."""
    v = db.services
    query = sql.select(v.c.service, v.c.state, v.c.reason, v.c.since).where(v.c.box_id == box_id)
    return list(connection.execute(query.order_by(v.c.service)))


def history(connection: sql.Connection, box_id: int, since: float) -> list[Point]:
    """Health of one box, oldest first."""
    h = db.health
    columns = [h.c[name] for name in Point._fields]
    query = sql.select(*columns).where(h.c.box_id == box_id, h.c.received_at >= since).order_by(h.c.received_at)
    return [Point(*row) for row in connection.execute(query)]


def last_days(connection: sql.Connection, box_id: int, now: float, count: int = 14) -> list[Day]:
    """Counts of one box's last days, oldest first; a day without answers is not there."""
    d = db.days
    columns = [d.c[name] for name in Day._fields]
    query = sql.select(*columns).where(d.c.box_id == box_id, d.c.day > int(now // DAY) - count, d.c.day <= now // DAY)
    return [Day(*row) for row in connection.execute(query.order_by(d.c.day))]


def number_of(connection: sql.Connection, site: str, box: str) -> int | None:
    """The number of a box; None when there is none of this name."""
    query = sql.select(db.boxes.c.id).where(db.boxes.c.site == site, db.boxes.c.box == box)
    return connection.execute(query).scalar_one_or_none()


def collectors(connection: sql.Connection) -> list[Any]:
    """Each collector: `name`, `alive_at`, `connected`."""
    return list(connection.execute(sql.select(db.collectors).order_by(db.collectors.c.name)))


def apart(connection: sql.Connection, limit: int = 100) -> tuple[dict[str, int], list[Any]]:
    """How many messages were kept apart by reason, and the newest: `received_at`, `why`, `topic`."""
    counts: dict[str, int] = {row[0]: row[1] for row in connection.execute(sql.select(db.apart_counts))}
    a = db.apart
    newest = sql.select(a.c.received_at, a.c.why, a.c.topic).order_by(a.c.id.desc()).limit(limit)
    return counts, list(connection.execute(newest))
