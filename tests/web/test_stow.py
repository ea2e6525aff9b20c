"""STOW-RS as its senders meet it: each instance's outcome, and success only for what is on the disk."""

from __future__ import annotations

import errno
from base64 import b64encode
from http import HTTPStatus
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydicom import Dataset
from werkzeug.test import TestResponse

from edge.file_meta import file_meta
from edge.identity import Identity, read_file_identity, read_file_meta
from edge.records import Arrival
from edge.store import Store
from edge.web.accounts import Role
from edge.web.lockout import FREE_PER_ACCOUNT
from edge.web.permissions import FORM_HEADER
from edge.web.stow import Failure, Outcome, status_of
from tests.intake.objects import dx, report
from tests.web.conftest import MAX_INSTANCE, MAX_REQUEST, PASSWORD, Box, token_of
from tests.web.test_api import check
from tests.web.test_related import BOUNDARY, body_of

CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
PATH = "/api/v1/studies"


def file_of(dataset: Dataset) -> bytes:
    """The object as a DICOM file."""
    target = BytesIO()
    dataset.save_as(target, enforce_file_format=True)
    return target.getvalue()


def basic(name: str = "sender", password: str = PASSWORD) -> dict[str, str]:
    """The header of HTTP Basic."""
    return {"Authorization": f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"}


def send(box: Box, body: bytes, path: str = PATH, role: Role = Role.SENDER, **options: Any) -> TestResponse:
    """As a gateway with an account of its own does."""
    box.account(role)
    headers = {"Content-Type": CONTENT_TYPE} | basic(role.value) | options.pop("headers", {})
    return box.app.test_client().post(path, data=body, headers=headers, **options)


def uids(response: TestResponse, sequence: str) -> list[str]:
    """The SOP Instance UIDs of one of the response's sequences."""
    found = response.get_json().get(sequence, {"Value": []})["Value"]
    return [item["00081155"]["Value"][0] for item in found]


def reasons(response: TestResponse, sequence: str = "00081198") -> list[int]:
    """The Failure Reasons of one of the response's sequences."""
    return [item["00081197"]["Value"][0] for item in response.get_json().get(sequence, {"Value": []})["Value"]]


def as_stored(file: bytes) -> bytes:
    """A file's data set behind the meta information that every object has here."""
    syntax, identity = read_file_identity(file)
    return file_meta(identity.sop_class_uid, identity.sop_instance_uid, syntax) + file[read_file_meta(file)[1] :]


def everything(store: Store) -> list[bytes]:
    """The bytes of all that was accepted."""
    found = []
    while instance := store.claim():
        found.append(store.read(instance.id))
    return found


def test_instances_are_on_the_disk_when_they_are_answered(box: Box) -> None:
    objects = [dx(seed=1), dx(seed=2), report()]
    files = [file_of(item) for item in objects]
    response = send(box, body_of(*files))
    assert (response.status_code, response.mimetype) == (HTTPStatus.OK, "application/dicom+json")
    check(response.get_json(), "StoreResponse")
    assert uids(response, "00081199") == [item.SOPInstanceUID for item in objects]
    assert {"00081198", "0008119A"}.isdisjoint(response.get_json())
    again = Store(box.state_dir)
    instance = again.claim()
    assert instance is not None
    arrival = instance.arrival
    assert (arrival.source, arrival.peer, arrival.sop_instance_uid) == ("stow", "sender", objects[0].SOPInstanceUID)
    assert (arrival.sop_class_uid, arrival.transfer_syntax_uid) == (objects[0].SOPClassUID, "1.2.840.10008.1.2.1")
    assert [again.read(instance.id), *everything(again)] == [as_stored(file) for file in files]
    again.close()


def test_what_comes_again_is_success_and_one_instance(box: Box) -> None:
    body = body_of(file_of(dx()))
    assert [send(box, body).status_code for _ in range(2)] == [HTTPStatus.OK, HTTPStatus.OK]
    assert box.store.queue().depth == 1


def test_what_came_by_c_store_before_is_the_same_instance(box: Box) -> None:
    """The listener stores a data set behind the same meta information; a sender's own may say anything."""
    image = dx()
    file = file_of(image)
    arrival = Arrival(source="dicom", peer="MODALITY", sop_instance_uid=str(image.SOPInstanceUID))
    box.store.accept(as_stored(file), arrival)
    assert as_stored(file) != file
    assert send(box, body_of(file)).status_code == HTTPStatus.OK
    assert box.store.queue().depth == 1


def test_only_the_study_of_the_path_is_taken(box: Box) -> None:
    right, wrong = dx(seed=1), dx(seed=2)
    path = f"{PATH}/{right.StudyInstanceUID}"
    response = send(box, body_of(file_of(right), file_of(wrong)), path)
    assert response.status_code == HTTPStatus.ACCEPTED
    check(response.get_json(), "StoreResponse")
    assert uids(response, "00081199") == [right.SOPInstanceUID]
    assert uids(response, "00081198") == [wrong.SOPInstanceUID]
    assert reasons(response) == [0xA900]
    assert send(box, body_of(file_of(wrong)), path).status_code == HTTPStatus.CONFLICT
    assert everything(box.store) == [as_stored(file_of(right))]
    assert send(box, body_of(file_of(right)), f"{PATH}/no-uid").status_code == HTTPStatus.BAD_REQUEST


def test_what_is_no_dicom_is_an_other_failure(box: Box) -> None:
    response = send(box, body_of(b"GIF89a", file_of(dx())))
    assert response.status_code == HTTPStatus.ACCEPTED
    check(response.get_json(), "StoreResponse")
    assert reasons(response, "0008119A") == [0xC000]
    assert len(uids(response, "00081199")) == 1
    alone = send(box, body_of(b"GIF89a"))
    assert alone.status_code == HTTPStatus.CONFLICT
    check(alone.get_json(), "StoreResponse")


def test_an_instance_that_is_too_large_costs_only_itself(box: Box) -> None:
    large, small = dx(size=1024, seed=1), dx(seed=2)
    assert len(file_of(large)) > MAX_INSTANCE
    response = send(box, body_of(file_of(large), file_of(small)))
    assert response.status_code == HTTPStatus.ACCEPTED
    assert (uids(response, "00081198"), reasons(response)) == ([large.SOPInstanceUID], [0xA700])
    assert uids(response, "00081199") == [small.SOPInstanceUID]
    assert send(box, body_of(file_of(large))).status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert everything(box.store) == [as_stored(file_of(small))]


def test_a_request_that_is_too_large_is_not_read(box: Box) -> None:
    response = send(box, body_of(*[file_of(dx(size=512, seed=seed)) for seed in range(9)]))
    assert response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert box.store.queue().depth == 0
    assert MAX_REQUEST < 9 * 512 * 512 * 2


@pytest.mark.parametrize("stored_before", [False, True])
def test_a_body_that_breaks_off_loses_only_the_rest(box: Box, stored_before: bool) -> None:
    files = [file_of(dx(seed=seed)) for seed in range(2)]
    body = body_of(*files)
    cut = body[: body.index(files[1]) + 50] if stored_before else body[:-200][: body.index(files[0]) + 50]
    response = send(box, cut)
    if stored_before:
        assert response.status_code == HTTPStatus.ACCEPTED
        assert reasons(response, "0008119A") == [0xC000]
    else:
        assert (response.status_code, response.mimetype) == (HTTPStatus.BAD_REQUEST, "application/problem+json")
    assert everything(box.store) == [as_stored(file) for file in files[:stored_before]]


def test_a_full_disk_is_said_and_heals(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    body = body_of(file_of(dx()))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        response = send(box, body)
    assert response.status_code == HTTPStatus.INSUFFICIENT_STORAGE
    assert reasons(response) == [0xA700]
    assert response.headers["Retry-After"]
    assert box.store.queue().depth == 0
    assert send(box, body).status_code == HTTPStatus.OK


def test_a_store_that_fails_is_said(box: Box) -> None:
    box.account(Role.SENDER)
    box.store.close()
    response = send(box, body_of(file_of(dx())))
    assert response.status_code == HTTPStatus.SERVICE_UNAVAILABLE
    assert reasons(response) == [0x0110]
    assert response.headers["Retry-After"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Type": "application/dicom"}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ({"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ({"Content-Type": f"multipart/related; boundary={BOUNDARY}"}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        (
            {"Content-Type": f'multipart/related; type="application/dicom+json"; boundary={BOUNDARY}'},
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        ),
        ({"Content-Encoding": "gzip"}, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        ({"Content-Type": 'multipart/related; type="application/dicom"'}, HTTPStatus.BAD_REQUEST),
        (
            {"Content-Type": f'multipart/related; type="application/dicom"; boundary={"b" * 300}'},
            HTTPStatus.BAD_REQUEST,
        ),
        ({"Accept": "application/dicom+xml"}, HTTPStatus.NOT_ACCEPTABLE),
        ({"Accept": "text/html"}, HTTPStatus.NOT_ACCEPTABLE),
        ({"Accept": "application/dicom+json"}, HTTPStatus.OK),
        ({"Accept": "application/json"}, HTTPStatus.OK),
        ({"Accept": "*/*"}, HTTPStatus.OK),
        ({"Content-Type": f"Multipart/Related;boundary={BOUNDARY};type=application/dicom"}, HTTPStatus.OK),
    ],
)
def test_headers_have_their_rules(box: Box, headers: dict[str, str], status: HTTPStatus) -> None:
    response = send(box, body_of(file_of(dx())), headers=headers)
    assert response.status_code == status
    if status is not HTTPStatus.OK:
        check(response.get_json(), "ProblemDetails")
        assert box.store.queue().depth == 0


def test_a_part_of_another_media_type_is_refused(box: Box) -> None:
    response = send(box, body_of(file_of(dx()), header=b"Content-Type: application/dicom+xml\r\n"))
    assert response.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    assert reasons(response, "0008119A") == [0xC000]


WHO = Identity("1.2", "1.2.3")
GOOD = Outcome(WHO)


@pytest.mark.parametrize(
    ("outcomes", "status"),
    [
        ([GOOD], 200),
        ([GOOD, GOOD], 200),
        ([GOOD, Outcome(WHO, Failure.OTHER_STUDY)], 202),
        ([Outcome(None, Failure.BROKEN_OFF), GOOD], 202),
        ([Outcome(WHO, Failure.OTHER_STUDY)], 409),
        ([Outcome(None, Failure.NOT_UNDERSTOOD)], 409),
        ([Outcome(None, Failure.OTHER_MEDIA_TYPE), Outcome(None, Failure.NOT_UNDERSTOOD)], 415),
        ([Outcome(None, Failure.NOT_UNDERSTOOD), Outcome(WHO, Failure.TOO_LARGE)], 413),
        ([Outcome(WHO, Failure.TOO_LARGE), Outcome(WHO, Failure.NOT_STORED)], 503),
        ([Outcome(WHO, Failure.NOT_STORED), Outcome(WHO, Failure.DISK_FULL)], 507),
    ],
)
def test_the_status_of_the_whole(outcomes: list[Outcome], status: int) -> None:
    assert status_of(outcomes) == status


@pytest.mark.parametrize("role", Role)
def test_programs_and_those_who_see_patients_may_send(box: Box, role: Role) -> None:
    response = send(box, body_of(file_of(dx())), role=role)
    assert response.status_code == (HTTPStatus.FORBIDDEN if role is Role.SERVICE else HTTPStatus.OK)
    assert box.store.queue().depth == int(role is not Role.SERVICE)


def test_a_sender_can_do_nothing_else(box: Box) -> None:
    box.account(Role.SENDER)
    client = box.app.test_client()
    for path in ("/api/v1/results", "/api/v1/health", "/", "/device", "/upload"):
        assert client.get(path, headers=basic()).status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.SEE_OTHER)
    page = _signed_in_by_form(client, "sender")
    assert "for programs that send images" in page.text
    assert client.get("/").status_code == HTTPStatus.SEE_OTHER


def test_a_wrong_password_is_counted_and_locks(box: Box) -> None:
    body = body_of(file_of(dx()))
    for _ in range(FREE_PER_ACCOUNT):
        wrong = send(box, body, headers=basic(password="wrong"))
        assert wrong.status_code == HTTPStatus.UNAUTHORIZED
        assert wrong.headers["WWW-Authenticate"].startswith("Basic ")
    locked = send(box, body)
    assert (locked.status_code, locked.headers["Retry-After"]) == (HTTPStatus.TOO_MANY_REQUESTS, "60")
    check(locked.get_json(), "ProblemDetails")
    box.clock.now += 60
    assert send(box, body).status_code == HTTPStatus.OK


@pytest.mark.parametrize(
    ("address", "scheme", "allowed"),
    [
        ("127.0.0.1", "http", True),
        ("::1", "http", True),
        ("::ffff:127.0.0.1", "http", True),
        ("192.168.1.7", "http", False),
        ("fe80::1", "http", False),
        ("", "http", False),
        ("192.168.1.7", "https", True),
    ],
)
def test_a_password_comes_over_tls_or_from_this_box(box: Box, address: str, scheme: str, allowed: bool) -> None:
    environ = {"REMOTE_ADDR": address, "wsgi.url_scheme": scheme}
    response = send(box, body_of(file_of(dx())), environ_overrides=environ)
    assert response.status_code == (HTTPStatus.OK if allowed else HTTPStatus.FORBIDDEN)
    wrong = send(box, body_of(file_of(dx())), environ_overrides=environ, headers=basic(password="wrong"))
    assert wrong.status_code == (HTTPStatus.UNAUTHORIZED if allowed else HTTPStatus.FORBIDDEN)


def test_a_session_needs_the_form_token_as_everywhere(box: Box) -> None:
    client = box.signed_in(Role.TECHNICIAN)
    body, headers = body_of(file_of(dx())), {"Content-Type": CONTENT_TYPE}
    assert client.post(PATH, data=body, headers=headers).status_code == HTTPStatus.FORBIDDEN
    assert box.store.queue().depth == 0
    token = {FORM_HEADER: token_of(client)}
    assert client.post(PATH, data=body, headers=headers | token).status_code == HTTPStatus.OK


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"])
def test_no_form_of_another_site_can_use_a_password_that_a_browser_kept(box: Box, content_type: str) -> None:
    """These are the types that a cross-origin request can have without asking first (Fetch, 2.2.2)."""
    response = send(box, body_of(file_of(dx())), headers={"Content-Type": f"{content_type}; boundary={BOUNDARY}"})
    assert response.status_code == HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    asked = box.app.test_client().options(PATH, headers=basic() | {"Origin": "https://evil.example"})
    assert not [name for name in dict(asked.headers) if name.lower().startswith("access-control")]
    assert box.store.queue().depth == 0


def test_only_so_many_bring_images_at_once_and_every_place_is_given_back(box: Box) -> None:
    limits = box.app.extensions["scanside"].limits
    body = body_of(file_of(dx()))
    assert limits.enter()
    assert limits.enter()
    refused = send(box, body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (HTTPStatus.SERVICE_UNAVAILABLE, "2")
    limits.leave()
    for wrong in (b"", b"x", body[:100], body):
        send(box, wrong)
    assert send(box, body).status_code == HTTPStatus.OK
    limits.leave()


def _signed_in_by_form(client: FlaskClient, name: str) -> TestResponse:
    client.get("/sign-in")
    data = {"name": name, "password": PASSWORD, "form_token": token_of(client, "scanside_form")}
    return client.post("/sign-in", data=data)
