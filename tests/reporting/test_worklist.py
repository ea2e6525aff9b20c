"""Orders beside images: the comparison as a table, and DCMTK's worklist as the one that is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from edge.config import Config
from edge.config_reporting import Destination, Reporting, Worklist
from edge.records import OrderDifference
from edge.reporting.codes import Code
from edge.reporting.comparison import compare
from edge.reporting.maker import Maker
from edge.reporting.worklist import Orders
from edge.store import Store
from tests.reporting import samples
from tests.reporting.peers import answer, worklist
from tests.reporting.samples import order, requested
from tests.system.conftest import free_port

CHEST, KNEE = Code("399208008", "SCT", "Plain X-ray of chest"), Code("74016001", "SCT", "X-ray of knee")
LOCAL = Code("C1", "99LOCAL", "Chest")
KNEE_ORDERED = {"RequestedProcedureDescription": "XR knee left", "ScheduledProcedureStepDescription": ""}


@pytest.mark.parametrize(
    ("change", "image", "differences"),
    [
        ({}, {}, ""),
        ({"PatientName": "TEST A"}, {}, ""),
        ({"PatientSex": ""}, {}, ""),
        ({"PatientID": "2"}, {}, "patient_id"),
        ({"PatientBirthDate": "19710101"}, {}, "birth_date"),
        ({"PatientBirthDate": "19710101"}, {"PatientAge": "056Y"}, "birth_date"),
        ({}, {"PatientBirthDate": None, "PatientAge": "056Y"}, ""),
        ({}, {"PatientBirthDate": None, "PatientAge": "058Y"}, "age"),
        ({}, {"PatientBirthDate": None, "PatientAge": "006M"}, "age"),
        ({"PatientBirthDate": "20260601"}, {"PatientBirthDate": None, "PatientAge": "005M"}, ""),
        ({"PatientName": "Other^B"}, {}, "name"),
        ({"PatientSex": "M", "Modality": "CT"}, {}, "sex modality"),
        ({"StudyInstanceUID": "1.2.3"}, {}, "study"),
        ({"RequestedProcedureDescription": "XR chest PA"}, {"BodyPartExamined": "CHEST"}, ""),
        (KNEE_ORDERED, {"BodyPartExamined": "CHEST"}, "procedure"),
        ({"RequestedProcedureDescription": "XR knee left"}, {"BodyPartExamined": "CHEST"}, ""),
        ({"RequestedProcedureDescription": "Chest and abdomen"}, {"BodyPartExamined": "ABDOMEN"}, ""),
        ({"RequestedProcedureDescription": "Genou gauche"}, {"BodyPartExamined": "CHEST"}, ""),
        (KNEE_ORDERED, {"BodyPartExamined": "CSPINE"}, ""),
        ({"RequestedProcedureCodeSequence": [CHEST]}, {"RequestAttributesSequence": [requested(CHEST)]}, ""),
        ({"RequestedProcedureCodeSequence": [CHEST]}, {"RequestAttributesSequence": [requested(KNEE)]}, "procedure"),
        ({"RequestedProcedureCodeSequence": [CHEST]}, {"RequestAttributesSequence": [requested(LOCAL)]}, ""),
    ],
)
def test_in_what_order_and_image_differ(change: dict[str, Any], image: dict[str, Any], differences: str) -> None:
    found = compare(order(**change), samples.read(samples.radiograph(**image)))
    assert " ".join(found) == differences


def _made(store: Store, at: Worklist, **values: Any) -> list[str]:
    """Why the report of an image is parked."""
    answer(store, samples.radiograph(**values))
    return _making(store, at)


def _making(store: Store, at: Worklist) -> list[str]:
    reporting = Reporting(destinations=(Destination(name="pacs"),), worklist=at)
    Maker(store, Config(state_dir=store.state_dir, reporting=reporting)).turn()
    return [reason for *_, reason in store.deliveries.parked()]


@pytest.mark.system
def test_an_order_of_another_patient_keeps_the_report_back(tmp_path: Path, program: Callable[[str], str]) -> None:
    with worklist(tmp_path, program, order()) as at, closing(Store(tmp_path / "state")) as store:
        assert _made(store, at) == []
        why = _made(store, at, PatientID="2", SOPInstanceUID="1.2.3.4")
        assert why == ["the worklist has another patient for its accession number (patient id)"]
        assert [result.order_differences for result in store.results()] == [(OrderDifference.PATIENT_ID,), ()]


@pytest.mark.system
def test_what_was_known_of_an_order_stands_while_the_worklist_is_away(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    with closing(Store(tmp_path / "state")) as store:
        with worklist(tmp_path, program, order(PatientID="2")) as at:
            assert len(_made(store, at)) == 1
        store.deliveries.unpark()
        assert len(_making(store, at)) == 1, "tried again without an answer"
        assert store.results()[0].order_differences == (OrderDifference.PATIENT_ID,)


@pytest.mark.system
@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (("--keep-char-set",), "王^小东", "sex"),
        (("--keep-char-set",), "王^大东", "sex name"),
        (("--return-no-char-set",), "王^大东", "sex"),
    ],
)
def test_names_in_other_scripts_compare_where_both_say_their_characters(
    options: tuple[str, ...], name: str, words: str, tmp_path: Path, program: Callable[[str], str]
) -> None:
    ordered = order(PatientName="王^小东", PatientSex="M")
    with worklist(tmp_path, program, ordered, *options) as at:
        image = samples.radiograph(SpecificCharacterSet="GB18030", PatientName=name)
        assert " ".join(Orders(at).differences(samples.read(image)) or ()) == words


@pytest.mark.system
def test_other_differences_are_told_and_keep_nothing_back(
    tmp_path: Path, program: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    with worklist(tmp_path, program, order(PatientSex="M")) as at, closing(Store(tmp_path / "state")) as store:
        assert _made(store, at) == []
    told = [record.message for record in caplog.records if " SC565 " in f" {record.message}"]
    assert len(told) == 1 and told[0].endswith("differ in sex")


def test_a_worklist_that_is_away_keeps_nothing_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(Store(tmp_path / "state")) as store:
        assert _made(store, Worklist(port=free_port())) == []
        assert store.deliveries.standing()["pacs"].waiting == 3
    assert [record.message[:5] for record in caplog.records].count("SC566") == 1


@pytest.mark.system
@pytest.mark.parametrize(
    ("priority", "day", "urgent"),
    [
        ("STAT", date(2026, 11, 26), True),
        ("HIGH", date(2026, 11, 25), True),
        ("STAT", date(2026, 11, 28), False),
        ("ROUTINE", date(2026, 11, 26), False),
    ],
)
def test_which_orders_of_these_days_are_urgent(
    priority: str, day: date, urgent: bool, tmp_path: Path, program: Callable[[str], str]
) -> None:
    with worklist(tmp_path, program, order(RequestedProcedurePriority=priority)) as at:
        names = {"A1", "1.2.826.0.1.3680043.8.1.1"}
        assert Orders(at).urgent(day) == (frozenset(names) if urgent else frozenset())


def test_a_worklist_that_is_away_changes_nothing_of_what_is_urgent() -> None:
    assert Orders(Worklist(port=free_port())).urgent(date(2026, 11, 26)) is None
