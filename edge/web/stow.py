"""STOW-RS (PS3.18 10.5): instances by HTTP, each into the store as it comes in.

Each part has its own outcome. Success is only said of what is on the disk (DESIGN rule 1); what is no image is accepted
too and answered "Not analysed" on the page, as over C-STORE.
"""

from __future__ import annotations

import re
import sqlite3
from email.message import Message
from enum import Enum
from http import HTTPStatus
from typing import NamedTuple

from flask import Blueprint, Response, g, request
from werkzeug.exceptions import RequestEntityTooLarge

from edge import events
from edge.events import emit
from edge.file_meta import file_meta
from edge.identity import Identity, Unidentified, read_file_identity, read_file_meta
from edge.records import Arrival
from edge.store import StorageFull
from edge.web import audit
from edge.web.dependencies import given
from edge.web.dicom_json import store_response
from edge.web.json_response import json_response
from edge.web.problems import Problem
from edge.web.related import Malformed, Part, RelatedParser

blueprint = Blueprint("stow", __name__)

MEDIA_TYPE = "application/dicom"
ANSWER_TYPES = ("application/dicom+json", "application/json")
_CHUNK = 1 << 18
_STUDY_UID = re.compile(r"[0-9.]{1,64}")


class Failure(Enum):
    """Why a part was not stored: Failure Reason (PS3.4 table B.2-1), the status when no part was, words for the log."""

    DISK_FULL = 0xA700, HTTPStatus.INSUFFICIENT_STORAGE, "the disk is full"
    NOT_STORED = 0x0110, HTTPStatus.SERVICE_UNAVAILABLE, "the disk or the journal failed"
    TOO_LARGE = 0xA700, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "larger than web.max_instance_mb allows"
    OTHER_MEDIA_TYPE = 0xC000, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"a part that is not {MEDIA_TYPE}"
    OTHER_STUDY = 0xA900, HTTPStatus.CONFLICT, "its Study Instance UID is not the request's"
    NOT_UNDERSTOOD = 0xC000, HTTPStatus.CONFLICT, "not a DICOM file whose UIDs can be read"
    BROKEN_OFF = 0xC000, HTTPStatus.BAD_REQUEST, "the rest of the body cannot be read as multipart/related"

    def __init__(self, reason: int, status: HTTPStatus, words: str) -> None:
        self.reason = reason
        self.status = status
        self.words = words


_WORST_FIRST = tuple(Failure)
_TRY_AGAIN = {HTTPStatus.INSUFFICIENT_STORAGE: "60", HTTPStatus.SERVICE_UNAVAILABLE: "2"}


class Outcome(NamedTuple):
    """What became of a part: which instance it is, None when unknown; why it was not stored; whether it was new."""

    identity: Identity | None
    failure: Failure | None = None
    new: bool = True


@blueprint.post("/api/v1/studies")
def store_instances() -> Response:
    """Store instances of any studies."""
    return _store("")


@blueprint.post("/api/v1/studies/<study_uid>")
def store_in_study(study_uid: str) -> Response:
    """Store instances of one study; those of others are refused."""
    if not _STUDY_UID.fullmatch(study_uid):
        raise Problem(HTTPStatus.BAD_REQUEST, "the address is no Study Instance UID: digits and dots, 64 at most")
    return _store(study_uid)


def status_of(outcomes: list[Outcome]) -> HTTPStatus:
    """The response's status (PS3.18 table 10.5.3-1): 200 all stored, 202 some, else the gravest failure's own."""
    failures = [outcome.failure for outcome in outcomes if outcome.failure]
    if not failures:
        return HTTPStatus.OK
    if len(failures) < len(outcomes):
        return HTTPStatus.ACCEPTED
    return next(failure for failure in _WORST_FIRST if failure in failures).status


def _store(study_uid: str) -> Response:
    _check_accept()
    outcomes: list[Outcome] = []
    try:
        parser = RelatedParser(
            _boundary(), given().limits.max_instance_bytes, lambda part: outcomes.append(_take(part, study_uid))
        )
        while chunk := request.stream.read(_CHUNK):
            parser.feed(chunk)
        parser.finish()
    except (Malformed, RequestEntityTooLarge) as error:
        if not any(outcome.failure is None for outcome in outcomes):
            if isinstance(error, Malformed):
                raise Problem(HTTPStatus.BAD_REQUEST, f"the body is no multipart/related: {error}") from error
            raise
        outcomes.append(Outcome(None, Failure.BROKEN_OFF))
    for outcome in outcomes:
        if outcome.failure:
            emit(events.NOT_ACCEPTED, source="STOW-RS", error=outcome.failure.words)
    audit.sent((one.identity, one.new) for one in outcomes if one.identity and one.failure is None)
    status = status_of(outcomes)
    answer = store_response((one.identity, one.failure and one.failure.reason) for one in outcomes)
    response = json_response(answer, status, mimetype=ANSWER_TYPES[0])
    if status in _TRY_AGAIN:
        response.headers["Retry-After"] = _TRY_AGAIN[status]
    return response


def examine(part: Part, study_uid: str) -> tuple[str, Outcome]:
    """Transfer syntax and instance of a part, and why it cannot be stored, if so.

    Args:
        part: As it came.
        study_uid: Of which study it must be; empty for any.
    """
    if part.media_type not in ("", MEDIA_TYPE):
        return "", Outcome(None, Failure.OTHER_MEDIA_TYPE)
    try:
        syntax, identity = read_file_identity(part.data)
    except Unidentified:
        return "", Outcome(None, Failure.TOO_LARGE if part.too_large else Failure.NOT_UNDERSTOOD)
    if part.too_large:
        return syntax, Outcome(identity, Failure.TOO_LARGE)
    if study_uid and identity.study_instance_uid != study_uid:
        return syntax, Outcome(identity, Failure.OTHER_STUDY)
    return syntax, Outcome(identity)


def _take(part: Part, study_uid: str) -> Outcome:
    """Store one part, or say why not. Does not raise for anything that a part may hold."""
    syntax, outcome = examine(part, study_uid)
    identity = outcome.identity
    if outcome.failure or identity is None:
        return outcome
    arrival = Arrival(
        source="stow",
        peer=g.person.name,
        sop_instance_uid=identity.sop_instance_uid,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=syntax,
        priority=given().store.urgent_orders.priority(identity),
    )
    try:
        _, start = read_file_meta(part.data)
        part.data[:start] = file_meta(identity.sop_class_uid, identity.sop_instance_uid, syntax)  # as over C-STORE
        accepted = given().store.accept(memoryview(part.data), arrival)
    except StorageFull:
        return Outcome(identity, Failure.DISK_FULL)
    except (OSError, sqlite3.Error):
        return Outcome(identity, Failure.NOT_STORED)
    return Outcome(identity, new=accepted.new)


def _check_accept() -> None:
    if request.accept_mimetypes and not request.accept_mimetypes.best_match(ANSWER_TYPES):
        raise Problem(HTTPStatus.NOT_ACCEPTABLE, f"the answer is {ANSWER_TYPES[0]}: accept it")


def _boundary() -> str:
    """The boundary of the parts. Raises `Problem` when the request is not one of instances with a known end."""
    if request.content_length is None and "chunked" not in request.headers.get("Transfer-Encoding", "").lower():
        raise Problem(HTTPStatus.LENGTH_REQUIRED, "no Content-Length and not chunked: send one of them")
    # Not werkzeug's parser: many senders leave out the quotes that the slash in `type` needs (RFC 2045 5.1).
    content_type = Message()
    content_type["Content-Type"] = request.content_type or ""
    media_type, boundary = (str(content_type.get_param(name, "")) for name in ("type", "boundary"))
    if content_type.get_content_type() != "multipart/related" or media_type.lower() != MEDIA_TYPE:
        detail = f'the Content-Type must be multipart/related; type="{MEDIA_TYPE}"; boundary=...'
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, detail)
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a Content-Encoding: send the body as it is")
    if not boundary:
        raise Problem(HTTPStatus.BAD_REQUEST, "the Content-Type names no boundary")
    return boundary
