"""What boxes say at times: a day's counts, how far the audit trail goes, errors by number; written and asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import date
from typing import Any, NamedTuple

import sqlalchemy as sql

from edge.fleet import database as db
from edge.fleet.alarms import DAY
from edge.fleet.reading import Message
from edge.messages.aggregate import Aggregate, Histogram
from edge.messages.types import AuditHead, Events

_EPOCH = date(1970, 1, 1).toordinal()
_CATEGORY = ("day", "box_id", "statistic", "subject", "name")


class Counted(NamedTuple):
    """Images of one category, summed over days and boxes; `subject` is the model and finding that scores are of."""

    statistic: str
    subject: str
    name: str
    images: int


def write(connection: sql.Connection, said: Iterable[tuple[int, Message, float]]) -> int:
    """Write those of these messages that are such, in the caller's transaction; how many were new.

    Args:
        connection: In a transaction.
        said: Number of the box, what it said, and when that came.
    """
    new = 0
    for box_id, message, at in said:
        if isinstance(message, Aggregate):
            new += _write_aggregate(connection, box_id, message)
        elif isinstance(message, AuditHead):
            new += _write_head(connection, box_id, message, at)
        elif isinstance(message, Events):
            new += _write_errors(connection, box_id, message)
    return new


def _write_aggregate(connection: sql.Connection, box_id: int, message: Aggregate) -> int:
    """Its counts are added to those of its day, once."""
    day = date.fromisoformat(message.day).toordinal() - _EPOCH
    if not _is_new(connection, db.aggregates, {"box_id": box_id, "day": day, "message_id": message.message_id}):
        return 0
    counts: Counter[tuple[str, str, str]] = Counter()
    for table in message.histograms:
        for one in table.bins:
            counts[table.statistic, _subject(table), one.name] += one.images
    if counts:
        put = db.insert(connection, db.bins)
        more = {"images": db.bins.c.images + put.excluded.images}
        put = put.on_conflict_do_update(index_elements=_CATEGORY, set_=more)
        rows = [dict(zip(_CATEGORY, (day, box_id, *key), strict=True)) | {"images": counts[key]} for key in counts]
        connection.execute(put, rows)
    return 1


def _subject(table: Histogram) -> str:
    return " ".join(part for part in (table.model, table.version, table.code) if part)


def _write_head(connection: sql.Connection, box_id: int, message: AuditHead, at: float) -> int:
    """A trail goes back when a lesser number comes later and was said later, or the same one with another digest."""
    h, said_at = db.audit_heads.c, int(message.ts.timestamp())
    head = {"box_id": box_id, "number": message.number, "digest": message.digest}
    if not _is_new(connection, db.audit_heads, {**head, "said_at": said_at, "received_at": at}):
        return 0
    went_back = (h.number > message.number) & (h.said_at < said_at) & (h.received_at < at)
    another = (h.number == message.number) & (h.digest != message.digest)
    against = sql.select(h.number).where(h.box_id == box_id, went_back | another).limit(1)
    if connection.execute(against).first():
        change = sql.update(db.boxes).where(db.boxes.c.id == box_id)
        connection.execute(change.values(trail_back_at=at))
    return 1


def _is_new(connection: sql.Connection, table: sql.Table, values: dict[str, Any]) -> bool:
    """Whether this row was not there; it is now."""
    add = db.insert(connection, table).on_conflict_do_nothing().returning(table.c.box_id)
    return connection.execute(add, values).first() is not None


def _write_errors(connection: sql.Connection, box_id: int, message: Events) -> int:
    """They take the place of those that the box told of before."""
    connection.execute(sql.delete(db.errors).where(db.errors.c.box_id == box_id))
    rows = {(one.service, one.number): one for one in message.events}
    if rows:
        values = [
            {
                "box_id": box_id,
                "service": one.service,
                "number": one.number,
                "count": one.count,
                "since": int(one.since.timestamp()),
            }
            for one in rows.values()
        ]
        connection.execute(db.errors.insert(), values)
    return 1


def counted(connection: sql.Connection, now: float, days: int, boxes: Collection[int] | None = None) -> list[Counted]:
    """The histograms of the last days, each category summed over boxes; None for all boxes."""
    b = db.bins.c
    query = sql.select(b.statistic, b.subject, b.name, sql.func.sum(b.images)).group_by(b.statistic, b.subject, b.name)
    # Day by day, not from one to another: so one box costs a look into the index for each day, however many boxes are.
    query = query.where(b.day.in_([int(now // DAY) - back for back in range(days)]))
    if boxes is not None:
        query = query.where(b.box_id.in_(boxes))
    return [Counted(*row[:3], int(row[3])) for row in connection.execute(query)]


def audit_heads(connection: sql.Connection, box_id: int, limit: int = 20) -> list[Any]:
    """The newest word of a box about its audit trail, newest first: `number`, `digest`, `said_at`, `received_at`."""
    h = db.audit_heads.c
    query = sql.select(h.number, h.digest, h.said_at, h.received_at).where(h.box_id == box_id)
    return list(connection.execute(query.order_by(h.received_at.desc(), h.number.desc()).limit(limit)))


def errors(connection: sql.Connection, box_id: int) -> list[Any]:
    """The errors that a box told of last, by service: `service`, `number`, `count`, `since`."""
    e = db.errors.c
    query = sql.select(e.service, e.number, e.count.label("times"), e.since).where(e.box_id == box_id)
    return list(connection.execute(query.order_by(e.service, e.number)))


def remove_old(connection: sql.Connection, before: float) -> None:
    """Remove counts and audit heads from before a time; of each audit trail the furthest stays for ever."""
    h, day = db.audit_heads, int(before // DAY)
    for table in (db.aggregates, db.bins):
        connection.execute(sql.delete(table).where(table.c.day < day))
    later = h.alias()
    furthest = sql.select(sql.func.max(later.c.number)).where(later.c.box_id == h.c.box_id).scalar_subquery()
    connection.execute(sql.delete(h).where(h.c.received_at < before, h.c.number < furthest))
