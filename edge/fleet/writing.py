"""From what boxes say to rows: a batch of messages in one transaction, each message once, however often it comes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sql

from edge.fleet import database as db
from edge.fleet import reports
from edge.fleet.reading import Apart, Message, Said, Why
from edge.messages.commands import Reported
from edge.messages.types import About, Health, ServiceState, State
from edge.records import Status, Summary

KEPT_APART = 10_000
"""How many messages are kept apart: the newest."""

_KEPT_BYTES = 4096
_KEPT_TOPIC = 500

UNFIT = (sql.exc.DataError, sql.exc.IntegrityError, OverflowError, ValueError)
"""What a database says about a value, not about itself."""


class Arrival(NamedTuple):
    """A message as it arrived.

    Attributes:
        said: What it says, or that it is kept apart.
        at: When it came.
        live: False for what the broker has retained: it may be of any age.
    """

    said: Said | Apart
    at: float
    live: bool


class Written(NamedTuple):
    """What a batch came to: messages that were new, that had come before, and that are kept apart."""

    new: int
    again: int
    apart: int


class Writer:
    """Writes batches. It remembers the numbers of boxes; all else is in the database."""

    def __init__(self, engine: sql.Engine) -> None:
        """Over an open database."""
        self._engine = engine
        self._ids: dict[tuple[str, str], int] = {}

    def write(self, arrivals: Sequence[Arrival]) -> Written:
        """Write the batch and commit. A message that the database cannot hold is kept apart, alone.

        Raises:
            sqlalchemy.exc.DBAPIError: The database cannot be used: nothing of the batch is written.
        """
        try:
            return self._write(arrivals)
        except UNFIT:
            if len(arrivals) > 1:
                written = [self.write([arrival]) for arrival in arrivals]
                return Written(*(sum(column) for column in zip(*written, strict=True)))
            return self._write([_unstorable(arrivals[0])])

    def _write(self, arrivals: Sequence[Arrival]) -> Written:
        said = [arrival for arrival in arrivals if isinstance(arrival.said, Said)]
        apart = [arrival for arrival in arrivals if isinstance(arrival.said, Apart)]
        with self._engine.begin() as connection:
            ids = self._numbers(connection, said)
            rows = [_Row(ids[said.site, said.box], said.message, at, live) for said, at, live in _only_said(said)]
            new = _write_summaries(connection, rows) + _write_health(connection, rows)
            new += _write_states(connection, rows) + _write_services(connection, rows)
            new += reports.write(connection, ((row.box_id, row.message, row.at) for row in rows))
            _write_apart(connection, apart)
        self._ids.update(ids)
        return Written(new, len(said) - new, len(apart))

    def _numbers(self, connection: sql.Connection, said: Iterable[Arrival]) -> dict[tuple[str, str], int]:
        """The numbers of the boxes that speak; unknown ones get one."""
        wanted: dict[tuple[str, str], float] = {}
        for message, at, _ in _only_said(said):
            wanted.setdefault((message.site, message.box), at)
        known = {name: self._ids[name] for name in wanted if name in self._ids}
        unknown = [name for name in wanted if name not in known]
        if not unknown:
            return known
        add = db.insert(connection, db.boxes).on_conflict_do_nothing()
        connection.execute(add, [{"site": s, "box": b, "first_seen_at": wanted[s, b]} for s, b in unknown])
        for site, box in unknown:
            query = sql.select(db.boxes.c.id).where(db.boxes.c.site == site, db.boxes.c.box == box)
            known[site, box] = connection.execute(query).scalar_one()
        return known


class _Row(NamedTuple):
    box_id: int
    message: Message
    at: float
    live: bool


def _only_said(arrivals: Iterable[Arrival]) -> Iterable[tuple[Said, float, bool]]:
    for said, at, live in arrivals:
        if isinstance(said, Said):
            yield said, at, live


def _unstorable(arrival: Arrival) -> Arrival:
    said = arrival.said
    if isinstance(said, Apart):  # its bytes are bound as bytes; only its topic is text
        topic = said.topic.encode("ascii", "replace").decode().replace("\0", "?")
        return arrival._replace(said=said._replace(topic=topic))
    return arrival._replace(said=Apart(f"{said.site}/{said.box}", msgspec.json.encode(said.message), Why.UNSTORABLE))


def _write_summaries(connection: sql.Connection, rows: Iterable[_Row]) -> int:
    """Summaries that are new, and with them the counts of their days; how many."""
    values = [_summary(row.box_id, row.message, row.at) for row in rows if isinstance(row.message, Summary)]
    if not values:
        return 0
    table = db.summaries
    add = db.insert(connection, table).on_conflict_do_nothing()
    add = add.returning(table.c.box_id, table.c.hour, table.c.received_at, table.c.status, table.c.quality)
    counted: dict[tuple[int, int], Counter[str]] = {}
    new = connection.execute(add, values).all()
    for box_id, hour, received_at, status, quality in new:
        counts = counted.setdefault(
            (int(hour or received_at) // 86400, box_id), Counter(results=0, flagged=0, refused=0, warned=0)
        )
        counts["results"] += 1
        counts["flagged"] += status == Status.FLAGGED
        counts["refused"] += status == Status.NOT_ANALYSED
        counts["warned"] += quality > 0
    if counted:
        more = db.insert(connection, db.days)
        sums = {name: db.days.c[name] + more.excluded[name] for name in ("results", "flagged", "refused", "warned")}
        more = more.on_conflict_do_update(index_elements=["day", "box_id"], set_=sums)
        # In one order everywhere, else two collectors on PostgreSQL could wait for each other.
        connection.execute(more, [{"day": day, "box_id": box, **counted[day, box]} for day, box in sorted(counted)])
    return len(new)


def _summary(box_id: int, summary: Summary, at: float) -> dict[str, Any]:
    hour = datetime.strptime(summary.hour, "%Y-%m-%dT%H").replace(tzinfo=UTC).timestamp() if summary.hour else 0
    model = summary.model
    return {
        "box_id": box_id,
        "hour": int(hour),  # 0 where the site does not tell: the same at each repetition
        "message_id": summary.message_id,
        "status": summary.status.value,
        "reason": summary.reason.value if summary.reason else None,
        "quality": len(summary.quality),
        "model": f"{model.id} {model.version}" if model else None,
        "latency_ms": summary.latency_ms,
        "received_at": at,
    }


def _write_health(connection: sql.Connection, rows: Iterable[_Row]) -> int:
    """Health messages that are new, the counts of their connections, and the latest of each box; how many."""
    said = [(row.box_id, row.message, row.at) for row in rows if isinstance(row.message, Health) and row.live]
    if not said:
        return 0
    table = db.health
    add = db.insert(connection, table).on_conflict_do_nothing().returning(table.c.box_id, table.c.session, table.c.seq)
    new = connection.execute(add, [_health(*row) for row in said]).all()
    at = {(box_id, message.session): arrived for box_id, message, arrived in said}
    uptimes: dict[tuple[int, str], list[int]] = {}
    for box_id, message, _ in said:
        uptimes.setdefault((box_id, message.session), []).append(message.uptime_seconds)
    numbers: dict[tuple[int, str], list[int]] = {}
    for box_id, session, seq in new:
        numbers.setdefault((box_id, session), []).append(seq)
    if numbers:
        s, more = db.sessions.c, db.insert(connection, db.sessions)
        sums = {"received": s.received + more.excluded.received}
        for name in ("lowest", "first_uptime"):
            sums[name] = sql.case((more.excluded[name] < s[name], more.excluded[name]), else_=s[name])
        for name in ("highest", "last_uptime"):
            sums[name] = sql.case((more.excluded[name] > s[name], more.excluded[name]), else_=s[name])
        more = more.on_conflict_do_update(index_elements=["box_id", "session"], set_=sums)
        connection.execute(more, [_session(key, numbers[key], uptimes[key], at[key]) for key in sorted(numbers)])
    fresh = {(box_id, session, seq) for box_id, session, seq in new}
    latest = {
        box_id: (message, arrived)
        for box_id, message, arrived in said
        if (box_id, message.session, message.seq) in fresh
    }
    if latest:
        change = sql.update(db.boxes).where(db.boxes.c.id == sql.bindparam("number"))
        connection.execute(change, [_latest(box_id, *latest[box_id]) for box_id in sorted(latest)])
    return len(new)


def _session(key: tuple[int, str], numbers: list[int], uptimes: list[int], at: float) -> dict[str, Any]:
    counts = {"lowest": min(numbers), "highest": max(numbers), "received": len(numbers)}
    on = {"first_uptime": min(uptimes), "last_uptime": max(uptimes)}
    return {"box_id": key[0], "session": key[1], "first_at": at, **counts, **on}


def _health(box_id: int, message: Health, at: float) -> dict[str, Any]:
    return {
        "box_id": box_id,
        "ts": int(message.ts.timestamp()),
        "session": message.session,
        "seq": message.seq,
        "received_at": at,
        "queue_depth": message.queue.depth if message.queue else None,
        "outbox_depth": message.outbox.depth if message.outbox else None,
        "disk_used": message.disk.used,
        "temperature": message.temperature_celsius,
        "latency_p95": message.latency.p95_ms if message.latency else None,
    }


def _latest(box_id: int, message: Health, at: float) -> dict[str, Any]:
    figures = _health(box_id, message, at)
    columns = ("session", "queue_depth", "outbox_depth", "disk_used", "temperature", "latency_p95")
    return {
        "number": box_id,
        "heard_at": at,
        "clock_off": message.ts.timestamp() - at,
        "uptime": message.uptime_seconds,
        "queue_oldest": message.queue.oldest_seconds if message.queue else None,
        "outbox_oldest": message.outbox.oldest_seconds if message.outbox else None,
        "drift": msgspec.json.encode(message.drift).decode(),
        "clock": message.clock,
        "certificate_days": message.certificate_days,
        "dropped": message.dropped,
        **{name: figures[name] for name in columns},
    }


def _write_states(connection: sql.Connection, rows: Iterable[_Row]) -> int:
    """What boxes say of their connection, of themselves and their settings, the last of each; how many."""
    count = 0
    for row in rows:
        message = row.message
        if isinstance(message, State):
            change = sql.update(db.boxes).where(db.boxes.c.id == row.box_id)
            if message.state == "lost":  # of an older connection than the last `ready`: it counts for nothing
                none_yet = db.boxes.c.word_session.is_(None)
                change = change.where(none_yet | (db.boxes.c.word_session == message.session))
            if message.state == "stopping":
                s = db.sessions.c
                left = sql.update(db.sessions).where(s.box_id == row.box_id, s.session == message.session)
                connection.execute(left.values(said_stopping=True))
            said = {"word": message.state, "word_session": message.session, "word_at": row.at}
            connection.execute(change.values(said))
        elif isinstance(message, About):
            models = [{"id": model.id, "version": model.version, "digest": model.digest} for model in message.models]
            known = {"software": message.software, "protocol": message.protocol, "born_at": row.at}
            lists = {"models": json.dumps(models), "capabilities": json.dumps(message.capabilities)}
            change = sql.update(db.boxes).where(db.boxes.c.id == row.box_id)
            connection.execute(change.values(**lists, **known))
        elif isinstance(message, Reported):
            change = sql.update(db.boxes).where(db.boxes.c.id == row.box_id)
            connection.execute(change.values(settings=msgspec.json.encode(message).decode()))
        else:
            continue
        count += 1
    return count


def _write_services(connection: sql.Connection, rows: Iterable[_Row]) -> int:
    """The last of what each service says; how many."""
    said: dict[tuple[int, str], dict[str, Any]] = {}
    count = 0
    for row in rows:
        message = row.message
        if isinstance(message, ServiceState):
            said[row.box_id, message.service] = {
                "box_id": row.box_id,
                "service": message.service,
                "state": message.state,
                "reason": message.reason,
                "since": int(message.since.timestamp()),
            }
            count += 1
    if said:
        put = db.insert(connection, db.services)
        new = {name: put.excluded[name] for name in ("state", "reason", "since")}
        put = put.on_conflict_do_update(index_elements=["box_id", "service"], set_=new)
        connection.execute(put, [said[key] for key in sorted(said)])
    return count


def _write_apart(connection: sql.Connection, arrivals: Sequence[Arrival]) -> None:
    kept = [(arrival.said, arrival.at) for arrival in arrivals if isinstance(arrival.said, Apart)]
    if not kept:
        return
    values = [
        {
            "received_at": at,
            "why": one.why.value,
            "topic": one.topic[:_KEPT_TOPIC],
            "payload": one.payload[:_KEPT_BYTES],
        }
        for one, at in kept
    ]
    connection.execute(db.apart.insert(), values)
    newest = sql.select(sql.func.max(db.apart.c.id)).scalar_subquery()
    connection.execute(sql.delete(db.apart).where(db.apart.c.id <= newest - KEPT_APART))
    more = db.insert(connection, db.apart_counts)
    more = more.on_conflict_do_update(
        index_elements=["why"], set_={"count": db.apart_counts.c.count + more.excluded.count}
    )
    counts = Counter(one.why.value for one, _ in kept)
    connection.execute(more, [{"why": why, "count": counts[why]} for why in sorted(counts)])
