"""Ordering something of one box or many, and watching what becomes of it. Who orders stands in the audit trail."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import get_args

import msgspec
import yaml
from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from edge.fleet import ordering, queries, views
from edge.fleet.cascade import Plan, Progress
from edge.fleet.people import given, tell
from edge.messages.commands import (
    Configure,
    HealthCheck,
    LogExcerpt,
    OperatingPoint,
    Reported,
    Restart,
    SelfTest,
    ServiceName,
    Setting,
    Work,
)
from edge.settings import SETTABLE
from edge.store.audit import actions
from edge.web.problems import Problem

OPERATIONS = {
    "health-check": "say health now",
    "self-test": "check everything, models included",
    "log-excerpt": "send the last errors",
    "restart": "restart a service",
    "operating-point": "use another operating point",
    "configure": "set the fleet's settings",
}
SERVICES: tuple[str, ...] = get_args(ServiceName)
RELOAD_SECONDS = 3
_LINES = 20
_LONGEST = {"settings": 4000}
_MINUTE = 60

blueprint = Blueprint("orders", __name__)


@blueprint.get("/orders")
def overview() -> str:
    """What was ordered, newest first."""
    with given().engine.connect() as connection:
        found = ordering.rollouts(connection)
    return render_template("fleet_orders.html", rollouts=[(one, json.loads(one.work)) for one in found])


@blueprint.get("/orders/new")
def form() -> str:
    """The form, for the boxes that the filter wants."""
    return _form(request.args.to_dict())


@blueprint.post("/orders/new")
def order() -> BaseResponse:
    """Begins it, for the boxes that stood in the form."""
    fields = {name: value[: _LONGEST.get(name, 80)] for name, value in request.form.items()}
    boxes = _wanted(fields)
    try:
        work = _work(fields)
        plan = Plan(
            wave=_number(fields, "wave", 1, 10_000),
            go_on_percent=_number(fields, "go_on_percent", 0, 100),
            stop_after=_number(fields, "stop_after", 1, 10_000),
            deadline=_number(fields, "deadline_minutes", 1, 7 * 24 * 60) * _MINUTE,
        )
        _check_boxes(boxes, fields.get("count"), fields["operation"])
    except ValueError as error:
        return Response(_form(fields, f"{error}."), HTTPStatus.UNPROCESSABLE_ENTITY)
    numbers, now = [row.facts.id for row in boxes], given().clock()
    tell(actions.ordered, f"{fields['operation']} of {len(boxes)} boxes, {_named(boxes)}")
    with given().writing.begin() as connection:
        rollout = ordering.make(connection, work, numbers, plan, ordering.Made(g.person.name, now))
    return redirect(url_for("orders.watch", rollout=rollout), HTTPStatus.SEE_OTHER)


@blueprint.get("/orders/<rollout>")
def watch(rollout: str) -> str:
    """How far it is, box by box."""
    with given().engine.connect() as connection:
        found = ordering.rollouts(connection, rollout)
        orders = ordering.orders(connection, rollout)
    if not found:
        raise Problem(HTTPStatus.NOT_FOUND, "nothing like this was ordered: begin at /orders")
    running = found[0].progress == Progress.RUNNING
    return render_template(
        "fleet_order.html",
        rollout=found[0],
        work=json.loads(found[0].work),
        orders=[(one, json.loads(one.lines)) for one in orders],
        running=running,
        reload=url_for("orders.watch", rollout=rollout, auto=1) if running else None,
        reload_seconds=RELOAD_SECONDS,
    )


@blueprint.post("/orders/<rollout>/stop")
def stop(rollout: str) -> BaseResponse:
    """Nothing more goes out."""
    with given().writing.begin() as connection:
        if ordering.stop(connection, rollout, f"by {g.person.name}"):
            tell(actions.ordered, f"order {rollout} stopped")
    return redirect(url_for("orders.watch", rollout=rollout), HTTPStatus.SEE_OTHER)


def _form(fields: dict[str, str], error: str = "") -> str:
    boxes = _wanted(fields)
    return render_template(
        "fleet_order_form.html",
        fields=fields,
        filters={name: fields.get(name, "") for name in views.Filter._fields},
        boxes=boxes,
        named=_named(boxes),
        operations=OPERATIONS,
        unable=_unable(boxes),
        services=SERVICES,
        settable=sorted(SETTABLE),
        present=_present(boxes),
        error=error,
    )


def _wanted(fields: dict[str, str]) -> list[views.Row]:
    wanted = views.Filter(**{name: fields.get(name, "")[:80] for name in views.Filter._fields})
    now = given().clock()
    with given().engine.connect() as connection:
        standing = queries.standings(connection)
        rows = views.rows(queries.facts(connection, now), standing, now, given().interval)
    return sorted((row for row in rows if wanted.wants(row)), key=lambda row: (row.facts.site, row.facts.box))


def _check_boxes(boxes: list[views.Row], shown: str | None, operation: str) -> None:
    if str(len(boxes)) != shown:
        raise ValueError(f"there are {len(boxes)} such boxes now, not {shown}: look again")
    if not boxes:
        raise ValueError("there is no such box: choose others")
    if lacking := _unable(boxes).get(operation):
        raise ValueError(f"{OPERATIONS[operation]}: not {lacking}: choose other boxes")


def _named(boxes: list[views.Row], most: int = 10) -> str:
    names = [f"{row.facts.site}/{row.facts.box}" for row in boxes]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _unable(boxes: list[views.Row]) -> dict[str, str]:
    """Which of the boxes do not say that they can do an operation, by the operation; what all can is not there."""
    able = [(row, json.loads(row.facts.capabilities or "[]")) for row in boxes]
    lacking = {name: [row for row, can in able if name not in can] for name in OPERATIONS}
    return {name: _named(rows) + _unheard(rows) for name, rows in lacking.items() if rows}


def _unheard(boxes: list[views.Row]) -> str:
    count = sum(row.facts.capabilities is None for row in boxes)
    return f" (of {count} it was never heard what they can do)" if count else ""


def _present(boxes: list[views.Row]) -> str:
    """The settings of the only box, as lines of the form; empty for several."""
    if len(boxes) != 1 or not boxes[0].facts.settings:
        return ""
    reported = msgspec.json.decode(boxes[0].facts.settings, type=Reported)
    return "\n".join(f"{one.key}: {json.dumps(one.value)}" for one in reported.settings)


def settings_in(text: str) -> tuple[Setting, ...]:
    """The settings of lines `key: value`, values as in the configuration's YAML.

    Raises:
        ValueError: A line is none, its key is not one that a fleet may set, or stands there twice.
    """
    found: dict[str, Setting] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        key, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or key not in SETTABLE:
            raise ValueError(f"{line[:60]!r}: must be KEY: VALUE with one of the keys below")
        if key in found:
            raise ValueError(f"{key}: stands there twice")
        try:
            found[key] = msgspec.convert({"key": key, "value": yaml.safe_load(value)}, Setting)
        except (yaml.YAMLError, msgspec.ValidationError) as error:
            raise ValueError(f"{key}: {value[:60]!r} is no number, word, true, false or null") from error
    return tuple(found.values())


def _work(fields: dict[str, str]) -> Work:
    match fields.get("operation"):
        case "health-check":
            return HealthCheck()
        case "self-test":
            return SelfTest()
        case "log-excerpt":
            return LogExcerpt(most=_LINES)
        case "restart" if fields.get("service") in SERVICES:
            return msgspec.convert({"operation": "restart", "service": fields["service"]}, Restart)
        case "operating-point":
            name = fields.get("operating_point", "").strip() or None
            if name and not (name.isascii() and name.replace("_", "").replace("-", "").isalnum() and name.islower()):
                raise ValueError(f"operating point {name!r}: must be of a-z, 0-9, _ and -")
            return OperatingPoint(version=int(given().clock()), name=name)
        case "configure":
            return Configure(version=int(given().clock()), settings=settings_in(fields.get("settings", "")))
    raise ValueError("what is to be done is missing: choose something, and a service to restart")


def _number(fields: dict[str, str], name: str, least: int, most: int) -> int:
    text = fields.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 9 and least <= int(text) <= most):
        raise ValueError(f"{name.replace('_', ' ')} {text!r}: must be a whole number from {least} to {most}")
    return int(text)
