"""Uploading on the page: what is taken, what is refused, and what is said about it."""

from __future__ import annotations

import errno
import re
from http import HTTPStatus
from io import BytesIO

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from edge.records import Arrival, Status
from edge.web import upload_words, words
from edge.web.accounts import Role
from edge.web.bodies import Watched
from edge.web.limits import GRACE_SECONDS, SLOWEST, too_slow
from edge.web.problems import Problem
from edge.web.upload import Format, Refused, arrival_of, format_of, stated_years
from edge.web.upload_words import UploadError
from tests.intake.objects import dx
from tests.web import samples
from tests.web.conftest import MAX_INSTANCE, Box, token_of
from tests.web.test_pages import text_of
from tests.web.test_stow import file_of

JPEG, PNG = samples.preview(), samples.overlay(64)
STATED = {"kind": "CR", "age": "3", "unit": "years"}


def upload(client: FlaskClient, data: bytes | None, *, name: str = "film.jpg", **stated: str) -> TestResponse:
    """Send the form, as a browser does."""
    fields: dict[str, object] = {**STATED, **stated, "form_token": token_of(client)}
    if data is not None:
        fields["file"] = (BytesIO(data), name)
    return client.post("/upload", data=fields, content_type="multipart/form-data")


def taken(box: Box) -> Arrival:
    instance = box.store.claim()
    assert instance is not None
    return instance.arrival


def test_a_picture_is_stored_with_what_is_stated_and_leads_to_its_answer(box: Box) -> None:
    client = box.signed_in()
    response = upload(client, JPEG, age="18", unit="months")
    assert response.status_code == HTTPStatus.SEE_OTHER
    waiting = client.get(response.headers["Location"])
    assert (waiting.status_code, waiting.headers["Refresh"]) == (HTTPStatus.OK, "2")
    instance = box.store.claim()
    assert instance is not None
    assert box.store.read(instance.id) == JPEG
    assert instance.arrival == Arrival(source="upload", peer="technician", stated_modality="CR", stated_age_years=1.5)
    stored = box.store.commit(instance, samples.clear(source="upload", sop_instance_uid=None), samples.CHILD)
    assert client.get(response.headers["Location"]).headers["Location"] == f"/results/{stored.id}"
    assert client.get("/uploads/none").status_code == HTTPStatus.NOT_FOUND


def test_the_same_picture_with_another_age_is_analysed_anew(box: Box) -> None:
    """Whoever mistyped the age must be able to correct it."""
    client = box.signed_in()
    first = upload(client, JPEG, age="30").headers["Location"]
    assert upload(client, JPEG, age="30").headers["Location"] == first
    assert upload(client, JPEG, age="3").headers["Location"] != first
    assert box.store.queue().depth == 2


def test_a_dicom_file_needs_no_statement_and_may_have_one(box: Box) -> None:
    client, dataset = box.signed_in(), dx()
    assert upload(client, file_of(dataset), kind="", age="").status_code == HTTPStatus.SEE_OTHER
    arrival = taken(box)
    assert (arrival.source, arrival.sop_instance_uid) == ("upload", dataset.SOPInstanceUID)
    assert (arrival.transfer_syntax_uid, arrival.stated_modality) == ("1.2.840.10008.1.2.1", None)
    assert upload(client, file_of(dataset)).status_code == HTTPStatus.SEE_OTHER
    assert taken(box).stated_age_years == 3.0


@pytest.mark.parametrize(
    ("data", "stated", "error", "status"),
    [
        (None, {}, UploadError.NO_FILE, 422),
        (b"", {}, UploadError.NO_FILE, 422),
        (b"GIF89a", {}, UploadError.OTHER_FORMAT, 415),
        (b"%PDF-1.7", {}, UploadError.OTHER_FORMAT, 415),
        (b"\0\0\0\x18ftypheic", {}, UploadError.OTHER_FORMAT, 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", {}, UploadError.OTHER_FORMAT, 415),
        (bytes(128) + b"DICM", {}, UploadError.UNREADABLE, 422),
        (JPEG, {"kind": ""}, UploadError.NO_KIND, 422),
        (JPEG, {"kind": "CT'--"}, UploadError.NO_KIND, 422),
        (PNG, {"age": ""}, UploadError.NO_AGE, 422),
        (PNG, {"age": " "}, UploadError.NO_AGE, 422),
        (JPEG, {"age": "three"}, UploadError.WRONG_AGE, 422),
        (JPEG, {"age": "-3"}, UploadError.WRONG_AGE, 422),
        (JPEG, {"unit": "weeks"}, UploadError.WRONG_AGE, 422),
        (bytes(MAX_INSTANCE + 1), {}, UploadError.TOO_LARGE, 413),
        (bytes(2 * MAX_INSTANCE), {}, UploadError.TOO_LARGE, 413),
    ],
)
def test_what_is_not_taken_is_said_where_it_is_wrong(
    box: Box, data: bytes | None, stated: dict[str, str], error: UploadError, status: int
) -> None:
    response = upload(box.signed_in(), data, **stated)
    assert response.status_code == status
    assert upload_words.refusal(error, MAX_INSTANCE) in text_of(response.text)
    wrong = upload_words.FIELDS[error]
    assert re.search(rf'<(input|select) id="{wrong}"[^>]* aria-invalid="true"', response.text)
    assert response.text.count("aria-invalid") == 1
    assert box.store.queue().depth == 0


def test_what_was_entered_stands_in_the_form_again_as_text(box: Box) -> None:
    page = upload(box.signed_in(), JPEG, age='"><script>', unit="months").text
    assert 'value="&#34;&gt;&lt;script&gt;"' in page
    assert "<script>" not in page
    assert re.search(r'<option value="CR" selected>', page)
    assert re.search(r'<option value="months" selected>', page)


def test_a_full_disk_is_said_and_heals(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    client = box.signed_in()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        response = upload(client, JPEG)
    assert response.status_code == HTTPStatus.INSUFFICIENT_STORAGE
    assert "The disk of this device is full" in response.text
    assert upload(client, JPEG).status_code == HTTPStatus.SEE_OTHER


def test_nothing_of_an_upload_is_left_in_temporary_files(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    """Werkzeug's own parser makes one for each file, and rolls large ones over to the disk."""

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a temporary file")

    monkeypatch.setattr("werkzeug.formparser.SpooledTemporaryFile", forbidden)
    large = JPEG + bytes(MAX_INSTANCE - len(JPEG))
    assert upload(box.signed_in(), large).status_code == HTTPStatus.SEE_OTHER


def test_a_file_may_hold_what_looks_like_the_beginning_of_a_delimiter(box: Box) -> None:
    """Werkzeug counts what it read of a file and has not parsed yet against its limit for text fields."""
    assert upload(box.signed_in(), JPEG + b"\r\n" * 100_000).status_code == HTTPStatus.SEE_OTHER


def test_the_page_that_waits_does_not_keep_a_person_signed_in(box: Box) -> None:
    client = box.signed_in()
    path = upload(client, JPEG).headers["Location"]
    for _ in range(4):
        box.clock.now += 450
        last = client.get(path)
    assert last.status_code == HTTPStatus.SEE_OTHER
    assert last.headers["Location"].startswith("/sign-in")


@pytest.mark.parametrize("role", Role)
def test_only_those_who_see_patients_find_the_form(box: Box, role: Role) -> None:
    client = box.signed_in(role)
    assert ('href="/upload"' in client.get("/device").text) is (role not in (Role.SERVICE, Role.SENDER))


@pytest.mark.parametrize("status", [Status.FLAGGED, Status.CLEAR, Status.INDETERMINATE])
def test_every_answer_for_a_picture_carries_its_caveat(box: Box, status: Status) -> None:
    answer = samples.result(status, findings=(samples.finding(0.7),), source="upload", sop_instance_uid=None)
    stored = samples.commit(box.store, answer)
    client = box.signed_in()
    assert "outside of what the software was measured on" in text_of(client.get(f"/results/{stored.id}").text)
    assert "Uploaded picture, not a DICOM image" in client.get("/").text


def test_the_caveat_is_for_uploads_only() -> None:
    assert "as stated there" in words.caveat(samples.clear(source="upload"))
    assert "measured" not in words.caveat(samples.clear(source="upload"))
    assert words.caveat(samples.clear(sop_instance_uid=None)) == ""


@pytest.mark.parametrize(
    ("age", "unit", "years"),
    [
        ("3", "years", 3.0),
        (" 3,5 ", "years", 3.5),
        ("3.25", "years", 3.25),
        ("18", "months", 1.5),
        ("0", "months", 0.0),
    ],
)
def test_ages_are_read_as_people_write_them(age: str, unit: str, years: float) -> None:
    assert stated_years(age, unit) == years


@given(st.text(max_size=12), st.sampled_from(["years", "months", "", "days"]))
def test_any_other_age_is_refused(age: str, unit: str) -> None:
    try:
        assert 0 <= stated_years(age, unit) <= 150
    except Refused as refused:
        assert refused.error is UploadError.WRONG_AGE


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(data: bytes) -> None:
    try:
        arrival = arrival_of(data, "ada", **STATED)
    except Refused as refused:
        assert refused.error in (UploadError.OTHER_FORMAT, UploadError.UNREADABLE)
        return
    assert format_of(data) in (Format.PNG, Format.JPEG)
    assert arrival.sop_instance_uid is None


@pytest.mark.parametrize(
    ("received", "seconds", "slow"),
    [
        (0, GRACE_SECONDS, False),
        (0, GRACE_SECONDS + 0.1, True),
        (SLOWEST * 100, GRACE_SECONDS + 99, False),
        (SLOWEST * 100, GRACE_SECONDS + 101, True),
    ],
)
def test_a_body_that_dawdles_is_given_up(received: int, seconds: float, slow: bool) -> None:
    assert too_slow(received, seconds) is slow
    times = iter((0.0, seconds))
    body = Watched(BytesIO(bytes(received)), lambda: next(times))
    if slow:
        with pytest.raises(Problem, match="too slowly"):
            body.read()
    else:
        assert len(body.read()) == received


@pytest.mark.parametrize(
    ("error", "status"),
    [(BlockingIOError(11, "stalled"), 408), (TimeoutError(), 408), (ConnectionResetError(), 400)],
)
def test_a_body_that_stalls_or_breaks_is_a_problem(error: OSError, status: int) -> None:
    class Broken(BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise error

    with pytest.raises(Problem) as problem:
        Watched(Broken()).read(10)
    assert problem.value.status == status
