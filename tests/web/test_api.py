"""The API keeps what openapi.json promises."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import jsonschema
import msgspec
import pytest

from edge.device.health import HealthFile, State
from edge.records import Kept, Subject
from edge.store.retention import Removal
from edge.web.accounts import Role
from edge.web.openapi import openapi_document
from edge.web.permissions import FORM_HEADER, SCOPES
from tests.web import samples
from tests.web.conftest import Box, token_of

DOCUMENT: Any = msgspec.json.decode(openapi_document())


def check(body: Any, schema: str) -> None:
    """Validate against a schema of the document."""
    jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]}
    ).validate(body)


def test_the_document_names_every_route_and_nothing_else(box: Box) -> None:
    documented = {
        (path, method.upper()) for path, item in DOCUMENT["paths"].items() for method in item.keys() - {"parameters"}
    }
    served = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method)
        for rule in box.app.url_map.iter_rules()
        if rule.rule.startswith("/api/") or rule.rule in ("/healthz", "/readyz", "/metrics")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert documented == served
    assert box.signed_in().get("/api/v1/openapi.json").get_json() == DOCUMENT


def test_the_document_names_the_scope_of_every_route_that_a_token_opens() -> None:
    documented = {
        operation["operationId"]: scheme["token"]
        for item in DOCUMENT["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
        for scheme in operation.get("security", ())
        if "token" in scheme
    }
    assert documented == {endpoint.partition(".")[2]: [scope] for endpoint, scope in SCOPES.items()}


def test_every_reference_in_the_document_leads_somewhere() -> None:
    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                target: Any = DOCUMENT
                for step in node["$ref"].removeprefix("#/").split("/"):
                    target = target[step]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(DOCUMENT)


@pytest.mark.parametrize("total", [0, 1, 5, 6, 7])
def test_pages_of_results_follow_each_other_without_gap(box: Box, total: int) -> None:
    committed: list[str] = []
    for number in range(total):
        box.clock.now += number % 2  # some share their second
        committed.append(samples.commit(box.store, samples.clear(), pictures=False).id)
    client, cursor, seen = box.signed_in(), None, []
    while True:
        query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
        page = client.get("/api/v1/results", query_string=query).get_json()
        check(page, "ResultPage")
        assert len(page["results"]) <= 3
        seen += [result["id"] for result in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == committed[::-1]


def test_a_patients_results_follow_each_other_without_gap(box: Box) -> None:
    committed = [samples.commit(box.store, samples.clear(), pictures=False).id for _ in range(5)]
    samples.commit(box.store, samples.clear(), Subject(patient_id="PAT-000418"), pictures=False)
    client, cursor, seen = box.signed_in(), None, []
    headers = {FORM_HEADER: token_of(client)}
    while True:
        asked = {"patient_id": "PAT-000417", "limit": 2, "cursor": cursor}
        page = client.post("/api/v1/results/find", json=asked, headers=headers).get_json()
        check(page, "ResultPage")
        seen += [result["id"] for result in page["results"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == committed[::-1]


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"patient_id": ""}', b'{"patient_id": 7}', b'{"patient_id": "P", "limit": 201}',
     b'{"patient_id": "P", "cursor": "none"}', b'{"patient_id": "P", "name": "x"}'],
)  # fmt: skip
def test_a_wrong_search_is_a_problem(box: Box, body: bytes) -> None:
    client = box.signed_in()
    response = client.post("/api/v1/results/find", data=body, headers={FORM_HEADER: token_of(client)})
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    check(response.get_json(), "ProblemDetails")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=-1", "limit=x", "limit=", "limit=٣", "cursor=none"])
def test_wrong_parameters_are_problems(box: Box, query: str) -> None:
    response = box.signed_in().get(f"/api/v1/results?{query}")
    assert response.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
    assert response.mimetype == "application/problem+json"
    check(response.get_json(), "ProblemDetails")


def test_a_result_carries_the_contract(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged(quality=(samples.CUT_OFF,)))
    body = box.signed_in().get(f"/api/v1/results/{stored.id}").get_json()
    check(body, "StudyView")
    assert body["result"]["schema"] == "scanside.result/1"
    assert body["result"]["status"] == "flagged"
    assert body["patient"]["id_end"] == "…417"
    assert body["acknowledged"] is None


def test_pictures(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged(), pictures=False)
    client = box.signed_in()
    for name in ("image", "overlay"):
        missing = client.get(f"/api/v1/results/{stored.id}/{name}")
        assert missing.status_code == HTTPStatus.NOT_FOUND
        check(missing.get_json(), "ProblemDetails")
    box.store.write_picture(stored.instance_id, "preview.jpg", samples.preview())
    box.store.write_picture(stored.instance_id, "overlay.png", samples.overlay())
    image = client.get(f"/api/v1/results/{stored.id}/image")
    assert (image.mimetype, image.data) == ("image/jpeg", samples.preview())
    overlay = client.get(f"/api/v1/results/{stored.id}/overlay")
    assert (overlay.mimetype, overlay.data) == ("image/png", samples.overlay())
    assert client.get("/api/v1/results/none/image").status_code == HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("leaves", "words"), [(Kept.IMAGE, "The image itself is still kept"), (Kept.NOTHING, "Its answer is kept")]
)
def test_what_was_removed_is_said_and_its_result_stays(box: Box, leaves: Kept, words: str) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    assert client.get(f"/api/v1/results/{stored.id}/image").status_code == HTTPStatus.OK
    assert box.store.holdings.remove([Removal(stored.instance_id, leaves)])
    for name in ("image", "overlay"):
        gone = client.get(f"/api/v1/results/{stored.id}/{name}")
        assert gone.status_code == HTTPStatus.GONE
        check(gone.get_json(), "ProblemDetails")
        assert words in gone.get_json()["detail"]
    view = client.get(f"/api/v1/results/{stored.id}").get_json()
    check(view, "StudyView")
    assert view["kept"] == leaves
    page = client.get(f"/results/{stored.id}").text
    assert words in page
    assert "Show where the software looked" not in page


def test_times_that_are_not_certain_are_said(box: Box) -> None:
    right = samples.commit(box.store, samples.clear())
    box.synchronised = False
    wrong = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    for stored, synchronised in ((right, True), (wrong, False)):
        assert client.get(f"/api/v1/results/{stored.id}").get_json()["synchronised"] is synchronised
        assert ("Times are not certain" in client.get(f"/results/{stored.id}").text) is not synchronised


def test_how_long_the_disk_lasts_and_whether_the_clock_is_right(box: Box) -> None:
    client = box.signed_in()
    box.services_up()
    unknown = client.get("/api/v1/health").get_json()
    check(unknown, "Condition")
    assert (unknown["hours_until_full"], unknown["synchronised"]) == (None, None)
    box.clock.now += 1
    account = HealthFile(box.state_dir, "intake", box.clock)
    account.report(State.DEGRADED, "there is little room on the disk", hours_until_full=7.4, synchronised=False)
    known = client.get("/api/v1/health").get_json()
    check(known, "Condition")
    assert (known["hours_until_full"], known["synchronised"]) == (7.4, False)
    for path in ("/", "/device"):
        page = " ".join(re.sub("<[^>]+>", " ", client.get(path).text).split())
        assert "full in about 7 h" in page
        assert "not kept right by anything" in page
        assert "there is little room on the disk" in page


def test_acknowledging(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    path = f"/api/v1/results/{stored.id}/acknowledge"
    client, other = box.signed_in(Role.TECHNICIAN), box.signed_in(Role.CLINICIAN)

    def send(who: Any, body: Any, to: str = path) -> Any:
        return who.post(to, json=body, headers={FORM_HEADER: token_of(who)})

    assert send(client, {"response": "unsure"}, "/api/v1/results/none/acknowledge").status_code == HTTPStatus.NOT_FOUND
    bodies: list[Any] = [{"response": "normal"}, {}, {"response": "agree", "x": 1}, [], "agree", None]
    for wrong in bodies:
        refused = send(client, wrong)
        assert refused.status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        check(refused.get_json(), "ProblemDetails")
    done = send(client, {"response": "unsure"})
    check(done.get_json(), "ResultView")
    assert done.get_json()["acknowledged"] == {"at": box.clock(), "by": "technician", "response": "unsure"}
    assert send(client, {"response": "unsure"}).status_code == HTTPStatus.OK
    assert send(client, {"response": "agree"}).status_code == HTTPStatus.CONFLICT
    assert send(other, {"response": "unsure"}).status_code == HTTPStatus.CONFLICT


def test_health_and_models(box: Box) -> None:
    client = box.signed_in(Role.SERVICE)
    assert client.get("/api/v1/models").get_json() == {"models": []}
    box.services_up()
    account = HealthFile(box.state_dir, "inference", box.clock)
    account.list_models(samples.IN_SERVICE)
    account.report(State.UP, p50_ms=31.2, p95_ms=58.0)
    models = client.get("/api/v1/models").get_json()
    check(models, "Models")
    assert models["models"] == [msgspec.to_builtins(model) for model in samples.IN_SERVICE]
    assert len(models["models"]) == 2
    health = client.get("/api/v1/health").get_json()
    check(health, "Condition")
    assert (health["state"], health["latency_ms"]) == ("up", {"p50": 31.2, "p95": 58.0})


def test_other_methods_say_what_is_possible(box: Box) -> None:
    client = box.signed_in()
    response = client.delete("/api/v1/results", headers={FORM_HEADER: token_of(client)})
    assert response.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    assert "GET" in response.headers["Allow"]
    check(response.get_json(), "ProblemDetails")


def test_too_large_a_body_is_refused(box: Box) -> None:
    stored = samples.commit(box.store, samples.flagged())
    client = box.signed_in()
    headers = {FORM_HEADER: token_of(client)}
    response = client.post(f"/api/v1/results/{stored.id}/acknowledge", data=b"x" * 70_000, headers=headers)
    assert response.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
