"""The manager's page: all boxes, one site's, one box's history. Complete without a script."""

from __future__ import annotations

import json
from collections import Counter
from http import HTTPStatus
from pathlib import Path

import sqlalchemy as sql
from flask import Blueprint, Flask, Response, g, render_template, request, url_for

import edge.web
from edge.fleet import order_pages, people, queries, reports, views
from edge.fleet.alarms import DAY, RULES
from edge.fleet.metrics import exposition
from edge.fleet.people import Dependencies, given
from edge.fleet.standing import Condition
from edge.store.audit import actions
from edge.web import languages, problems
from edge.web.metrics import MEDIA_TYPE
from edge.web.problems import Problem
from edge.web.trail_view import line_of

RELOAD_SECONDS = 15
TRAIL_ROWS = 100
ANSWER_DAYS = 28
"""Of how many days the histograms of one box are."""

GROUP_DAYS = 7
"""Of how many those of many are: at 5,000 boxes a million rows."""

COLLECTOR_SILENT = 30.0
"""Seconds without a word of any collector after which the page says that what it shows is old."""

_LARGEST_REQUEST = 64 * 1024
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

blueprint = Blueprint("console", __name__, static_folder="static", static_url_path="/fleet-static")


def create_app(dependencies: Dependencies) -> Flask:
    """The app over what it is given."""
    app = Flask(
        "edge.fleet",
        static_folder=str(Path(edge.web.__file__).parent / "static"),  # the look of the boxes' own page
        template_folder="templates",
    )
    app.config.update(MAX_CONTENT_LENGTH=_LARGEST_REQUEST, MAX_FORM_MEMORY_SIZE=_LARGEST_REQUEST)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    for name in ("ago", "lasting", "percent", "clock", "day"):
        app.add_template_filter(getattr(views, name), name)
    languages.register(app, "en", select=lambda: None)  # English alone, as yet
    problems.register(app)
    app.register_error_handler(sql.exc.SQLAlchemyError, _database_failed)
    people.register(app, dependencies)
    app.register_blueprint(blueprint)
    app.register_blueprint(order_pages.blueprint)
    app.context_processor(lambda: {"now": given().clock(), "rule_words": views.RULE_WORDS})
    app.after_request(_add_headers)
    return app


@blueprint.get("/")
def overview() -> str:
    """All boxes that the filter wants, a page at a time."""
    everything, silent = _rows()
    wanted = _filter()
    found = [row for row in everything if wanted.wants(row)]
    pages = max(1, -(-len(found) // views.PAGE))
    page = min(pages, max(1, request.args.get("page", 1, int)))
    filters = {name: value for name, value in wanted._asdict().items() if value}
    return render_template(
        "fleet_overview.html",
        rows=found[(page - 1) * views.PAGE : page * views.PAGE],
        found=len(found),
        counts=Counter(row.condition for row in everything),
        alarmed=sum(bool(row.alarms) for row in everything),
        conditions=list(Condition),
        sites=sorted({row.facts.site for row in everything}),
        rules=RULES,
        wanted=wanted,
        page=page,
        pages=pages,
        order_link=url_for("orders.form", **filters),
        answers_link=url_for("console.answers", **filters),
        page_links=[url_for("console.overview", **filters, page=number) for number in (page - 1, page + 1)],
        collector_silent=silent,
        reload=url_for("console.overview", **filters, page=page, auto=1),
        reload_seconds=RELOAD_SECONDS,
    )


@blueprint.get("/sites")
def sites() -> str:
    """The boxes by their sites."""
    everything, silent = _rows()
    return render_template(
        "fleet_sites.html",
        sites=views.sites(everything),
        conditions=list(Condition),
        collector_silent=silent,
        reload=url_for("console.sites", auto=1),
        reload_seconds=RELOAD_SECONDS,
    )


@blueprint.get("/answers")
def answers() -> str:
    """What the boxes that the filter wants have answered, all of them together."""
    everything, silent = _rows()
    wanted = _filter()
    found = [row.facts.id for row in everything if wanted.wants(row)]
    with given().engine.connect() as connection:
        some = None if len(found) == len(everything) else found
        counted = reports.counted(connection, given().clock(), GROUP_DAYS, some)
    return render_template(
        "fleet_answers.html",
        histograms=views.histograms(counted),
        days=GROUP_DAYS,
        boxes=len(found),
        filters={name: value for name, value in wanted._asdict().items() if value},
        collector_silent=silent,
    )


@blueprint.get("/boxes/<site>/<box>")
def box(site: str, box: str) -> str:
    """One box: how it is, and how it was within a day."""
    now, interval = given().clock(), given().interval
    with given().engine.connect() as connection:
        number = queries.number_of(connection, site, box)
        if number is None:
            raise Problem(HTTPStatus.NOT_FOUND, "no box of this name has ever been heard of: begin at /")
        standing = queries.standings(connection)
        (row,) = views.rows(queries.facts(connection, now, number), standing, now, interval)
        points = queries.history(connection, number, now - DAY)
        services = queries.services(connection, number)
        alarms = queries.past_alarms(connection, number)
        days = queries.last_days(connection, number, now)
        counted = reports.counted(connection, now, ANSWER_DAYS, [number])
        heads = reports.audit_heads(connection, number)
        errors = reports.errors(connection, number)
        silent = _collector_silent(connection, now)

    def graph(name: str, values: list[float | None]) -> views.Graph:
        at = [point.received_at for point in points]
        return views.graph(name, list(zip(at, values, strict=True)), now - DAY, now, interval)

    return render_template(
        "fleet_box.html",
        row=row,
        models=json.loads(row.facts.models),
        wanted=given().wanted,
        drift=json.loads(row.facts.drift),
        settings=json.loads(row.facts.settings) if row.facts.settings else None,
        services=services,
        alarms=alarms,
        days=days[::-1],
        histograms=views.histograms(counted),
        histogram_days=ANSWER_DAYS,
        heads=heads,
        errors=errors,
        graphs=(
            graph("Images waiting", [point.queue_depth for point in points]),
            graph("Messages waiting", [point.outbox_depth for point in points]),
            graph("Disk used, percent", [None if p.disk_used is None else p.disk_used * 100 for p in points]),
        ),
        hours=views.hours(points),
        width=views.WIDTH,
        height=views.HEIGHT,
        collector_silent=silent,
    )


@blueprint.get("/apart")
def apart() -> str:
    """What came and is no message of ours: reasons, counts, and the newest topics. No payload is shown."""
    with given().engine.connect() as connection:
        counts, newest = queries.apart(connection)
    return render_template("fleet_apart.html", counts=counts, newest=newest)


@blueprint.get("/audit")
def audit() -> str:
    """The audit trail, newest first; `?before=NUMBER` goes on. That it was read is a record in it."""
    text = request.args.get("before", "")
    before = int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
    trail = given().audit
    trail.record(actions.trail_used(trail.source, g.person.name, "/audit"))
    records = trail.newest(TRAIL_ROWS + 1, before)
    lines = [line_of(one) for one in records[:TRAIL_ROWS]]
    following = lines[-1].number if len(records) > TRAIL_ROWS else None
    return render_template("fleet_audit.html", lines=lines, following=following)


@blueprint.get("/metrics")
def metrics() -> Response:
    """The fleet for Prometheus; a program brings the token of `console.metrics_token_file`."""
    now = given().clock()
    with given().engine.connect() as connection:
        text = exposition(
            queries.facts(connection, now),
            queries.standings(connection),
            collectors=queries.collectors(connection),
            apart=queries.apart(connection, 1)[0],
            now=now,
            interval=given().interval,
            wanted=given().wanted,
        )
    return Response(text, content_type=MEDIA_TYPE)


def _filter() -> views.Filter:
    return views.Filter(**{name: request.args.get(name, "")[:80] for name in views.Filter._fields})


def _rows() -> tuple[list[views.Row], float | None]:
    now = given().clock()
    with given().engine.connect() as connection:
        found = views.rows(queries.facts(connection, now), queries.standings(connection), now, given().interval)
        return found, _collector_silent(connection, now)


def _collector_silent(connection: sql.Connection, now: float) -> float | None:
    """Since when no collector has worked and been connected; 0 for never, None while one does."""
    alive = [one.alive_at for one in queries.collectors(connection) if one.connected]
    last = max(alive, default=0.0)
    return None if now - last < COLLECTOR_SILENT else last


def _database_failed(_error: Exception) -> Response:
    detail = "the fleet's database cannot be read just now: try again in a moment"
    page = render_template("problem.html", title="Not available", detail=detail)
    return Response(page, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": "2"})


def _add_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if request.endpoint not in ("static", "console.static"):
        response.headers["Cache-Control"] = "no-store"
    return response
