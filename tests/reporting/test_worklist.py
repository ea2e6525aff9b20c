"""Orders beside images: the comparison as a table, and DCMTK's worklist as the one that is asked."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset
from pynetdicom.sop_class import ModalityWorklistInformationFind

from edge.config import Config
from edge.config_reporting import Destination, Reporting, Worklist
from edge.reporting.maker import Maker
from edge.reporting.objects import encode
from edge.reporting.worklist import Orders, compare
from edge.store import Store
from tests.reporting import samples
from tests.reporting.peers import answer
from tests.system.conftest import await_until, free_port


def _order(**values: Any) -> Dataset:
    """The order of `samples.radiograph()`."""
    order, step = Dataset(), Dataset()
    order.SpecificCharacterSet = "ISO_IR 192"
    order.AccessionNumber, order.PatientName, order.PatientID = "A1", "Test^A", "1"
    order.PatientBirthDate, order.PatientSex, order.StudyInstanceUID = "19700101", "F", "1.2.826.0.1.3680043.8.1.1"
    order.RequestedProcedureID, order.RequestedProcedureDescription = "P1", "Chest"
    step.Modality, step.ScheduledStationAETitle = "CR", "ROOM1"
    step.ScheduledProcedureStepStartDate, step.ScheduledProcedureStepStartTime = "20261126", "0100"
    step.ScheduledProcedureStepID, step.ScheduledProcedureStepDescription = "S1", "Chest"
    order.ScheduledProcedureStepSequence = [step]
    for keyword, value in values.items():
        setattr(step if keyword == "Modality" else order, keyword, value)
    return order


@pytest.mark.parametrize(
    ("change", "words", "another_patient"),
    [
        ({}, [], False),
        ({"PatientName": "TEST A"}, [], False),
        ({"PatientSex": ""}, [], False),
        ({"PatientID": "2"}, ["patient id"], True),
        ({"PatientBirthDate": "19710101"}, ["birth date"], True),
        ({"PatientName": "Other^B"}, ["name"], False),
        ({"PatientSex": "M", "Modality": "CT"}, ["sex", "modality"], False),
        ({"StudyInstanceUID": "1.2.3"}, ["study"], False),
    ],
)
def test_in_what_order_and_image_differ(change: dict[str, str], words: list[str], another_patient: bool) -> None:
    found = compare(_order(**change), samples.read(samples.radiograph()))
    assert [one.words for one in found] == words
    assert any(one.another_patient for one in found) is another_patient


@contextmanager
def _worklist(folder: Path, program: Callable[[str], str], order: Dataset, *options: str) -> Iterator[Worklist]:
    database, port = folder / "worklist" / "ORDERS", free_port()
    database.mkdir(parents=True)
    (database / "lockfile").touch()
    order.SOPClassUID, order.SOPInstanceUID = ModalityWorklistInformationFind, "1.2.3"
    (database / "order.wl").write_bytes(encode(order))
    command = [program("wlmscpfs"), "--data-files-path", str(database.parent), *options, str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            await_until(lambda: _answers(program, port), "the worklist")
            yield Worklist(port=port, called_ae_title="ORDERS")
        finally:
            process.terminate()


def _answers(program: Callable[[str], str], port: int) -> bool:
    command = [program("echoscu"), "-aec", "ORDERS", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _made(store: Store, worklist: Worklist, **values: Any) -> list[str]:
    """Why the report of an image is parked."""
    answer(store, samples.radiograph(**values))
    reporting = Reporting(destinations=(Destination(name="pacs"),), worklist=worklist)
    Maker(store, Config(state_dir=store.state_dir, reporting=reporting)).turn()
    return [reason for *_, reason in store.deliveries.parked()]


@pytest.mark.system
def test_an_order_of_another_patient_keeps_the_report_back(tmp_path: Path, program: Callable[[str], str]) -> None:
    with _worklist(tmp_path, program, _order()) as worklist, closing(Store(tmp_path / "state")) as store:
        assert _made(store, worklist) == []
        why = _made(store, worklist, PatientID="2", SOPInstanceUID="1.2.3.4")
        assert why == ["the worklist has another patient for its accession number (patient id)"]


@pytest.mark.system
@pytest.mark.parametrize(
    ("options", "name", "words"),
    [
        (("--keep-char-set",), "王^小东", ["sex"]),
        (("--keep-char-set",), "王^大东", ["sex", "name"]),
        (("--return-no-char-set",), "王^大东", ["sex"]),
    ],
)
def test_names_in_other_scripts_compare_where_both_say_their_characters(
    options: tuple[str, ...], name: str, words: list[str], tmp_path: Path, program: Callable[[str], str]
) -> None:
    order = _order(PatientName="王^小东", PatientSex="M")
    with _worklist(tmp_path, program, order, *options) as worklist:
        image = samples.radiograph(SpecificCharacterSet="GB18030", PatientName=name)
        assert [one.words for one in Orders(worklist).differences(samples.read(image))] == words


@pytest.mark.system
def test_other_differences_are_told_and_keep_nothing_back(
    tmp_path: Path, program: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    order = _order(PatientSex="M")
    with _worklist(tmp_path, program, order) as worklist, closing(Store(tmp_path / "state")) as store:
        assert _made(store, worklist) == []
    told = [record.message for record in caplog.records if " SC565 " in f" {record.message}"]
    assert len(told) == 1 and told[0].endswith("differ in sex")


def test_a_worklist_that_is_away_keeps_nothing_waiting(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with closing(Store(tmp_path / "state")) as store:
        assert _made(store, Worklist(port=free_port())) == []
        assert store.deliveries.standing()["pacs"].waiting == 3
    assert [record.message[:5] for record in caplog.records].count("SC566") == 1
