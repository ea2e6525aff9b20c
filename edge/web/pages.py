"""The pages that a person reads. They need no script: the script only keeps them live."""

from __future__ import annotations

from http import HTTPStatus

from flask import Blueprint, g, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from edge.records import StoredResult
from edge.web import audit, words
from edge.web.dependencies import given
from edge.web.device_view import device_view
from edge.web.languages import gettext, listed
from edge.web.problems import Problem
from edge.web.study import study_of

blueprint = Blueprint("pages", __name__)

ROWS = 50


@blueprint.get("/")
def worklist() -> str:
    """The worklist, and beside it, where there is room, its first result."""
    return _page(None)


@blueprint.get("/results/<result_id>")
def study(result_id: str) -> str:
    """One result, and beside it, where there is room, the worklist."""
    return _page(result_id)


@blueprint.post("/results/<result_id>/acknowledge")
def acknowledge(result_id: str) -> BaseResponse:
    """The answer buttons without a program: records the answer and shows the result again."""
    stored, answer = find_result(result_id), answer_of(request.form.get("response", ""))
    audit.answered(given().store.acknowledge(result_id, g.person.name, answer) or stored, answer)
    return redirect(url_for("pages.study", result_id=result_id), HTTPStatus.SEE_OTHER)


@blueprint.get("/device")
def device() -> str:
    """How the box is, for whoever looks after it. Says nothing about patients."""
    return render_template("device.html", **device_view())


def find_result(result_id: str) -> StoredResult:
    """A result by its id. Raises `Problem` 404."""
    stored = given().store.result(result_id)
    if stored is None:
        detail = gettext("there is no result of this id: begin at the worklist, or at /api/v1/results")
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    return stored


def answer_of(response: str) -> words.Answer:
    """A known answer. Raises `Problem` 422."""
    try:
        return words.Answer(response)
    except ValueError:
        known = listed(words.Answer)
        detail = gettext("response %(value)s: must be one of %(known)s", value=repr(response[:20]), known=known)
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail) from None


@blueprint.post("/find")
def find_patient() -> str:
    """A patient's images. The id is typed in a form, so that it stands in no address and no history."""
    patient_id = request.form.get("patient_id", "")
    rows = given().store.results_of_patient(patient_id, ROWS)
    audit.searched(patient_id)
    return render_template("found.html", rows=rows, most=ROWS, now=given().clock())


def _rows() -> list[StoredResult]:
    """Flagged results that wait for a person first, however old; then the newest."""
    waiting = given().store.unacknowledged_flags(ROWS)
    ids = {stored.id for stored in waiting}
    return waiting + [stored for stored in given().store.results(ROWS) if stored.id not in ids]


def _page(result_id: str | None) -> str:
    dependencies = given()
    seq = (
        dependencies.store.last_seq()
    )  # before the rows: what changes in between is told again, so that none is missed
    rows = _rows()
    selected = find_result(result_id) if result_id else next(iter(rows), None)
    shown = study_of(selected)._asdict() if selected else {"selected": None}
    audit.saw(*filter(None, [selected]), listing=True)
    return render_template(
        "worklist.html",
        seq=seq,
        rows=rows,
        **shown,
        opened=result_id is not None,
        alarms=[stored for stored in rows if words.needs_answer(stored)],
        condition=dependencies.condition(),
        now=dependencies.clock(),
    )
