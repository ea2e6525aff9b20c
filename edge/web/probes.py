"""What machines ask: is it alive, is it ready, how many flags wait, and figures. Nothing about patients."""

from __future__ import annotations

import sqlite3
from http import HTTPStatus
from typing import Literal

from flask import Blueprint, Response

from edge.device.health import State
from edge.records import Record
from edge.store import Band
from edge.web.condition import Condition, models_of
from edge.web.dependencies import given
from edge.web.json_response import json_response
from edge.web.metrics import MEDIA_TYPE, exposition
from edge.web.problems import Problem

blueprint = Blueprint("probes", __name__)

MOST_COUNTED = 1000


class Liveness(Record, frozen=True, kw_only=True):
    """For supervisors."""

    status: Literal["ok"] = "ok"


class Readiness(Record, frozen=True, kw_only=True):
    """For supervisors and load balancers."""

    status: Literal["ready"] = "ready"


class Alert(Record, frozen=True, kw_only=True):
    """How many flagged results wait for a person, counted up to 1000: all that a page without sign-in says."""

    waiting: int


@blueprint.get("/healthz")
def healthz() -> Response:
    """200 while this service answers at all: what a supervisor restarts it by. It touches no disk."""
    return json_response(Liveness())


@blueprint.get("/readyz")
def readyz() -> Response:
    """200 while the store opens, a model has passed its self-test, and images are taken and analysed; else 503."""
    try:
        given().store.last_seq()
        condition, full = given().condition(), given().store.band() >= Band.FULL
    except (sqlite3.Error, OSError) as error:
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, "not ready: the store cannot be read") from error
    if missing := lacking(condition, full=full):
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, f"not ready: {'; '.join(missing)}", {"Retry-After": "5"})
    return json_response(Readiness())


@blueprint.get("/api/v1/alert")
def alert() -> Response:
    """How many flagged results wait: kept up to date on a locked screen, for everybody to see."""
    return json_response(Alert(waiting=given().store.count_unacknowledged(MOST_COUNTED)))


@blueprint.get("/metrics")
def metrics() -> Response:
    """The box's figures in Prometheus' text format."""
    dependencies = given()
    text = exposition(
        dependencies.condition(),
        answers=dependencies.recorder.counted(),
        waiting=dependencies.store.count_unacknowledged(MOST_COUNTED),
        streams=dependencies.streams.count(),
    )
    return Response(text, content_type=MEDIA_TYPE)


def lacking(condition: Condition, *, full: bool) -> list[str]:
    """What keeps a box from being ready, in words; empty when nothing does."""
    works = {health.service for health in condition.services if health.state in (State.UP, State.DEGRADED)}
    checks = {
        "images cannot be received": "intake" in works,
        "images are not analysed": "inference" in works,
        "no model has passed its self-test": bool(models_of(condition)),
        "the disk is full and no image is taken": not full,
    }
    return [words for words, well in checks.items() if not well]
