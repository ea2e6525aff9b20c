"""What stands beside an image: what a threshold meant in the test, and the patient's earlier images."""

from __future__ import annotations

import hashlib
import re
from http import HTTPStatus
from pathlib import Path

import msgspec
import pytest
import yaml
from flask.testing import FlaskClient

from edge.model_facts import Interval, Measured, ModelFacts, ModelShelf, OperatingPoint, Threshold
from edge.records import Finding, ModelUsed, Subject
from edge.web import words
from edge.web.model_figures import Figures, figures
from edge.web.study import EARLIER, study_of
from tests.conftest import ROOT
from tests.store.audit_reading import in_words
from tests.web import samples
from tests.web.conftest import Box, token_of
from tests.web.test_api import check
from tests.web.test_pages import text_of

CODE = samples.finding(0.9).code


def measured(sensitivity: float, specificity: float, positives: int, images: int = 1000) -> Measured:
    """A row of a bundle's results."""
    return Measured(
        finding=CODE,
        engine="openvino",
        precision="int8",
        operating_point="balanced",
        dataset="Somewhere",
        images=images,
        patients=images // 2,
        positives=positives,
        sensitivity=Interval(sensitivity, sensitivity - 0.1, sensitivity + 0.02),
        specificity=Interval(specificity, specificity - 0.1, specificity + 0.02),
    )


def facts(row: Measured, threshold: float = 0.62) -> ModelFacts:
    """A bundle with one operating point."""
    point = OperatingPoint("balanced", (Threshold(CODE, threshold / 2, threshold),))
    return ModelFacts(not_looked_for="Fractures.", operating_points=(point,), measured=(row,))


def asked(row: Measured, threshold: float = 0.62, **model: str) -> Figures | None:
    """The figures for a finding at this threshold."""
    used = msgspec.structs.replace(samples.MODEL, **model)
    return figures(facts(row), used, samples.finding(0.9, threshold))


@pytest.mark.parametrize(
    ("sensitivity", "specificity", "positives", "of_100_flagged"),
    [
        (0.9, 0.9, 500, 90.0),  # 450 of 500 flagged
        (0.9, 0.9, 100, 50.0),  # 90 of 180: the same point, where fewer have it
        (0.9, 0.99, 10, 100 * 9 / 18.9),
        (1.0, 1.0, 300, 100.0),
        (0.0, 1.0, 300, 0.0),  # none flagged at all
    ],
)
def test_what_a_flag_is_worth_depends_on_how_many_have_it(
    sensitivity: float, specificity: float, positives: int, of_100_flagged: float
) -> None:
    found = asked(measured(sensitivity, specificity, positives))
    assert found is not None
    assert found.with_it_of_100_flagged == pytest.approx(of_100_flagged)
    assert found.with_it_of_100 == positives / 10
    assert (found.finding, found.threshold) == (CODE, 0.62)
    assert (found.sensitivity.value, found.specificity.value) == (sensitivity, specificity)


def test_figures_are_of_the_threshold_and_engine_that_answered_or_none() -> None:
    row = measured(0.9, 0.9, 500)
    assert asked(row) is not None
    assert asked(row, threshold=0.5) is None
    assert asked(row, engine="onnxruntime") is None
    assert asked(row, precision="fp32") is None
    assert asked(measured(0.9, 0.9, 0)) is None
    assert asked(measured(0.9, 0.9, 1000)) is None


@pytest.mark.parametrize(
    ("count", "said"),
    [(100.0, "over 99"), (99.4, "over 99"), (62.4, "about 62"), (1.0, "about 1"), (0.3, "fewer than 1")],
)
def test_of_a_hundred_is_never_all_or_none(count: float, said: str) -> None:
    assert words.of_100(count) == said


def answered_by(bundle: Path) -> tuple[ModelUsed, Finding]:
    """What the result of a bundle says of its model, and a finding at its default threshold."""
    sealed = bundle.read_bytes()
    said = yaml.load(sealed, Loader=yaml.CSafeLoader)
    point = next(point for point in said["operating_points"] if point["id"] == said["default_operating_point"])
    threshold = point["thresholds"][0]
    model = msgspec.structs.replace(samples.MODEL, digest=f"sha256:{hashlib.sha256(sealed).hexdigest()}", id=said["id"])
    finding = samples.finding(0.99, threshold["flagged_from"])
    return model, msgspec.structs.replace(finding, code=threshold["code"])


BUNDLES = sorted(
    path for path in (ROOT / "models").glob("*/bundle/bundle.yaml") if "operating_points: []" not in path.read_text()
)


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.parent.parent.name)
def test_each_sealed_classifier_says_what_its_default_threshold_meant(bundle: Path) -> None:
    model, finding = answered_by(bundle)
    shelf = ModelShelf(ROOT / "models")
    read = shelf.facts(model)
    assert read is not None
    assert read.not_looked_for
    found = figures(read, model, finding)
    assert found is not None
    assert 0 < found.sensitivity.low < found.sensitivity.value <= 1
    assert 0 < found.specificity.low < found.specificity.value <= 1
    assert shelf.facts(msgspec.structs.replace(model, digest="sha256:" + "0" * 64)) is None


def test_the_study_says_it_in_plain_numbers(box: Box) -> None:
    model, finding = answered_by(ROOT / "models/cxr-pneumonia-paediatric/bundle/bundle.yaml")
    known = samples.commit(box.store, samples.flagged(model=model, findings=(finding,)))
    client = box.signed_in()
    text = text_of(client.get(f"/results/{known.id}").text)
    assert re.search(r"Of 100 images flagged, (about|over) \d+ had it\.", text)
    assert re.search(r"Of 100 that had it, about \d+ were flagged \(\d+ to \d+\)\.", text)
    assert "Where fewer have it, fewer of the flagged have it." in text
    assert "Not looked for: Anything but pneumonia: fractures" in text
    unknown = samples.commit(box.store, samples.flagged())
    text = text_of(client.get(f"/results/{unknown.id}").text)
    assert "the model that answered is no longer on this device" in text
    assert "Not looked for: Anything else" in text


def test_the_api_says_of_a_threshold_what_the_page_says(box: Box) -> None:
    model, finding = answered_by(ROOT / "models/cxr-pneumonia-paediatric/bundle/bundle.yaml")
    stored = samples.commit(box.store, samples.flagged(model=model, findings=(finding,)))
    client = box.signed_in()
    told = client.get(f"/api/v1/results/{stored.id}").get_json()
    check(told, "StudyView")
    (threshold,) = told["thresholds"]
    text = text_of(client.get(f"/results/{stored.id}").text)
    sensitivity = threshold["sensitivity"]
    low, high = (round(100 * sensitivity[end]) for end in ("low", "high"))
    assert f"Of 100 that had it, about {100 * sensitivity['value']:.0f} were flagged ({low} to {high})." in text
    specificity = threshold["specificity"]
    assert f"({100 - 100 * specificity['high']:.0f} to {100 - 100 * specificity['low']:.0f})." in text
    assert threshold["threshold"] == finding.threshold
    assert threshold["dataset"] in text
    assert told["not_looked_for"] in text
    unknown = samples.commit(box.store, samples.flagged())
    told = client.get(f"/api/v1/results/{unknown.id}").get_json()
    assert (told["thresholds"], told["not_looked_for"]) == ([], "")


def test_earlier_images_are_the_same_patients_and_came_before(box: Box) -> None:
    before = [samples.commit(box.store, samples.clear(), pictures=False) for _ in range(EARLIER + 2)]
    samples.commit(box.store, samples.clear(), Subject(patient_id="PAT-000418"), pictures=False)
    now = samples.commit(box.store, samples.flagged(), pictures=False)
    samples.commit(box.store, samples.clear(), pictures=False)
    with box.app.app_context():
        assert [other.id for other in study_of(now).earlier] == [other.id for other in reversed(before)][:EARLIER]
        assert study_of(before[0]).earlier == []
        nobody = samples.commit(box.store, samples.clear(), Subject(), pictures=False)
        assert study_of(nobody).earlier == []
    client = box.signed_in()
    assert client.get(f"/results/{now.id}").text.count('<li><a href="/results/') == EARLIER
    told = client.get(f"/api/v1/results/{now.id}").get_json()
    assert [other["id"] for other in told["earlier"]] == [other.id for other in reversed(before)][:EARLIER]


def find(client: FlaskClient, patient_id: str) -> list[str]:
    """Which results the page shows for a patient's id."""
    form = {"patient_id": patient_id, "form_token": token_of(client)}
    return re.findall(r'data-id="([^"]+)"', client.post("/find", data=form).text)


def test_a_patient_is_found_by_the_whole_id_and_by_nothing_else(box: Box) -> None:
    theirs = [samples.commit(box.store, samples.clear(), pictures=False).id for _ in range(3)]
    samples.commit(box.store, samples.clear(), Subject(patient_id="PAT-000418"), pictures=False)
    samples.commit(box.store, samples.clear(), Subject(), pictures=False)
    client = box.signed_in()
    assert find(client, " PAT-000417 ") == theirs[::-1]
    for nobody in ("PAT-00041", "pat-000417", "…417", "%", "", "' OR 1=1 --", "x" * 50_000):
        assert find(client, nobody) == []
    assert (
        "PAT-000417" not in client.post("/find", data={"patient_id": "PAT-000417", "form_token": token_of(client)}).text
    ), "what was typed stands on no screen"


def test_a_search_stands_in_the_trail_each_time_and_in_no_address(box: Box) -> None:
    client = box.signed_in()
    find(client, "PAT-000417")
    find(client, "PAT-000417")
    said = [in_words(record.xml or "") for record in box.audit.read(0, 10)]
    assert len(said) == 2
    assert all(each.endswith("/find ?POST /find patient_id=PAT-000417") for each in said)
    assert client.get("/find?patient_id=PAT-000417").status_code == HTTPStatus.METHOD_NOT_ALLOWED
