"""Results to a RIS: what the message says, read by another library than wrote it, and its way there over MLLP."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

import hl7
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Config
from edge.config_reporting import Destination, Reporting
from edge.records import Status
from edge.reporting.courier import Courier
from edge.reporting.hl7_result import addressed, broken_rules_of_message, escaped, observation_result
from edge.reporting.maker import Maker
from edge.reporting.mllp import status_of
from edge.reporting.objects import ORU, make
from edge.reporting.source import read_source
from edge.store import Store
from edge.store.deliveries import Standing
from tests.intake.test_receipts import told
from tests.reporting import samples
from tests.reporting.peers import answer, ris
from tests.reporting.test_courier import Clock, courier
from tests.reporting.test_service import certificate, running, settled
from tests.system.conftest import await_until, free_port


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(Store(tmp_path / "state")) as opened:
        yield opened


def message(status: Status = Status.FLAGGED, **image: object) -> bytes:
    return observation_result(read_source(samples.radiograph(**image)), samples.report(status))


def read(data: bytes) -> hl7.Message:
    return hl7.parse(data.decode())


def observations(data: bytes, code: str) -> list[str]:
    """The values of what is observed under a code."""
    return [str(each[5]) for each in read(data).segments("OBX") if str(each[3]).startswith(f"{code}^")]


@pytest.mark.parametrize(
    ("status", "summary", "presence", "certainty"),
    [
        (Status.FLAGGED, "111242", ["52101004^Present^SCT"], ["83.00"]),
        (Status.INDETERMINATE, "111241", ["82334004^Indeterminate^SCT"], ["50.00"]),
        (Status.CLEAR, "111241", ["2667000^Absent^SCT"], ["10.00"]),
        (Status.NOT_ANALYSED, "111245", [], []),
    ],
)
def test_each_answer_is_said_in_codes_and_breaks_no_rule(
    status: Status, summary: str, presence: list[str], certainty: list[str]
) -> None:
    data = message(status)
    assert broken_rules_of_message(data) == []
    assert [value.partition("^")[0] for value in observations(data, "111017")] == [summary]
    assert (observations(data, "112033"), observations(data, "111012")) == (presence, certainty)
    assert observations(data, "113014") == ["1.2.826.0.1.3680043.8.1.1"]
    assert observations(data, "121106")[-1].startswith("AI result, not for diagnosis")
    flags = [str(segment[8]) for segment in read(data).segments("OBX") if len(segment) > 8]
    assert ("A" in flags) == (status is Status.FLAGGED)
    assert {str(segment[11]) for segment in read(data).segments("OBX")} == {"P"}, "preliminary"


def test_whose_it_is_and_which_order() -> None:
    data = message(IssuerOfPatientID="CLINIC", StudyTime="010203.123456", BodyPartExamined="CHEST")
    pid, obr = read(data).segment("PID"), read(data).segment("OBR")
    assert [str(pid[at]) for at in (3, 5, 7, 8)] == ["1^^^CLINIC", "Test^A^^^^^L^A", "19700101", "F"]
    chest = "399208008^Plain X-ray of chest^SCT"
    assert [str(obr[at]) for at in (3, 4, 7, 18, 25)] == ["A1", chest, "20261126010203", "A1", "P"]


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("قباني^لنزار", "قباني^لنزار^^^^^L^A"),
        ("Wang^XiaoDong=王^小东", "Wang^XiaoDong^^^^^L^A~王^小东^^^^^L^I"),
        ("Wanjiku^Ng'ang'a^N^Dr^II", "Wanjiku^Ng'ang'a^N^II^Dr^^L^A"),
        ("A&B|C~D^E", "A\\T\\B\\F\\C\\R\\D^E^^^^^L^A"),
        (None, "^^^^^^U"),
    ],
)
def test_names_keep_their_characters_and_parts(name: str | None, written: str) -> None:
    data = message(SpecificCharacterSet="ISO_IR 192", PatientName=name)
    assert broken_rules_of_message(data) == []
    assert f"|{written}|" in data.decode()


@given(st.text(max_size=60))
def test_no_text_is_more_than_one_field(text: str) -> None:
    line = f"OBX|1|TX|121106^Comment^DCM||{escaped(text)}|unit"
    assert line.isprintable()
    assert [len(line.split(each)) for each in ("|", "^", "~", "&")] == [7, 3, 1, 1]


def test_without_a_patient_id_there_is_none_and_the_reason_is_said() -> None:
    made = make(read_source(samples.radiograph(PatientID="")), samples.report(), samples.pictures(), [ORU])
    assert made.objects == {}
    assert made.left_out == {ORU: "it has no Patient ID, without which there is no HL7 message"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b"|83.00|", b"|abc|"),
        (b"|20261126010203||ORU", b"|2026ABC||ORU"),
        (b"|P|2.5", b"|P|2.9"),
        (b"Test^A^^^^^L^A", b""),
        (b"Test", b"T" * 300),
        (b"1^^^CLINIC", b""),
        (b"43468-8^XR unspecified body region^LN", b""),
        (b"|19700101|", b"|19701301|"),
        (b"\rPID", b"\rZZZ"),
        (b"\rOBR", b"\rOBX"),
        (b"\rTQ1|1", b"\rPV1|1"),
    ],
)
def test_what_breaks_the_standard_does_not_leave(right: bytes, wrong: bytes) -> None:
    data = message(IssuerOfPatientID="CLINIC")
    assert data.count(right) == 1
    assert broken_rules_of_message(data) == []
    assert len(broken_rules_of_message(data.replace(right, wrong))) == 1


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ("MSA|AA|7", 0x0000),
        ("MSA|CA|7", 0x0000),
        ("MSA|AE|7|no such patient", 0xC000),
        ("MSA|AR|7", 0xC000),
        ("MSA|AR|7\rERR|||207^Application internal error^HL70357|E", 0xA700),
        ("MSA|AR|7|||locked|206^Application record locked^HL70357", 0xA700),
        ("MSA|AE|7\rERR|||207|E", 0xC000),
        ("MSA|AA|8", None),
        ("MSA|XX|7", None),
        ("MSA", None),
        ("", None),
    ],
)
def test_what_an_acknowledgement_means(answer: str, status: int | None) -> None:
    head = "MSH|^~\\&|RIS||SCANSIDE||20261126||ACK^R01|1|P|2.5\r" if answer else ""
    assert status_of(f"{head}{answer}\r".encode(), "7") == status


@given(st.binary(max_size=200))
def test_no_answer_breaks_its_reader(answer: bytes) -> None:
    assert status_of(answer, "7") in (None, 0x0000, 0xA700, 0xC000)


def _queued(store: Store, to: Destination, count: int = 1) -> None:
    for number in range(count):
        answer(store, samples.radiograph(SOPInstanceUID=f"1.2.826.0.1.3680043.8.2.{number}"))
    maker = Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,))))
    while maker.turn():
        pass


def _ris(port: int, **options: object) -> Destination:
    return Destination(name="ris", hl7=True, port=port, called_ae_title="RIS", objects_per_second=1000, **options)  # type: ignore[arg-type]


def test_a_ris_gets_each_result_once_addressed_to_it(store: Store) -> None:
    with ris() as peer:
        to = _ris(peer.port)
        _queued(store, to, 2)
        courier(store, to).turn(Event())
    assert store.deliveries.standing() == {}
    heads = [hl7.parse(each).segment("MSH") for each in peer.received]
    assert [(str(head[3]), str(head[5]), str(head[9])) for head in heads] == [
        ("SCANSIDE", "RIS", "ORU^R01^ORU_R01")
    ] * 2
    assert len({str(head[10]) for head in heads}) == 2
    assert broken_rules_of_message(addressed(message(), to)) == []


def test_what_it_refuses_is_parked_and_the_others_go(store: Store) -> None:
    with ris() as peer:
        to = _ris(peer.port)
        _queued(store, to, 2)
        peer.answers = [("AE", "204")]
        courier(store, to).turn(Event())
        assert len(peer.received) == 2
    assert store.deliveries.standing() == {"ris": Standing(parked=1)}


@pytest.mark.parametrize("trouble", [("AR", "207"), None])
def test_one_that_fails_or_hangs_up_gets_the_very_same_again(store: Store, trouble: tuple[str, str] | None) -> None:
    clock = Clock()
    with ris() as peer:
        to = _ris(peer.port)
        _queued(store, to)
        peer.answers = [trouble]
        one: Courier = courier(store, to, clock)
        one.turn(Event())
        assert one.trouble in ("it is out of resources", "the connection broke")
        assert store.deliveries.standing() == {"ris": Standing(waiting=1)}
        clock.now += 2
        one.turn(Event())
    assert store.deliveries.standing() == {}
    assert len(peer.received) == 2 and len(set(peer.received)) == 1


def test_one_that_is_away_is_tried_again(store: Store) -> None:
    clock, to = Clock(), _ris(free_port())
    _queued(store, to)
    one = courier(store, to, clock)
    one.turn(Event())
    assert one.trouble == "no connection"
    with ris(port=to.port) as peer:
        clock.now += 2
        one.turn(Event())
        assert len(peer.received) == 1


@pytest.mark.system
def test_over_tls_it_goes_to_whom_the_authority_vouches_for_alone(
    store: Store, tmp_path: Path, program: Callable[[str], str]
) -> None:
    key, authority = certificate(tmp_path, program)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority, key)
    with ris(context) as peer:
        stranger = _ris(peer.port, tls=True, host="localhost")
        _queued(store, stranger)
        courier(store, stranger).turn(Event())
        assert peer.received == []
        courier(store, _ris(peer.port, tls=True, host="localhost", ca_file=authority)).turn(Event())
        assert len(peer.received) == 1


def test_the_service_sends_it_and_notes_the_transfer(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "state")) as store, ris() as peer:
        answer(store, samples.radiograph())
        with running(tmp_path, name="ris", hl7=True, port=peer.port) as service:
            await_until(lambda: settled(store), "the delivery")
            assert service.stop() == 0
        assert len(peer.received) == 1
    assert "Test^A" not in service.log
    assert [words for words in told(tmp_path / "state") if "1.2.826.0.1.3680043.8.1.1" in words]
