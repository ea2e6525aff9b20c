"""Results to a worklist by UPS-RS: what the workitem says, and that each is there once whatever is killed."""

from __future__ import annotations

import json
import random
import signal
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from pydicom import Dataset

from edge.config import Config
from edge.config_reporting import Destination, Reporting
from edge.records import Kept, Status
from edge.reporting.maker import Maker
from edge.reporting.names import uid_of
from edge.reporting.objects import UPS, make
from edge.reporting.source import read_source
from edge.reporting.workitem import UPS_PUSH, apart, broken_rules_of_workitem, retrievable, workitem
from edge.store import Store
from edge.store.deliveries import Standing
from edge.store.retention import Removal
from tests.reporting import samples
from tests.reporting.peers import answer, worklist_manager
from tests.reporting.test_courier import Clock, courier, made
from tests.reporting.test_service import NAMES, ROUNDS, _has, _named, running, settled
from tests.system.conftest import await_until, free_port


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "state")) as opened:
        yield opened


def of(data: bytes, status: Status = Status.FLAGGED) -> bytes:
    written = workitem(read_source(data), samples.report(status))
    assert written
    return written


def read(data: bytes) -> Dataset:
    (item,) = json.loads(data)
    return Dataset.from_json(item)


def destination(port: int) -> Destination:
    url = f"http://127.0.0.1:{port}/dicom-web/workitems"
    return Destination(name="list", ups_url=url, called_ae_title="ARCHIVE", objects_per_second=1000)


def queued(store: Store, to: Destination, *statuses: Status) -> list[str]:
    """The UIDs that workitems of these results have, which are made and wait."""
    names: list[str] = []
    for number, status in enumerate(statuses):
        image = samples.radiograph(SOPInstanceUID=f"1.2.826.0.1.3680043.8.2.{number}")
        names.append(uid_of(answer(store, image, status=status).id, UPS_PUSH))
    made(store, to, len(statuses))
    return names


@pytest.mark.parametrize(
    ("status", "priority"),
    [
        (Status.FLAGGED, "HIGH"),
        (Status.INDETERMINATE, "MEDIUM"),
        (Status.CLEAR, None),
        (Status.NOT_ANALYSED, None),
    ],
)
def test_a_person_is_called_to_what_is_flagged_or_undecided(status: Status, priority: str | None) -> None:
    objects = make(read_source(samples.radiograph()), samples.report(status), samples.pictures(), [UPS])
    assert objects.left_out == {}
    assert list(objects.objects) == ([UPS] if priority else [])
    if priority:
        item = read(objects.objects[UPS])
        assert item.ScheduledProcedureStepPriority == priority
        assert (item.ProcedureStepState, item.TransactionUID) == ("SCHEDULED", "")
        (code,) = item.ScheduledWorkitemCodeSequence
        assert (code.CodeValue, code.CodingSchemeDesignator) == ("110005", "DCM")
        assert "a person must read the image" in item.CommentsOnTheScheduledProcedureStep


def test_it_says_which_image_and_where_it_is() -> None:
    item = read(retrievable(of(samples.radiograph()), destination(1)))
    (images,) = item.InputInformationSequence
    (image,) = images.ReferencedSOPSequence
    source = samples.read(samples.radiograph())
    assert (images.StudyInstanceUID, images.SeriesInstanceUID) == (source.StudyInstanceUID, source.SeriesInstanceUID)
    assert (image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID) == (source.SOPClassUID, source.SOPInstanceUID)
    assert images.DICOMRetrievalSequence[0].RetrieveAETitle == "ARCHIVE"
    (request,) = item.ReferencedRequestSequence
    assert (request.AccessionNumber, request.StudyInstanceUID) == ("A1", source.StudyInstanceUID)


@pytest.mark.parametrize("script", NAMES)
def test_names_keep_their_characters(script: str) -> None:
    character_set, name = NAMES[script]
    item = of(_named("1.2.826.0.1.3680043.8.4.1", character_set, name))
    assert broken_rules_of_workitem(item) == []
    item = apart(retrievable(item, destination(1)))[1]
    codec = {"Arabic": "iso8859_6", "Chinese": "gb18030", "Cyrillic": "iso8859_5", "Swahili": "utf-8"}[script]
    assert f'"{name.decode(codec)}"' in item.decode()
    assert (read(item).SpecificCharacterSet, read(item).PatientName) == ("ISO_IR 192", name.decode(codec))


def test_a_name_that_is_not_in_its_character_set_is_nobodys() -> None:
    source = read_source(_named("1.2.826.0.1.3680043.8.4.1", "ISO_IR 192", b"W\xff\xfe^A"))
    with pytest.warns(UserWarning, match="replacement characters"):
        objects = make(source, samples.report(), samples.pictures(), [UPS])
    assert (objects.objects, list(objects.left_out)) == ({}, [UPS])


def test_what_is_sent_does_not_say_its_uid_and_is_in_the_order_of_tags() -> None:
    whole = retrievable(of(samples.radiograph(IssuerOfPatientID="CLINIC")), destination(1))
    uid, sent = apart(whole)
    (item,) = json.loads(sent)
    assert uid == samples.report().uid(UPS_PUSH)
    assert "00080018" not in item and list(item) == sorted(item)
    assert item["00100021"]["Value"] == ["CLINIC"]


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ScheduledProcedureStepPriority", "URGENT"),
        ("ProcedureStepLabel", ""),
        ("ScheduledProcedureStepStartDateTime", "tomorrow"),
        ("InputReadinessState", None),
        ("ProcedureStepState", "IN PROGRESS"),
        ("TransactionUID", "1.2.3"),
        ("ScheduledWorkitemCodeSequence", []),
        ("InputInformationSequence", [Dataset()]),
        ("ReferencedRequestSequence", [Dataset()]),
        ("StudyInstanceUID", "1.2.3"),
        ("PatientName", "\ufffd^A"),
        ("WorklistLabel", "x" * 65),
        ("AdmissionID", ...),
    ],
)
def test_what_breaks_the_standard_does_not_leave(keyword: str, value: Any) -> None:
    item = read(of(samples.radiograph()))
    if value is ...:
        delattr(item, keyword)
    else:
        setattr(item, keyword, value)
    assert broken_rules_of_workitem(of(samples.radiograph())) == []
    broken = json.dumps([item.to_json_dict()], ensure_ascii=False).encode()
    assert len(broken_rules_of_workitem(broken)) == 1


def test_a_worklist_gets_each_call_once_and_no_other_result(store: Store) -> None:
    with worklist_manager() as peer:
        to = destination(peer.port)
        names = queued(store, to, *Status)
        courier(store, to).turn(Event())
    assert list(peer.created) == [names[0], names[2]], "flagged, then undecided"
    assert [item["00741200"]["Value"] for item in peer.created.values()] == [["HIGH"], ["MEDIUM"]]
    assert (peer.said, store.deliveries.standing(), store.owed("report")) == ([201, 201], {}, [])


@pytest.mark.parametrize(("trouble", "said"), [(503, [503, 201]), (None, [None, 409])])
def test_one_that_is_busy_or_dies_before_it_answers_has_it_once(
    store: Store, trouble: int | None, said: list[int | None]
) -> None:
    clock = Clock()
    with worklist_manager() as peer:
        to = destination(peer.port)
        (name,) = queued(store, to, Status.FLAGGED)
        peer.answers = [trouble]
        one = courier(store, to, clock)
        one.turn(Event())
        assert store.deliveries.standing() == {"list": Standing(waiting=1)}
        clock.now += 2
        one.turn(Event())
    assert (list(peer.created), peer.said, store.deliveries.standing()) == ([name], said, {})


def test_what_it_refuses_is_parked_and_the_others_go(store: Store) -> None:
    with worklist_manager() as peer:
        to = destination(peer.port)
        names = queued(store, to, Status.FLAGGED, Status.FLAGGED)
        peer.answers = [400]
        courier(store, to).turn(Event())
    assert (list(peer.created), store.deliveries.standing()) == (names[1:], {"list": Standing(parked=1)})


@pytest.mark.parametrize(("status", "parked"), [(Status.FLAGGED, [UPS]), (Status.CLEAR, [])])
def test_an_image_that_is_gone_parks_its_call_alone(store: Store, status: Status, parked: list[str]) -> None:
    stored = answer(store, samples.radiograph(), status=status)
    store.holdings.remove([Removal(stored.instance_id, Kept.NOTHING)])
    Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(destination(1),)))).turn()
    assert [kind for _, _, kind, _ in store.deliveries.parked()] == parked
    assert store.owed("report") == []


def test_killed_at_any_moment_the_service_creates_each_once(tmp_path: Path) -> None:
    dice, port = random.Random(2), free_port()
    names = []
    with closing(Store(tmp_path / "state")) as store, worklist_manager(port) as peer:
        for number in range(ROUNDS // 2):
            image = samples.radiograph(SOPInstanceUID=f"1.2.826.0.1.3680043.8.3.{number}")
            names.append(uid_of(answer(store, image).id, UPS_PUSH))
            peer.answers = [None] * dice.randrange(2)
            seen = len(peer.said)
            with running(tmp_path, name="list", ups_url=peer.url) as service:
                await_until(partial(_has, peer.said, seen + 1), "a request")
                service.process.send_signal(signal.SIGKILL)
        with running(tmp_path, name="list", ups_url=peer.url) as service:
            await_until(lambda: settled(store), "the delivery of everything")
            service.stop()
    assert sorted(peer.created) == sorted(names)
    assert 400 not in peer.said
