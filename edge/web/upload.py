"""Upload on the page: a DICOM file, or a picture of a film with the age and kind of image that it does not say."""

from __future__ import annotations

import re
import sqlite3
from enum import StrEnum
from http import HTTPStatus

import msgspec
from flask import Blueprint, Response, g, redirect, render_template, request, url_for
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from edge import events
from edge.events import emit
from edge.identity import Identity, Unidentified, read_file_identity
from edge.records import Arrival
from edge.store import StorageFull
from edge.web import audit, upload_words
from edge.web.bodies import drain
from edge.web.dependencies import given
from edge.web.languages import gettext
from edge.web.problems import Problem
from edge.web.upload_words import UploadError

blueprint = Blueprint("upload", __name__)

LOOK_AGAIN_SECONDS = 2
OLDEST = 150.0
FIELDS = ("kind", "age", "unit")
_AGE = re.compile(r"(\d{1,3})(?:[.,](\d{1,2}))?")
_PER_YEAR = {"years": 1, "months": 12}
_STATUS = {
    UploadError.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    UploadError.OTHER_FORMAT: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    UploadError.DISK_FULL: HTTPStatus.INSUFFICIENT_STORAGE,
    UploadError.NOT_STORED: HTTPStatus.SERVICE_UNAVAILABLE,
}


class Format(StrEnum):
    """What a file is by its first bytes, whatever its name says."""

    DICOM = "dicom"
    PNG = "png"
    JPEG = "jpeg"


class Refused(Exception):  # noqa: N818 - an answer, not a defect
    """The form is shown again with what is wrong."""

    def __init__(self, error: UploadError) -> None:
        super().__init__(error)
        self.error = error


@blueprint.get("/upload")
def form() -> Response:
    """The form."""
    return _form(None)


@blueprint.post("/upload")
def take() -> BaseResponse:
    """Takes the file durably, then shows what becomes of it."""
    file = request.files.get("file")
    data = file.stream.read() if file else b""
    if not data:
        raise Refused(UploadError.NO_FILE)
    if len(data) > given().limits.max_instance_bytes:
        raise Refused(UploadError.TOO_LARGE)
    stated = {name: request.form.get(name, "") for name in FIELDS}
    arrival = arrival_of(data, g.person.name, **stated)
    identity = _identity(data)
    arrival = msgspec.structs.replace(arrival, priority=given().store.urgent_orders.priority(identity))
    try:
        accepted = given().store.accept(data, arrival)
    except StorageFull as error:
        emit(events.NOT_ACCEPTED, source="upload", error="the disk is full")
        raise Refused(UploadError.DISK_FULL) from error
    except (OSError, sqlite3.Error) as error:
        emit(events.NOT_ACCEPTED, source="upload", error=type(error).__name__)
        raise Refused(UploadError.NOT_STORED) from error
    audit.uploaded(identity, new=accepted.new)
    return redirect(url_for("upload.received", instance_id=accepted.instance.id), HTTPStatus.SEE_OTHER)


@blueprint.get("/uploads/<instance_id>")
def received(instance_id: str) -> BaseResponse:
    """The result of an uploaded file; until there is one, a page that looks again by itself."""
    stored = given().store.result_of(instance_id)
    if stored:
        return redirect(url_for("pages.study", result_id=stored.id), HTTPStatus.SEE_OTHER)
    if given().store.instance(instance_id) is None:
        raise Problem(
            HTTPStatus.NOT_FOUND, gettext("nothing was received under this address: begin at the upload form")
        )
    page = render_template("received.html", condition=given().condition())
    return Response(page, headers={"Refresh": str(LOOK_AGAIN_SECONDS)})


@blueprint.errorhandler(Refused)
def _show_refusal(refused: Refused) -> Response:
    return _form(refused.error)


@blueprint.errorhandler(RequestEntityTooLarge)
def _show_too_large(_error: RequestEntityTooLarge) -> Response:
    drain()
    return _form(UploadError.TOO_LARGE)


def arrival_of(data: bytes, person: str, *, kind: str, age: str, unit: str) -> Arrival:
    """How a file came, with what the person states about it.

    A picture needs both kind and age; what a DICOM file's tags leave out may be stated, and what they say counts.

    Raises:
        Refused: It is of another format, or something stated is missing or wrong.
    """
    found = format_of(data)
    if found is None:
        raise Refused(UploadError.OTHER_FORMAT)
    if kind not in ("", *upload_words.KINDS):
        raise Refused(UploadError.NO_KIND)
    years = stated_years(age, unit) if age.strip() else None
    arrival = Arrival(source="upload", peer=person, stated_modality=kind or None, stated_age_years=years)
    if found is not Format.DICOM:
        if not kind:
            raise Refused(UploadError.NO_KIND)
        if years is None:
            raise Refused(UploadError.NO_AGE)
        return arrival
    try:
        syntax, identity = read_file_identity(data)
    except Unidentified as error:
        raise Refused(UploadError.UNREADABLE) from error
    return msgspec.structs.replace(
        arrival,
        sop_instance_uid=identity.sop_instance_uid,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=syntax,
    )


def format_of(data: bytes) -> Format | None:
    """By magic bytes: PS3.10 7.1, ISO/IEC 15948 5.2, ISO/IEC 10918-1 B.1.1.3. None for anything else."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return Format.PNG
    if data.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    return Format.DICOM if data[128:132] == b"DICM" else None


def stated_years(age: str, unit: str) -> float:
    """An age in years, as a person writes it: `3`, `3,5`, `18` months. Raises `Refused`."""
    match = _AGE.fullmatch(age.strip())
    if match is None or unit not in _PER_YEAR:
        raise Refused(UploadError.WRONG_AGE)
    years = float(f"{match[1]}.{match[2] or 0}") / _PER_YEAR[unit]
    if years > OLDEST:
        raise Refused(UploadError.WRONG_AGE)
    return years


def _identity(data: bytes) -> Identity:
    """What was accepted: a picture says nothing of it."""
    return read_file_identity(data)[1] if format_of(data) is Format.DICOM else Identity("", "")


def _form(error: UploadError | None) -> Response:
    """The form with what was entered, but the file, which browsers never fill in."""
    entered = {} if error is UploadError.TOO_LARGE else request.form  # what is too large was dropped unread
    page = render_template(
        "upload.html",
        error=error and upload_words.refusal(error, given().limits.max_instance_bytes),
        wrong=error and upload_words.FIELDS.get(error),
        fields={name: entered.get(name, "")[:16] for name in FIELDS},
        kinds=upload_words.KINDS,
        largest=upload_words.megabytes(given().limits.max_instance_bytes),
    )
    return Response(page, _STATUS.get(error, HTTPStatus.UNPROCESSABLE_ENTITY) if error else HTTPStatus.OK)
