"""The pages as they read without any script."""

from __future__ import annotations

import re
from html import unescape
from http import HTTPStatus

import msgspec
import pytest

from edge.device.health import HealthFile, State
from edge.records import OrderDifference, Reason, Result, Status, Subject, Timings
from edge.web.accounts import Role
from tests.web import samples
from tests.web.conftest import Box, token_of


def text_of(html: str) -> str:
    """What a person reads."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_the_four_answers_have_words_and_shapes(box: Box) -> None:
    for answer in (samples.not_analysed(), samples.clear(), samples.indeterminate(), samples.flagged()):
        box.clock.now += 60
        samples.commit(box.store, answer)
    page = box.signed_in().get("/").text
    rows = re.findall(r'<li class="row (\w+).*?</li>', page, re.DOTALL)
    assert rows == ["flagged", "indeterminate", "clear", "not_analysed"]
    for shape, words in [
        ("triangle", "Flagged: pneumonia, very likely"),
        ("diamond", "Indeterminate"),
        ("circle", "No listed finding above the threshold"),
        ("square", "Not analysed: side view; the software reads front views only"),
    ]:
        assert f'class="shape {shape}"' in page
        assert words in text_of(page)


def test_flags_that_wait_stand_first_however_old_they_are(box: Box) -> None:
    old = samples.commit(box.store, samples.flagged())
    for _ in range(60):
        box.clock.now += 60
        newest = samples.commit(box.store, samples.clear(), pictures=False)
    client = box.signed_in()
    ids = re.findall(r'data-id="([\w-]+)" data-first', client.get("/").text)
    assert ids[:2] == [old.id, newest.id]
    assert len(ids) == 51
    assert text_of(client.get("/").text).startswith("(1) flagged")
    box.store.acknowledge(old.id, "ada", "agree")
    page = client.get("/").text
    assert re.findall(r'data-id="([\w-]+)" data-first', page)[0] == newest.id
    assert "Call the clinician" not in page


@pytest.mark.parametrize(
    ("differences", "advice"),
    [
        ([OrderDifference.PATIENT_ID, OrderDifference.NAME], "The order is another patient's."),
        ([OrderDifference.PROCEDURE], "Check that this image belongs to this patient and this order."),
    ],
)
def test_what_differs_from_its_order_is_a_warning_on_row_and_study(
    box: Box, differences: list[OrderDifference], advice: str
) -> None:
    stored = samples.commit(box.store, samples.clear())
    client = box.signed_in()
    study = f"/live/study/{stored.id}"
    assert "Not as ordered" not in client.get("/").text + client.get(study).text
    box.store.note_order_differences(stored.id, differences)
    names = {"patient_id": "patient id", "name": "name", "procedure": "examination"}
    warning = "Not as ordered: " + " · ".join(names[each] for each in differences)
    assert warning in client.get("/").text
    assert warning in client.get(f"/live/rows/{stored.id}").text
    part = client.get(study).text.partition('data-part="order"')[2].partition("</div>")[0]
    assert f"{warning}. {advice}" in text_of(part), "an open page takes up this part"
    api = client.get(f"/api/v1/results/{stored.id}").json
    assert api is not None and api["order_differences"] == differences


def test_the_alarm_stays_until_somebody_answers(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    page = client.get("/device").text + client.get("/").text
    assert "Call the clinician now: …417 · child 3 y · female" in text_of(page)
    answer = {"response": "disagree", "form_token": token_of(client)}
    response = client.post(f"/results/{stored.id}/acknowledge", data=answer, follow_redirects=True)
    assert response.request.path == f"/results/{stored.id}"
    assert "technician disagrees" in text_of(response.text)
    assert "Call the clinician" not in text_of(response.text)
    advice = '<p data-part="advice">The software suggests: pneumonia. It can be wrong.</p>'
    assert advice in response.text
    assert advice in client.get(f"/live/study/{stored.id}").text, "an open page replaces it too"
    client.post(f"/results/{stored.id}/acknowledge", data=answer | {"response": "agree"})
    kept = box.store.result(stored.id)
    assert kept and kept.acknowledged_as == "disagree"


@pytest.mark.parametrize("response", ["", "AGREE", "normal", "x" * 5000])
def test_other_answers_are_refused(box: Box, response: str) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    data = {"response": response, "form_token": token_of(client)}
    refused = client.post(f"/results/{stored.id}/acknowledge", data=data)
    assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert "agree, disagree, unsure, repeated" in refused.text


def test_the_study_says_what_was_done_and_what_was_not(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged(quality=(samples.CUT_OFF,)))
    text = text_of(box.signed_in().get(f"/results/{stored.id}").text)
    for said in (
        "Call the clinician now. The software suggests: pneumonia. It can be wrong.",
        "Probability 94%, flagged from 62%",
        "Right lower lung is cut off: consider repeating",
        "Not looked for: Anything else",
        "cxr-pneumonia-paediatric 1.0.0 · openvino int8 · 24.0 ms",
        "Agree Disagree Unsure Repeated",
        "It shows where the software looked, not where a finding is.",
    ):
        assert said in text


def test_an_experimental_answer_says_so_wherever_it_stands(box: Box) -> None:
    model = msgspec.structs.replace(samples.MODEL, experimental=True)
    stored = samples.commit(box.store, samples.flagged(model=model))
    client = box.signed_in()
    headline = "Flagged: pneumonia, very likely (experimental)"
    assert text_of(client.get("/device").text + client.get(f"/results/{stored.id}").text).count(headline) >= 3
    assert "Experimental model: it was measured on too few images" in text_of(client.get(f"/results/{stored.id}").text)


def test_a_finding_says_in_which_lung_the_software_looked(box: Box) -> None:
    placed = msgspec.structs.replace(samples.finding(0.94), side="right", zone="lower")
    stored = samples.commit(box.store, samples.flagged(findings=(placed,)))
    client = box.signed_in()
    assert "The software looked most at: right lung, lower zone" in text_of(client.get(f"/results/{stored.id}").text)
    elsewhere = samples.commit(box.store, samples.flagged())
    assert "looked most at" not in client.get(f"/results/{elsewhere.id}").text


def test_the_device_page_lists_every_model(box: Box) -> None:
    client = box.signed_in()
    assert "No model is in service." in text_of(client.get("/device").text)
    box.services_up()
    account = HealthFile(box.state_dir, "inference", box.clock)
    account.list_models(samples.IN_SERVICE)
    account.report(State.UP)
    page = text_of(client.get("/device").text)
    assert "cxr-pneumonia-paediatric 1.0.0 openvino 11.9 ms" in page
    assert "cxr-opacity-adult (experimental) 1.0.0" in page


def test_a_refused_image_offers_no_score_and_nothing_to_explain(box: Box) -> None:
    stored = samples.commit(box.store, samples.not_analysed(Reason.UNDER_AGE))
    page = box.signed_in().get(f"/results/{stored.id}").text
    assert "Not analysed: the patient is younger than the model is made for" in text_of(page)
    assert "Nothing was looked for in this image." in page
    assert "Probability" not in page
    assert "/overlay" not in page


@pytest.mark.parametrize(
    ("result", "body_part", "said"),
    [
        (samples.clear(), None, "No quality warning."),
        (samples.not_analysed(Reason.UNFAMILIAR_IMAGE), "CHEST", "No quality warning."),
        (samples.not_analysed(Reason.NOT_A_FRONTAL_CHEST), "CHEST", "No quality warning."),
        (samples.not_analysed(Reason.UNFAMILIAR_IMAGE), None, "Not examined."),
        (samples.not_analysed(Reason.NOT_A_FRONTAL_CHEST, timings_ms=Timings()), "HAND", "Not examined."),
        (samples.not_analysed(Reason.UNDECODABLE), "CHEST", "Not examined."),
    ],
)
def test_the_page_tells_no_warning_from_not_examined(
    box: Box, result: Result, body_part: str | None, said: str
) -> None:
    """By what the pipeline checks: what was analysed, and what a model found strange that was sent as a body part."""
    stored = samples.commit(box.store, result, subject=Subject(body_part=body_part))
    assert f"Image quality {said}" in text_of(box.signed_in().get(f"/results/{stored.id}").text)


@pytest.mark.parametrize("path", ["/", "/device", "/sign-in", "/results/none"])
def test_every_page_says_what_it_is_not(box: Box, path: str) -> None:
    signed_in = path != "/sign-in"
    client = box.signed_in() if signed_in else box.app.test_client()
    page = text_of(client.get(path).text)
    assert "Research use; not a diagnosis. A person must read every image." in page
    assert not re.search(r"\bnormal\b", page, re.IGNORECASE)


def test_no_more_of_an_id_than_its_end_reaches_a_browser(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in(Role.ADMINISTRATOR)
    for path in ("/", f"/results/{stored.id}", f"/live/rows/{stored.id}", f"/api/v1/results/{stored.id}"):
        body = client.get(path).text
        assert "417" in body
        assert "PAT-000" not in body


def test_a_page_without_a_stream_is_told_what_changed_and_when_nothing_did(box: Box) -> None:
    box.services_up()
    client = box.signed_in()
    first = client.get("/live/changes?after=0")
    assert first.json == {"seq": 0, "ids": [], "reset": False}
    known = {"If-None-Match": first.headers["ETag"]}
    assert client.get("/live/changes?after=0", headers=known).status_code == HTTPStatus.NOT_MODIFIED
    stored = samples.commit(box.store, samples.flagged(), pictures=False)
    told = client.get("/live/changes?after=0", headers=known)
    assert told.json == {"seq": stored.seq, "ids": [stored.id], "reset": False}
    known = {"If-None-Match": told.headers["ETag"]}
    HealthFile(box.state_dir, "inference", box.clock).report(State.DOWN, "no model passed its checks")
    changed = client.get(f"/live/changes?after={stored.seq}", headers=known)
    assert changed.json == {"seq": stored.seq, "ids": [], "reset": False}
    assert changed.headers["ETag"] != told.headers["ETag"]
    assert client.get("/live/changes?after=99").json == {"seq": stored.seq, "ids": [], "reset": True}
    assert box.app.test_client().get("/live/changes").status_code == HTTPStatus.UNAUTHORIZED


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{7*7}}",
    "\u202eevil",
    "a\r\nSet-Cookie: x=y",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_what_came_with_an_image_is_text_and_nothing_else(box: Box, text: str) -> None:
    subject = Subject(patient_id=text, sex=text, age_years=3.0, modality=text, body_part=text, view=text)
    finding = msgspec.structs.replace(samples.finding(0.9), meaning=text)
    quality = msgspec.structs.replace(samples.CUT_OFF, message=text)
    stored = samples.commit(box.store, samples.result(Status.FLAGGED, findings=(finding,), quality=(quality,)), subject)
    client = box.signed_in()
    for path in ("/", f"/results/{stored.id}", f"/live/rows/{stored.id}", f"/live/study/{stored.id}"):
        page = client.get(path)
        assert page.status_code == HTTPStatus.OK
        assert "<script>" not in page.text
        assert "<img src=x" not in page.text
        assert "7*7" in page.text or "{{" not in text
        assert "x=y" not in page.headers.get("Set-Cookie", "")


@pytest.mark.parametrize(
    "path", ["/", "/sign-in", "/device", "/static/page.js", "/healthz", "/nowhere", "/api/v1/none"]
)
def test_headers_of_every_response(box: Box, path: str) -> None:
    for client in (box.app.test_client(), box.signed_in()):
        with client.get(path) as response:
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Referrer-Policy"] == "no-referrer"
            if not path.startswith("/static/"):
                assert response.headers["Cache-Control"] == "no-store"


def test_the_page_says_when_images_are_not_analysed(box: Box) -> None:
    box.services_up()
    client = box.signed_in()
    assert "Device ready" in text_of(client.get("/").text)
    HealthFile(box.state_dir, "inference", box.clock).report(State.DOWN, "no model passed its checks")
    for path in ("/", "/device", "/live/device"):
        said = "Not ready: images are kept but not analysed (inference is down, no model passed its checks)"
        assert said in text_of(client.get(path).text)


@pytest.mark.parametrize("path", ["/results/none", "/results/..%2f..%2fetc%2fpasswd", "/results/' OR 1=1", "/x" * 500])
def test_unknown_addresses_are_not_found(box: Box, path: str) -> None:
    response = box.signed_in().get(path)
    assert response.status_code == HTTPStatus.NOT_FOUND
    assert "Back to the beginning" in response.text
