"""Rollouts in the database: made and stopped on the page, handed out by the dispatcher, answered by boxes."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import sqlalchemy as sql

from edge.fleet import database as db
from edge.fleet.cascade import ENDS, Decision, Part, Plan, Progress, Stage, decide, stopped
from edge.messages.commands import LONGEST_LIFE, Command, Order, Work, sign, topic
from edge.messages.topics import Channel, Topic

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

LONGEST_TIMEOUT = 3600

_ANSWERS = {
    "executing": Stage.EXECUTING,
    "successful": Stage.SUCCESSFUL,
    "failed": Stage.FAILED,
}
_r, _o, _b = db.rollouts.c, db.orders.c, db.boxes.c


class Publication(NamedTuple):
    """What is to be published, retained; an empty payload clears."""

    topic: str
    payload: bytes


class Made(NamedTuple):
    """Who ordered, and when (seconds since the epoch)."""

    by: str
    at: float


def make(connection: sql.Connection, work: Work, boxes: Sequence[int], plan: Plan, made: Made) -> str:
    """Begin a rollout; its id. The boxes, by their numbers, in the order in which they are reached."""
    number = uuid.uuid4().hex
    connection.execute(
        db.rollouts.insert().values(
            id=number,
            made_at=made.at,
            made_by=made.by,
            work=msgspec.json.encode(work).decode(),
            wave=plan.wave,
            go_on_percent=plan.go_on_percent,
            stop_after=plan.stop_after,
            deadline=int(plan.deadline),
            progress=Progress.RUNNING.value,
            why="",
        )
    )
    rows = [
        {"rollout": number, "place": place, "box_id": box, "id": uuid.uuid4().hex, "state": Stage.WAITING.value}
        | {"reason": "", "lines": "[]"}
        for place, box in enumerate(boxes)
    ]
    connection.execute(db.orders.insert(), rows)
    return number


def stop(connection: sql.Connection, rollout: str, why: str) -> bool:
    """Nothing more goes out; whether it was running."""
    if _lock(connection, rollout) is not Progress.RUNNING:
        return False
    parts = _parts(connection, rollout)
    decision = stopped([part.stage for part in parts], why)
    _write(connection, rollout, parts, decision)
    return True


def hand_out(engine: sql.Engine, key: Ed25519PrivateKey, now: float) -> list[Publication]:
    """Bring every running rollout a step further: what is to be published now, each already written as sent."""
    out: list[Publication] = []
    with engine.begin() as connection:
        query = sql.select(db.rollouts).where(_r.progress == Progress.RUNNING.value).with_for_update()
        for rollout in connection.execute(query).all():
            plan = Plan(rollout.wave, rollout.go_on_percent, rollout.stop_after, float(rollout.deadline))
            parts = _parts(connection, rollout.id)
            decision = decide(plan, parts, now)
            ids = connection.execute(sql.select(_o.id).where(_o.rollout == rollout.id).order_by(_o.place)).scalars()
            for order_id, part, stage in zip(ids.all(), parts, decision.stages, strict=True):
                if part.stage is Stage.WAITING and stage is Stage.SENT:
                    out.append(_sign(connection, rollout, order_id, key, now))
                elif part.stage not in ENDS and stage is Stage.OVERDUE:
                    out.append(Publication(_address(connection, order_id), b""))
            _write(connection, rollout.id, parts, decision)
    return out


def unanswered(engine: sql.Engine) -> list[Publication]:
    """Documents that were written as sent and that no box has answered: a crash may have come before they went."""
    query = sql.select(_o.id, _o.document).where(_o.state == Stage.SENT.value)
    with engine.begin() as connection:
        return [
            Publication(_address(connection, order_id), document)
            for order_id, document in connection.execute(query).all()
        ]


def take(engine: sql.Engine, order_id: str, answer: Command, address: str) -> Publication | None:
    """Write down what a box says about an order of ours; what clears its document when that is the end.

    Only the order's own box can have said it (the broker's rights), and what has ended is not opened again.
    """
    stage = _ANSWERS.get(answer.status)
    if stage is None:
        return None
    with engine.begin() as connection:
        row = connection.execute(sql.select(db.orders).where(_o.id == order_id).with_for_update()).first()
        if row is None or address != _address(connection, order_id):
            return None
        if Stage(row.state) not in ENDS:
            lines = msgspec.json.encode(answer.lines).decode()
            change = sql.update(db.orders).where(_o.id == order_id)
            connection.execute(change.values(state=stage.value, reason=answer.reason, lines=lines))
    return Publication(address, b"") if stage in ENDS else None


def rollouts(connection: sql.Connection, only: str | None = None, limit: int = 50) -> list[Any]:
    """The newest rollouts (or one), each with how many boxes it is for, how many were successful and how many not."""

    def counted(*stages: Stage) -> Any:
        return sql.func.sum(sql.case((_o.state.in_([stage.value for stage in stages]), 1), else_=0))

    query = (
        sql.select(
            db.rollouts,
            sql.func.count(_o.id).label("boxes"),
            counted(Stage.SUCCESSFUL).label("successful"),
            counted(Stage.FAILED, Stage.OVERDUE).label("wrong"),
        )
        .join(db.orders, _o.rollout == _r.id)
        .where(sql.true() if only is None else _r.id == only)
        .group_by(*db.rollouts.c)
        .order_by(_r.made_at.desc())
        .limit(limit)
    )
    return list(connection.execute(query))


def orders(connection: sql.Connection, rollout: str) -> list[Any]:
    """Each box's order of one rollout: `site`, `box`, `state`, `reason`, `sent_at`, `lines`."""
    query = sql.select(_b.site, _b.box, _o.state, _o.reason, _o.sent_at, _o.lines)
    query = query.join(db.boxes, _b.id == _o.box_id).where(_o.rollout == rollout).order_by(_o.place)
    return list(connection.execute(query))


def _lock(connection: sql.Connection, rollout: str) -> Progress | None:
    query = sql.select(_r.progress).where(_r.id == rollout).with_for_update()
    found = connection.execute(query).scalar_one_or_none()
    return None if found is None else Progress(found)


def _parts(connection: sql.Connection, rollout: str) -> list[Part]:
    query = sql.select(_o.state, _o.sent_at).where(_o.rollout == rollout).order_by(_o.place)
    return [Part(Stage(state), sent_at) for state, sent_at in connection.execute(query)]


def _write(connection: sql.Connection, rollout: str, parts: Sequence[Part], decision: Decision) -> None:
    """What has changed but for what is sent, which `_sign` writes."""
    for place, (part, stage) in enumerate(zip(parts, decision.stages, strict=True)):
        if stage is not part.stage and stage is not Stage.SENT:
            one = sql.update(db.orders).where(_o.rollout == rollout, _o.place == place)
            connection.execute(one.values(state=stage.value))
    change = sql.update(db.rollouts).where(_r.id == rollout)
    connection.execute(change.values(progress=decision.progress.value, why=decision.why))


def _sign(connection: sql.Connection, rollout: Any, order_id: str, key: Ed25519PrivateKey, now: float) -> Publication:
    query = sql.select(_b.site, _b.box).join(db.orders, _b.id == _o.box_id).where(_o.id == order_id)
    row = connection.execute(query).one()
    issued = int(now)
    order = Order(
        id=order_id,
        site=row.site,
        box=row.box,
        issued_at=datetime.fromtimestamp(issued, UTC),
        not_after=datetime.fromtimestamp(issued + min(int(LONGEST_LIFE), rollout.deadline), UTC),
        timeout_seconds=min(LONGEST_TIMEOUT, rollout.deadline),
        work=msgspec.json.decode(rollout.work, type=Work),
    )
    document = msgspec.json.encode(sign(order, key, now))
    change = sql.update(db.orders).where(_o.id == order_id)
    connection.execute(change.values(state=Stage.SENT.value, sent_at=now, document=document))
    return Publication(str(topic(order)), document)


def _address(connection: sql.Connection, order_id: str) -> str:
    query = (
        sql.select(_b.site, _b.box, _r.work).join(db.orders, _o.box_id == _b.id).join(db.rollouts, _o.rollout == _r.id)
    )
    row = connection.execute(query.where(_o.id == order_id)).one()
    name = msgspec.json.decode(row.work)["operation"]
    return str(Topic(site=row.site, box=row.box, channel=Channel.COMMAND, name=name, id=order_id))
