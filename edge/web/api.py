"""The HTTP API under /api/v1/, as openapi.json describes it. Everything here the page shows too."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
from flask import Blueprint, Response, g, request

from edge.device.history import MINUTES_KEPT
from edge.records import Kept, StoredResult
from edge.web import audit, words
from edge.web.condition import models_of
from edge.web.dependencies import given
from edge.web.device_view import watched
from edge.web.json_response import json_response
from edge.web.openapi import openapi_document
from edge.web.pages import find_result
from edge.web.problems import Problem
from edge.web.remedies import last_errors
from edge.web.study import study_of, study_view_of
from edge.web.views import (
    DEFAULT_PAGE,
    LARGEST_PAGE,
    AcknowledgeRequest,
    Errors,
    FindRequest,
    HistoryPage,
    Models,
    ResultPage,
    Trends,
    view_of,
)

blueprint = Blueprint("api", __name__)


@blueprint.get("/api/v1/results")
def results() -> Response:
    """Results, newest first; `?limit=` (1 to 200) and `?cursor=`, the `next` of the page before."""
    limit, cursor = (
        _whole("limit", request.args.get("limit", str(DEFAULT_PAGE)), LARGEST_PAGE),
        request.args.get("cursor"),
    )
    _check_cursor(cursor)
    found = given().store.results(limit + 1, before=cursor)
    audit.saw(listing=True)
    return json_response(_page(found, limit))


@blueprint.post("/api/v1/results/find")
def find() -> Response:
    """A patient's results, newest first. The id comes in the body, so that it stands in no address and no log."""
    try:
        asked = msgspec.json.decode(request.get_data(), type=FindRequest)
    except msgspec.DecodeError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f'the body must be {{"patient_id": "..."}}: {error}') from error
    _check_cursor(asked.cursor)
    found = given().store.results_of_patient(asked.patient_id, asked.limit + 1, before=asked.cursor)
    audit.searched(asked.patient_id)
    return json_response(_page(found, asked.limit))


@blueprint.get("/api/v1/results/<result_id>")
def result(result_id: str) -> Response:
    """One result with all that the page shows beside it."""
    stored = find_result(result_id)
    audit.saw(stored)
    return json_response(study_view_of(study_of(stored)))


@blueprint.get("/api/v1/results/<result_id>/image")
def image(result_id: str) -> Response:
    """The preview of the image: a JPEG with the right grey values."""
    return _picture(result_id, "preview.jpg", "image/jpeg")


@blueprint.get("/api/v1/results/<result_id>/overlay")
def overlay(result_id: str) -> Response:
    """Where the network looked: a transparent PNG to lay over the preview, stretched to its size."""
    return _picture(result_id, "overlay.png", "image/png")


@blueprint.post("/api/v1/results/<result_id>/acknowledge")
def acknowledge(result_id: str) -> Response:
    """Record what the person thinks of a result. The first answer stands; repeating one's own does no harm."""
    find_result(result_id)
    try:
        answer = msgspec.json.decode(request.get_data(), type=AcknowledgeRequest).response
    except msgspec.DecodeError as error:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f'the body must be {{"response": "agree"}}: {error}') from error
    stored = given().store.acknowledge(result_id, g.person.name, answer)
    if stored:
        audit.answered(stored, answer)
    if stored is None or (stored.acknowledged_by, stored.acknowledged_as) != (g.person.name, answer):
        raise Problem(HTTPStatus.CONFLICT, "the result was acknowledged before, and the first answer stands")
    return json_response(view_of(stored))


@blueprint.get("/api/v1/health")
def health() -> Response:
    """How the box is: a `Condition`."""
    return json_response(given().condition())


@blueprint.get("/api/v1/models")
def models() -> Response:
    """The models in service, from the inference service's own account."""
    return json_response(Models(models=models_of(given().condition())))


@blueprint.get("/api/v1/history")
def history() -> Response:
    """The box's figures minute by minute; `?hours=` (1 to 168) from now backwards."""
    hours = _whole("hours", request.args.get("hours", "24"), MINUTES_KEPT // 60)
    return json_response(HistoryPage(samples=tuple(given().recorder.samples(hours))))


@blueprint.get("/api/v1/trends")
def trends() -> Response:
    """How the box has answered, day by day, and whether it does so as it did."""
    recorder = given().recorder
    return json_response(Trends(days=recorder.answers().days, watched=tuple(watched(recorder.drift()))))


@blueprint.get("/api/v1/errors")
def errors() -> Response:
    """The last errors of the services, the newest first, each with its number and what to do."""
    return json_response(Errors(errors=last_errors(given().store.state_dir)))


@blueprint.get("/api/v1/openapi.json")
def openapi() -> Response:
    """This API's description."""
    return Response(openapi_document(), mimetype="application/json")


def _whole(name: str, text: str, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= number <= most:
        detail = f"{name} {text[:20]!r}: must be a whole number from 1 to {most}"
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
    return number


def _check_cursor(cursor: str | None) -> None:
    if cursor is not None and given().store.result(cursor) is None:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "cursor: unknown: take it from `next` of the page before")


def _page(found: list[StoredResult], limit: int) -> ResultPage:
    """A page out of one result more than it shows, where there is one more."""
    shown = found[:limit]
    following = shown[-1].id if len(found) > limit else None
    return ResultPage(results=tuple(view_of(stored) for stored in shown), next=following)


def _picture(result_id: str, name: str, mimetype: str) -> Response:
    stored = find_result(result_id)
    audit.saw(stored)
    data = given().store.picture(stored.instance_id, name)
    if data is None and stored.kept is not Kept.ALL:
        raise Problem(HTTPStatus.GONE, words.removed(stored.kept))
    if data is None:
        detail = "there is no such picture of this result (yet): try again in a second"
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    return Response(data, mimetype=mimetype)
