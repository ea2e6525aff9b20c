"""What is done on the page and through the API, as the audit trail tells it."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

import pytest
from flask.testing import FlaskClient

from edge.store.audit import ONE_VIEW
from edge.web.accounts import Role
from edge.web.lockout import FREE_PER_ACCOUNT
from edge.web.permissions import OPEN, PERMISSIONS
from tests.intake.objects import dx
from tests.store.audit_reading import in_words
from tests.web import samples
from tests.web.conftest import PASSWORD, Box, token_of
from tests.web.test_permissions import path_of, routes
from tests.web.test_related import body_of
from tests.web.test_sign_in import post
from tests.web.test_stow import file_of, send
from tests.web.test_upload import upload

PERSON = "technician@xray-1.clinic-12"
LIST = f"Query E 0 | {PERSON}*"
VIEW = f"DICOM Instances Accessed R 0 | {PERSON}*"

MESSAGES: dict[str, list[str]] = {
    "pages.worklist": [LIST, VIEW],
    "pages.study": [LIST, VIEW],
    "live.row": [LIST],
    "live.study": [VIEW],
    "live.events": [LIST],
    "live.changes": [LIST],
    "api.results": [LIST],
    "api.result": [VIEW],
    "api.image": [VIEW],
    "api.overlay": [VIEW],
}
"""What a GET leaves in the trail. Every other route shows nothing of patients."""

SHOWS_NO_PATIENT = {"live.device", "upload.form", "upload.received"}


def told(box: Box, after: int = 0) -> list[str]:
    """The trail's messages in words."""
    return [in_words(record.xml or "") for record in box.audit.read(after, 1000)]


def starts(words: list[str], expected: list[str]) -> bool:
    return len(words) == len(expected) and all(
        word.startswith(start) for word, start in zip(words, expected, strict=True)
    )


@pytest.mark.parametrize("endpoint", [name for name, roles in PERMISSIONS.items() if roles is not OPEN])
def test_whoever_sees_patients_leaves_a_record(box: Box, endpoint: str) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    for rule, method in routes(box):
        if rule.endpoint == endpoint and method == "GET":
            with client.get(path_of(rule, stored.id)) as response:
                seen = next(iter(response.response), b"") if endpoint == "live.events" else response.data
            assert starts(told(box), MESSAGES.get(endpoint, [])), told(box)
            if endpoint not in MESSAGES:
                assert "…417".encode() not in seen if isinstance(seen, bytes) else True


def test_the_table_has_every_route_that_is_for_those_who_see_patients(box: Box) -> None:
    gets = {rule.endpoint for rule, method in routes(box) if method == "GET"}
    patients = {name for name in gets if Role.SERVICE not in PERMISSIONS[name] and PERMISSIONS[name] is not OPEN}
    assert patients == set(MESSAGES) | SHOWS_NO_PATIENT


def test_a_view_names_study_and_patient_and_counts_once(box: Box) -> None:
    first = samples.commit(box.store, samples.flagged())
    second = samples.commit(box.store, samples.clear())
    client = box.signed_in()
    for _ in range(3):
        for path in (f"/results/{first.id}", f"/api/v1/results/{first.id}/image", f"/live/study/{first.id}"):
            client.get(path)
    words = told(box)
    assert starts(words, [LIST, VIEW])
    assert words[1].endswith(f"Study Instance UID 2/3 <none> result={first.id} | Patient Number 1/1 PAT-000417")
    client.get(f"/api/v1/results/{second.id}")
    other = box.signed_in(Role.CLINICIAN)
    other.get(f"/api/v1/results/{first.id}")
    box.clock.now += ONE_VIEW
    client.get(f"/api/v1/results/{first.id}")
    assert starts(told(box, 2), [VIEW, VIEW.replace("technician", "clinician"), VIEW])


def test_a_list_says_what_was_asked_for(box: Box) -> None:
    box.signed_in().get("/api/v1/results?limit=7")
    assert told(box)[0].endswith("| Search Criteria 2/3 /api/v1/results ?GET /api/v1/results?limit=7")


def test_what_is_not_there_was_not_seen(box: Box) -> None:
    client = box.signed_in()
    for path in ("/results/none", "/api/v1/results/none", "/api/v1/results/none/image", "/live/rows/none"):
        assert client.get(path).status_code == HTTPStatus.NOT_FOUND
    assert told(box) == []


def by_form(client: FlaskClient, result_id: str, answer: str) -> None:
    client.post(f"/results/{result_id}/acknowledge", data={"response": answer, "form_token": token_of(client)})


def by_program(client: FlaskClient, result_id: str, answer: str) -> None:
    headers = {"X-Form-Token": token_of(client)}
    client.post(f"/api/v1/results/{result_id}/acknowledge", json={"response": answer}, headers=headers)


@pytest.mark.parametrize("answer_by", [by_form, by_program])
def test_answers_are_told_with_whether_they_stand(box: Box, answer_by: Callable[[FlaskClient, str, str], None]) -> None:
    stored = samples.commit(box.store, samples.flagged())
    answer_by(box.signed_in(), stored.id, "agree")
    answer_by(box.signed_in(Role.CLINICIAN), stored.id, "disagree")
    assert starts(
        told(box),
        [
            f"DICOM Instances Accessed: Result acknowledged: agree U 0 | {PERSON}*",
            "DICOM Instances Accessed: Result acknowledged: disagree U 4 (acknowledged before) | clinician@",
        ],
    )


def test_signing_in_failing_to_and_signing_out(box: Box) -> None:
    box.account()
    client = box.app.test_client()
    post(client, "/sign-in", name="technician", password="wrong")
    post(client, "/sign-in", name=" Technician ", password=PASSWORD)
    client.post("/sign-out", data={"form_token": token_of(client)})
    assert told(box) == [
        f"User Authentication: Login E 4 (wrong name or password) | {PERSON}* 127.0.0.1, scanside-web",
        f"User Authentication: Login E 0 | {PERSON}* 127.0.0.1, scanside-web",
        f"User Authentication: Logout E 0 | {PERSON}* 127.0.0.1, scanside-web",
    ]


def test_a_lock_is_told_once_however_often_it_is_tried(box: Box) -> None:
    client = box.app.test_client()
    for _ in range(FREE_PER_ACCOUNT + 5):
        post(client, "/sign-in", name="eve", password="wrong")
    words = told(box)
    assert len(words) == FREE_PER_ACCOUNT
    assert words[-1].startswith("User Authentication: Login E 12 (too many failures: locked for 60 s) | eve@")


def test_a_program_at_the_form_and_a_wrong_password_by_basic(box: Box) -> None:
    box.account(Role.SENDER)
    post(box.app.test_client(), "/sign-in", name="sender", password=PASSWORD)
    box.app.test_client().post("/api/v1/studies", auth=("sender", "wrong"))
    assert starts(
        told(box),
        [
            "User Authentication: Login E 4 (an account for programs) | sender@",
            "User Authentication: Login E 4 (wrong name or password) | sender@",
        ],
    )


def test_the_first_account(box: Box) -> None:
    code = box.accounts.first_boot_code() or ""
    client = box.app.test_client()
    post(client, "/first-account", code="AAAA", name="ada", password=PASSWORD)
    post(client, "/first-account", code=code, name="ada", password=PASSWORD)
    words = told(box)
    assert starts(
        words,
        [
            "User Authentication: Login E 4 (wrong code) | first account@",
            "Security Alert: User Security Attributes Changed E 0 | scanside-web, ada@",
            "User Authentication: Login E 0 | ada@",
        ],
    )
    assert words[1].endswith("/accounts/ada Alert Description=created with the first-boot code, role administrator")


def test_a_role_that_may_not_is_told(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in(Role.SERVICE)
    for _ in range(2):
        client.get(f"/results/{stored.id}")
    assert told(box) == [
        "Security Alert: Use of Restricted Function E 4 | scanside-web, service@xray-1.clinic-12 127.0.0.1"
        " | URI 2/13 GET /results/<result_id> Alert Description=refused: not for this role"
    ]


def test_an_upload_is_an_import(box: Box) -> None:
    image = dx()
    image.SpecificCharacterSet, image.PatientID, image.StudyInstanceUID = "ISO_IR 192", "Müller-1", "2.25.3"
    client = box.signed_in()
    upload(client, file_of(image))
    upload(client, samples.preview(), kind="DX", age="3", unit="years")
    people = (
        f"Import C 0 | {PERSON}* [Destination Role ID] 127.0.0.1, scanside-web [Destination Role ID],"
        " upload [Source Media] 127.0.0.1 on URI"
    )
    assert told(box) == [
        f"{people} | Study Instance UID 2/3 2.25.3 1x{image.SOPClassUID} | Patient Number 1/1 Müller-1",
        f"{people} | Study Instance UID 2/3 <none> 1x | Patient Number 1/1 <none>",
    ]


def test_what_a_program_sends_is_a_transfer_for_each_patient(box: Box) -> None:
    images = [dx(seed=number) for number in range(3)]
    for number, image in enumerate(images):
        image.PatientID, image.StudyInstanceUID = f"P{number // 2}", "2.25.3"
    send(box, body_of(*map(file_of, images[:2])))
    send(box, body_of(*map(file_of, images[1:])))
    send(box, body_of(b"no dicom"))
    people = "sender@xray-1.clinic-12* [Source Role ID] 127.0.0.1, scanside-web [Destination Role ID]"
    about, sop = "Study Instance UID 2/3 2.25.3", images[0].SOPClassUID
    assert told(box) == [
        f"DICOM Instances Transferred C 0 | {people} | {about} 2x{sop} | Patient Number 1/1 P0",
        f"DICOM Instances Transferred R 0 | {people} | {about} 1x{sop} | Patient Number 1/1 P0",
        f"DICOM Instances Transferred C 0 | {people} | {about} 1x{sop} | Patient Number 1/1 P1",
    ]


def test_what_was_told_does_not_stand_in_the_file(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    box.signed_in().get(f"/results/{stored.id}")
    post(box.app.test_client(), "/sign-in", name="mistyped-secret", password="wrong")
    assert len(told(box)) == 3
    for path in (box.state_dir / "audit").iterdir():
        data = path.read_bytes()
        assert not [word for word in (b"PAT-000417", b"technician", b"mistyped", stored.id.encode()) if word in data]
