"""The Flask app: routes, who may use them, how errors read, and the headers of every response."""

from __future__ import annotations

from io import BytesIO
from math import ceil
from typing import IO

from flask import Flask, Request, Response, g, request

from edge.device.health import State
from edge.records import Priority, Status, Subject
from edge.web import (
    access,
    addresses,
    api,
    bodies,
    languages,
    live,
    pages,
    permissions,
    preferences,
    probes,
    problems,
    sign_in,
    stow,
    upload,
    words,
)
from edge.web.dependencies import Dependencies, given, provide
from edge.web.notices import when_full
from edge.web.rates import limited
from edge.web.sessions import form_token

_LARGEST_REQUEST = 64 * 1024
_HEADERS = {
    # Everything comes from this box; nothing inline, so that text that came with an image can never run.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; manifest-src 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


class _Request(Request):
    """Files stay in memory: werkzeug would put large ones, readable, into a temporary file (DESIGN rule 5)."""

    def _get_file_stream(
        self,
        total_content_length: int | None,  # noqa: ARG002 - werkzeug's own signature
        content_type: str | None,  # noqa: ARG002
        filename: str | None = None,  # noqa: ARG002
        content_length: int | None = None,  # noqa: ARG002
    ) -> IO[bytes]:
        return BytesIO()


def create_app(dependencies: Dependencies) -> Flask:
    """The app over what it is given."""
    app = Flask("edge.web", static_folder="static", template_folder="templates")
    app.request_class = _Request
    app.config.update(MAX_CONTENT_LENGTH=_LARGEST_REQUEST, MAX_FORM_MEMORY_SIZE=_LARGEST_REQUEST)
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    provide(app.extensions, dependencies)
    preferences.register(app)
    languages.register(app, dependencies.language)
    permissions.register(app)
    problems.register(app)
    bodies.register(app)
    for room in (pages, sign_in, live, api, probes, access, upload, stow):
        app.register_blueprint(room.blueprint)
    for name in (
        "ago",
        "clock",
        "day",
        "iso",
        "headline",
        "advice",
        "caveat",
        "outcome",
        "whereabouts",
        "band",
        "image",
        "id_end",
        "removed",
        "clock_state",
        "statistic",
        "plain",
        "meaning",
        "answered",
        "order_warning",
        "order_advice",
        "said",
        "of_100",
        "operating_point",
    ):
        app.add_template_filter(getattr(words, name), name)
    app.add_template_filter(_patient, "patient")
    app.add_template_filter(when_full, "when_full")
    app.add_template_filter(languages.listed, "listed")
    app.add_template_filter(languages.number, "number")
    app.add_template_filter(languages.percent, "percent")
    app.add_template_filter(languages.date_and_time, "date_and_time")
    app.add_template_filter(words.percent, "probability")
    app.add_template_global(_flags_waiting, "flags_waiting")
    app.context_processor(_for_every_template)
    app.after_request(_add_headers)
    app.wsgi_app = limited(app.wsgi_app, dependencies.rates)  # type: ignore[method-assign, assignment]
    return app


def _flags_waiting() -> int:
    """How many flagged images wait for a person, counted up to `MOST_COUNTED`."""
    return given().store.count_unacknowledged(probes.MOST_COUNTED)


def _patient(subject: Subject) -> tuple[str, ...]:
    """Whose image it is, or that the privacy screen hides it."""
    person = g.get("person")
    return (languages.gettext(words.HIDDEN),) if person and person.veiled else words.patient(subject)


def _for_every_template() -> dict[str, object]:
    return {
        "site": given().site,
        "box": given().box,
        "person": g.get("person"),
        "sees_patients": bool(g.get("person")) and g.person.role in permissions.PATIENT_DATA,
        "administers": bool(g.get("person")) and g.person.role in permissions.ADMINISTRATION,
        "own_page": request.path if addresses.OWN_PAGE.fullmatch(request.path) else "/",
        "form_field": permissions.FORM_FIELD,
        "form_token": form_token(g.secret) if g.get("secret") else "",
        "shapes": words.SHAPES,
        "needs_answer": words.needs_answer,
        "answers": words.ANSWER_WORDS,
        "script_words": words.script_words,
        "Status": Status,
        "Priority": Priority,
        "State": State,
    }


def _add_headers(response: Response) -> Response:
    response.headers.update(_HEADERS)
    if given().hsts and request.is_secure:
        response.headers["Strict-Transport-Security"] = given().hsts or ""
    person = g.get("person")
    if person and 0 < person.shown_for < float("inf") and response.mimetype == "text/html":
        response.headers["Refresh"] = str(ceil(person.shown_for) + 1)  # then hidden again, also without a script
    if request.endpoint != "static":
        response.headers["Cache-Control"] = "no-store"
    return response
