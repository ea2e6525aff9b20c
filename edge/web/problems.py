"""Errors as people and programs should read them: a page, or `application/problem+json` (RFC 9457)."""

from __future__ import annotations

import sqlite3
from http import HTTPStatus

from flask import Flask, Response, render_template, request
from werkzeug.exceptions import HTTPException, InternalServerError

from edge import events
from edge.events import emit, place
from edge.records import Record
from edge.web.json_response import json_response
from edge.web.languages import gettext, mark

_TITLES: dict[HTTPStatus, str] = {
    HTTPStatus.BAD_REQUEST: mark("Not understood"),
    HTTPStatus.FORBIDDEN: mark("Not allowed"),
    HTTPStatus.NOT_FOUND: mark("Not found"),
    HTTPStatus.METHOD_NOT_ALLOWED: mark("Not possible here"),
    HTTPStatus.REQUEST_TIMEOUT: mark("Took too long"),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: mark("Too large"),
    HTTPStatus.UNPROCESSABLE_ENTITY: mark("Not understood"),
    HTTPStatus.TOO_MANY_REQUESTS: mark("Too many tries"),
    HTTPStatus.INTERNAL_SERVER_ERROR: mark("The page failed"),
    HTTPStatus.SERVICE_UNAVAILABLE: mark("Not just now"),
}
"""The headings of the pages that say what went wrong; programs read the status's own phrase."""


class ProblemDetails(Record, frozen=True, kw_only=True):
    """The members of RFC 9457 that we use; `type` is `about:blank`, so `title` is the status's own phrase."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str


class Problem(Exception):  # noqa: N818 - RFC 9457's word
    """What a route raises to answer with a problem: status, and one line with the value, the rule and the fix."""

    def __init__(self, status: HTTPStatus, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}


def for_program() -> bool:
    """Whether a program or the page's script asks, which read problem+json, rather than a person."""
    return request.path.startswith(("/api/", "/live/", "/healthz", "/readyz", "/metrics"))


def register(app: Flask) -> None:
    """Answer every error of the app's routes here."""
    app.register_error_handler(Problem, _answer)
    app.register_error_handler(HTTPException, lambda error: _answer(_from_http(error)))
    app.register_error_handler(Exception, _answer_defect)


def _answer(problem: Problem) -> Response:
    status = problem.status
    if for_program():
        details = ProblemDetails(title=status.phrase, status=status.value, detail=problem.detail)
        response = json_response(details, status, mimetype="application/problem+json")
    else:
        page = render_template("problem.html", title=gettext(_TITLES.get(status, status.phrase)), detail=problem.detail)
        response = Response(page, status)
    response.headers.extend(problem.headers)
    return response


def _answer_defect(error: Exception) -> Response:
    rule = request.url_rule.rule if request.url_rule else "unknown route"
    emit(events.REQUEST_FAILED, method=request.method, route=rule, error=type(error).__name__, where=place(error))
    if isinstance(error, sqlite3.OperationalError | OSError):
        detail = gettext("the box's memory cannot be read or written just now: try again in a moment")
        return _answer(Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "2"}))
    return _answer(_from_http(InternalServerError()))


def _from_http(error: HTTPException) -> Problem:
    status = HTTPStatus(error.code or 500)
    headers = {name: value for name, value in error.get_headers() if name.lower() in ("allow", "location")}
    details = {
        HTTPStatus.NOT_FOUND: gettext("there is nothing under this address: check it, or begin at /"),
        HTTPStatus.METHOD_NOT_ALLOWED: gettext("this method is not possible here: the Allow header says what is"),
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE: gettext("the request is larger than anything that this page takes"),
        HTTPStatus.INTERNAL_SERVER_ERROR: gettext("the page failed on this request; the failure is logged"),
    }
    return Problem(status, details.get(status, error.description or status.phrase), headers)
