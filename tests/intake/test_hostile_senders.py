"""Senders that flood, stall, lie about lengths or break the protocol: bounded, answered, and nobody else notices."""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import repeat

import pytest

from edge.config import Dicom
from edge.intake.dicom_listener import DicomListener
from edge.intake.dimse import MAX_COMMAND_BYTES
from edge.intake.reception import Reception
from edge.intake.statuses import OUT_OF_RESOURCES, SUCCESS
from edge.intake.upper_layer import MAX_ASSOCIATE_BYTES
from edge.store import Store
from tests.intake import wire
from tests.intake.objects import dx
from tests.system.conftest import await_until

OBJECT = dx()
LARGE = dx(size=300)

Listening = Callable[..., int]


@pytest.fixture
def listening(store: Store, caplog: pytest.LogCaptureFixture) -> Iterator[Listening]:
    """Starts a listener with some configuration and gives its port."""
    caplog.set_level("INFO", "scanside")
    with ExitStack() as stop:

        def start(**config: int) -> int:
            listener = DicomListener(Dicom(port=0, **config), Reception(store))  # type: ignore[arg-type]
            stop.callback(listener.stop, 0.0)
            return listener.port

        yield start


def _is_well(port: int) -> None:
    with wire.Peer(port) as peer:
        peer.associated().send(*wire.c_store(OBJECT))
        assert peer.read().status == SUCCESS
        peer.send(wire.release_rq())
        assert [pdu.kind for pdu in peer.read_all()] == [wire.RELEASE_RP]


STALLS = {
    "nothing": b"",
    "half a header": wire.associate_rq()[:3],
    "half a request": wire.associate_rq()[:100],
}


@pytest.mark.parametrize("case", STALLS)
def test_who_asks_for_no_association_is_cut(listening: Listening, caplog: pytest.LogCaptureFixture, case: str) -> None:
    port = listening(association_timeout_seconds=2)  # enough for those who ask, on a busy machine too
    with wire.Peer(port) as peer:
        peer.send(STALLS[case])
        _is_well(port)
        assert peer.read_all() == []
    assert "SC215 connection from 127.0.0.1 cut: it asked for no association within 2 s" in caplog.text


LOITERERS = {
    "resting": (b"", "nothing came for 2 s"),
    "in a header": (wire.c_echo()[:4], "4 bytes came in"),
    "in a PDU": (wire.c_echo()[:-1], "bytes came in"),
    "between PDUs": (b"".join(wire.c_store(OBJECT, 1000)[:3]), "bytes came in"),
}


@pytest.mark.parametrize("case", LOITERERS)
def test_who_stands_still_is_cut_and_nothing_stays(
    listening: Listening, store: Store, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    sent, reason = LOITERERS[case]
    port = listening(idle_timeout_seconds=2, min_bytes_per_second=1_000_000)
    with wire.Peer(port) as peer:
        peer.associated().send(sent)
        assert peer.read_all() == []
    assert reason in caplog.text
    assert store.queue().depth == 0
    spool = store.state_dir / "spool"
    await_until(lambda: list(spool.rglob("*")) == [spool / "incoming"], "the removal of what came of the object")


def test_a_closed_connection_frees_its_threads_at_once(listening: Listening) -> None:
    port = listening(association_timeout_seconds=300)
    before = set(threading.enumerate())  # those of earlier listeners, which may end meanwhile, among them
    for _ in range(30):
        wire.Peer(port).socket.close()
    _is_well(port)  # it has taken all before
    await_until(lambda: set(threading.enumerate()) <= before, "the end of the threads")


def test_a_flood_of_connections_is_closed_at_the_door(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    port = listening(max_associations=4, max_associations_per_host=3)
    before = set(threading.enumerate())
    with ExitStack() as flood:
        silent = [flood.enter_context(wire.Peer(port)) for _ in range(100)]
        for peer in silent[6:]:
            assert peer.read_all() == []
        assert len(set(threading.enumerate()) - before) <= 2 * 6
        assert "SC214 connection from 127.0.0.1 closed: 6 are open, 6 from there; 64 since the start" in caplog.text
    await_until(lambda: set(threading.enumerate()) <= before, "the end of the flood")
    _is_well(port)


def test_one_host_does_not_take_all_places(listening: Listening) -> None:
    port = listening(max_associations=10, max_associations_per_host=2)
    with ExitStack() as open_now:
        for _ in range(2):
            open_now.enter_context(wire.Peer(port)).associated()
        with wire.Peer(port) as peer:
            peer.send(wire.associate_rq())
            (rejection,) = peer.read_all()
    assert rejection == (wire.ASSOCIATE_RJ, struct.pack("xBBB", 2, 3, 2))


def test_a_pdu_longer_than_offered_is_not_waited_for(listening: Listening, caplog: pytest.LogCaptureFixture) -> None:
    port = listening(max_pdu_bytes=65536)
    for length in (65537, 1 << 31, (1 << 32) - 1):
        with wire.Peer(port) as peer:
            peer.associated().send(struct.pack(">BBL", wire.P_DATA, 0, length))
            assert [pdu.kind for pdu in peer.read_all()] == [wire.ABORT]
        assert f"a PDU of {length} bytes, the rule is at most 65536" in caplog.text
    with wire.Peer(port) as peer:
        peer.send(struct.pack(">BBL", wire.ASSOCIATE_RQ, 0, MAX_ASSOCIATE_BYTES + 1))
        assert [pdu.kind for pdu in peer.read_all()] == [wire.ABORT]
    _is_well(port)


def test_the_largest_request_of_a_toolkit_is_taken(listening: Listening) -> None:
    syntaxes = [f"1.2.840.10008.1.2.4.{number}" for number in range(50, 100)]
    contexts = [wire.Context(number, "1.2.840.10008.5.1.4.1.1.77.1.5.1", syntaxes) for number in range(1, 256, 2)]
    with wire.Peer(listening()) as peer:
        peer.send(wire.associate_rq(contexts))
        assert peer.read().kind == wire.ASSOCIATE_AC


def test_an_object_that_is_too_large_costs_itself_alone(listening: Listening, store: Store) -> None:
    port = listening(max_object_bytes=100_000)
    with wire.Peer(port) as peer:
        peer.associated()
        for dataset, status in ((OBJECT, SUCCESS), (LARGE, OUT_OF_RESOURCES), (dx(seed=1), SUCCESS)):
            peer.send(*wire.c_store(dataset))
            answer = peer.read()
            assert answer.status == status
        assert store.queue().depth == 2


def test_an_endless_object_is_answered_and_ended(listening: Listening, store: Store) -> None:
    port = listening(max_object_bytes=100_000)
    with wire.Peer(port) as peer:
        peer.associated().send(wire.c_store_command(OBJECT))
        fragment = wire.p_data(wire.STORE_CONTEXT, wire.DATA, bytes(1 << 16))
        peer.send(*repeat(fragment, 4))
        answer = peer.read()
        assert answer.status == OUT_OF_RESOURCES
        assert b"the object has more than 100000 bytes" in answer.body
        peer.send(fragment)
        assert [pdu.kind for pdu in peer.read_all()] == [wire.ABORT]
    assert store.queue().depth == 0


def test_requests_that_wait_for_no_answer_are_answered_one_by_one(listening: Listening, store: Store) -> None:
    objects = [dx(seed=number) for number in range(30)]
    with wire.Peer(listening()) as peer:
        peer.associated().send(*(pdu for dataset in objects for pdu in wire.c_store(dataset)))
        for dataset in objects:
            answer = peer.read()
            assert answer.status == SUCCESS
            assert dataset.SOPInstanceUID.encode() in answer.body
    assert store.queue().depth == 30


AGAINST_THE_PROTOCOL = {
    "HTTP": (False, b"GET / HTTP/1.1\r\nHost: box\r\n\r\n"),
    "TLS where there is none": (False, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "a P-DATA before the association": (False, wire.c_echo()),
    "a second request": (True, wire.associate_rq()),
    "a fragment without its control byte": (True, wire.pdu(wire.P_DATA, struct.pack(">LB", 1, wire.ECHO_CONTEXT))),
    "a fragment longer than its PDU": (True, wire.pdu(wire.P_DATA, struct.pack(">LBB", 1 << 20, 1, 3) + bytes(9))),
    "data without a command": (True, wire.p_data(wire.STORE_CONTEXT, wire.DATA, bytes(100))),
    "a command that is noise": (True, wire.p_data(wire.STORE_CONTEXT, wire.LAST_COMMAND, bytes(range(200)))),
    "a command without end": (True, wire.p_data(wire.STORE_CONTEXT, wire.COMMAND, bytes(MAX_COMMAND_BYTES + 1))),
    "C-FIND": (
        True,
        wire.p_data(wire.STORE_CONTEXT, wire.LAST_COMMAND, wire.command(wire.C_FIND_RQ, sop_class="1.2")),
    ),
    "N-EVENT-REPORT": (
        True,
        wire.p_data(wire.STORE_CONTEXT, wire.LAST_COMMAND, wire.command(wire.N_EVENT_REPORT_RQ, sop_class="1.2")),
    ),
    "a C-STORE without its UIDs": (
        True,
        wire.p_data(wire.STORE_CONTEXT, wire.LAST_COMMAND, wire.command(wire.C_STORE_RQ, sop_class="")),
    ),
    "a data set behind a C-STORE without the object's UID": (  # found by fuzzing: what had begun was not removed
        True,
        wire.p_data(
            wire.STORE_CONTEXT,
            wire.LAST_COMMAND,
            wire.command(wire.C_STORE_RQ, sop_class=OBJECT.SOPClassUID, data_set=True),
        )
        + wire.p_data(wire.STORE_CONTEXT, wire.LAST_DATA, bytes(100)),
    ),
    "a context that was not agreed on": (
        True,
        wire.p_data(99, wire.LAST_COMMAND, wire.command(wire.C_ECHO_RQ, sop_class=wire.VERIFICATION)),
    ),
}


@pytest.mark.parametrize("case", AGAINST_THE_PROTOCOL)
def test_what_is_against_the_protocol_is_aborted(listening: Listening, store: Store, case: str) -> None:
    established, sent = AGAINST_THE_PROTOCOL[case]
    port = listening()
    with wire.Peer(port) as peer:
        if established:
            peer.associated()
        peer.send(sent)
        assert [pdu.kind for pdu in peer.read_all()] == [wire.ABORT]
    assert list((store.state_dir / "spool" / "incoming").iterdir()) == []
    _is_well(port)
    assert store.queue().depth == 1


@pytest.mark.parametrize("ending", [wire.abort(), b""])
def test_an_object_broken_off_leaves_nothing(listening: Listening, store: Store, ending: bytes) -> None:
    port = listening()
    before = set(threading.enumerate())
    with wire.Peer(port) as peer:
        peer.associated().send(*wire.c_store(LARGE)[:-1], ending)
    await_until(lambda: set(threading.enumerate()) <= before, "the end of the association")
    assert store.queue().depth == 0
    spool = store.state_dir / "spool"
    await_until(lambda: list(spool.rglob("*")) == [spool / "incoming"], "the removal of what came of the object")


def test_an_object_given_up_for_another_message_leaves_nothing(listening: Listening, store: Store) -> None:
    """Found by fuzzing: a command in the middle of an object takes its place."""
    cancel = wire.command(wire.C_CANCEL_RQ, sop_class=wire.VERIFICATION)
    with wire.Peer(listening()) as peer:
        peer.associated().send(*wire.c_store(LARGE)[:-1], wire.p_data(wire.ECHO_CONTEXT, wire.LAST_COMMAND, cancel))
        peer.send(*wire.c_store(OBJECT))
        assert peer.read().status == SUCCESS
        assert list((store.state_dir / "spool" / "incoming").iterdir()) == []
    assert store.queue().depth == 1
