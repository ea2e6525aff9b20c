"""What keeps an open page up to date: the event stream, and the fragments that its script fetches after a change.

Nothing here counts as something that a person did: it never keeps a session from idling out.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from http import HTTPStatus

import msgspec
from flask import Blueprint, Response, g, render_template, request
from werkzeug.wrappers import Response as BaseResponse

from edge import events as catalogue
from edge.events import emit
from edge.web import audit
from edge.web.condition import Condition, glance
from edge.web.dependencies import Dependencies, given
from edge.web.device_view import device_view
from edge.web.pages import ROWS, find_result
from edge.web.problems import Problem
from edge.web.streams import MAX_BACKLOG, MAX_STREAMS, Stream, message
from edge.web.study import study_of
from edge.web.views import view_of

blueprint = Blueprint("live", __name__)

_RECONNECT_AFTER_MS = 1000
_RESET = message("reset", b"{}")
_SIGNED_OUT = message("signed-out", b"{}")


@blueprint.get("/live/rows/<result_id>")
def row(result_id: str) -> str:
    """A worklist row, and the alarms as they are now."""
    stored, now = find_result(result_id), given().clock()
    audit.saw(listing=True)
    alarms = given().store.unacknowledged_flags(ROWS)
    return render_template("live_row.html", stored=stored, alarms=alarms, now=now, selected=None)


@blueprint.get("/live/study/<result_id>")
def study(result_id: str) -> str:
    """The study view of a result."""
    stored = find_result(result_id)
    audit.saw(stored)
    return render_template("_study.html", **study_of(stored)._asdict(), now=given().clock(), opened=True)


@blueprint.get("/live/device")
def device() -> str:
    """How the box is, in one line and in figures."""
    return render_template("live_device.html", condition=given().condition(), now=given().clock())


@blueprint.get("/live/device-view")
def device_page() -> BaseResponse:
    """The device page without its frame, for whoever has it open.

    By ETag: it is drawn anew when something changed that a person would notice, and once a minute for its curves.
    """
    dependencies = given()
    told = Response(mimetype="text/html")
    tag = f"{dependencies.clock() // 60:.0f}-{_digest(dependencies.condition())}"
    told.set_etag(tag)
    if tag not in request.if_none_match:
        told.set_data(render_template("_device_view.html", **device_view()))
    return told.make_conditional(request)


@blueprint.get("/live/changes")
def changes() -> BaseResponse:
    """For a page whose event stream does not come through: which results changed after `?after=SEQ`.

    By ETag (RFC 9110 8.8.3): 304 means that nothing did, nor how the box is. `reset` says that it missed too much.
    """
    dependencies = given()
    seq, after = dependencies.store.last_seq(), _after(request.args.get("after", "")) or 0
    told = Response(mimetype="application/json")
    tag = f"{seq}-{_digest(dependencies.condition())}"
    told.set_etag(tag)
    if tag not in request.if_none_match:
        audit.saw(listing=True)
        missed = dependencies.store.changed_since(after, MAX_BACKLOG)
        reset = len(missed) == MAX_BACKLOG or after > seq
        told.data = msgspec.json.encode({"seq": seq, "ids": [stored.id for stored in missed], "reset": reset})
    return told.make_conditional(request)


@blueprint.get("/api/v1/events")
def events() -> Response:
    """Server-sent events: `result`, `device`, `beat`, `reset`, `replaced`, `signed-out` (see openapi.json).

    A page resumes with `Last-Event-ID`, or begins with `?after=SEQ`; `reset` says that it missed too much: load anew.
    `?page=` names the page, so that it replaces its own earlier stream instead of taking another place.
    """
    dependencies, still = given(), g.still
    after = _after(request.headers.get("Last-Event-ID") or request.args.get("after", ""))
    owner = f"{g.secret or g.person.name} {request.args.get('page', '')[:64]}"
    stream = dependencies.streams.open(owner)
    if stream is None:
        emit(catalogue.STREAMS_FULL, count=MAX_STREAMS)
        detail = f"{MAX_STREAMS} pages are kept live already: close one, or load the page again by hand"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "10"})
    audit.saw(listing=True)
    response = Response(_tell(stream, after, still, dependencies), mimetype="text/event-stream")
    response.headers["X-Accel-Buffering"] = "no"
    response.call_on_close(lambda: dependencies.streams.close(owner, stream))
    return response


def _tell(stream: Stream, after: int | None, still: Callable[[], bool], dependencies: Dependencies) -> Iterator[bytes]:
    yield f": scanside\nretry: {_RECONNECT_AFTER_MS}\n\n".encode()
    yield _beat(dependencies)
    if after is not None:
        yield from _missed(after, dependencies)
    for told in stream.messages():
        if not still():
            yield _SIGNED_OUT
            return
        yield told or _beat(dependencies)


def _missed(after: int, dependencies: Dependencies) -> Iterator[bytes]:
    """What changed since `after`; what happened just now is told by the stream again, which does no harm."""
    missed = dependencies.store.changed_since(after, MAX_BACKLOG)
    if len(missed) == MAX_BACKLOG or after > dependencies.store.last_seq():
        yield _RESET
        return
    for stored in missed:
        yield message("result", msgspec.json.encode(view_of(stored)), stored.seq)


def _beat(dependencies: Dependencies) -> bytes:
    return message("beat", msgspec.json.encode({"now": dependencies.clock()}))


def _digest(condition: Condition) -> str:
    """Another one when something has changed that a person would notice."""
    return f"{zlib.crc32(repr(glance(condition)).encode()):08x}"


def _after(text: str) -> int | None:
    """Where a page stands; None when it does not say, or nonsense."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None
