"""Fuzzing of the DICOM listener over real sockets, and of what reads an object's first elements.

`python -m tests.intake.fuzz --minutes 30 --seed 1`; a short run of the same is in `test_fuzz.py`. Whole conversations
are mutated: PDUs cut, swapped, repeated, given other lengths and types, their bytes changed, junk between them. After
each, the listener must have closed the connection with nothing but whole PDUs sent, kept nothing but whole objects,
ended its threads, and after each round still take a good object.
"""

from __future__ import annotations

import argparse
import logging
import os
import socket
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from threading import ExceptHookArgs
from typing import NamedTuple

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from pydicom import dcmread

from edge.config import Dicom
from edge.identity import Identity, Unidentified, read_identity
from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from edge.intake.dicom_listener import DicomListener, silence_libraries
from edge.intake.reception import Reception
from edge.intake.statuses import SUCCESS
from edge.store import Store
from tests.intake import wire
from tests.intake.objects import dx
from tests.intake.peer import encoded
from tests.system.conftest import await_until

ROUND = 100
_OBJECT = dx(size=16)
_DEFLATED = "1.2.840.10008.1.2.1.99"
_TOO_MANY_BYTES = 1 << 17
CONVERSATION = (
    wire.associate_rq(),
    wire.c_echo(),
    *wire.c_store(_OBJECT, fragment_bytes=200),
    wire.c_store_command(_OBJECT),
    wire.p_data(wire.STORE_CONTEXT, wire.LAST_DATA, encoded(_OBJECT)),
    wire.release_rq(),
)
_EXTRA = (
    wire.abort(),
    wire.p_data(wire.STORE_CONTEXT, wire.LAST_COMMAND, wire.command(wire.C_FIND_RQ, sop_class="1.2", data_set=True)),
    wire.p_data(
        wire.ECHO_CONTEXT, wire.LAST_COMMAND, wire.command(wire.N_EVENT_REPORT_RQ, sop_class=wire.VERIFICATION)
    ),
    wire.p_data(wire.ECHO_CONTEXT, wire.LAST_COMMAND, wire.command(wire.C_CANCEL_RQ, sop_class=wire.VERIFICATION)),
    wire.p_data(99, wire.LAST_COMMAND, wire.command(wire.C_ECHO_RQ, sop_class=wire.VERIFICATION)),
    wire.pdu(wire.P_DATA, b""),
    wire.pdu(wire.P_DATA, bytes(6)),
    wire.pdu(wire.ASSOCIATE_AC, bytes(68)),
    wire.pdu(wire.ASSOCIATE_RJ, bytes(4)),
    wire.pdu(wire.RELEASE_RP, bytes(4)),
)


class Conversation(NamedTuple):
    """What is sent at once, and what is sent when the association was accepted."""

    opening: bytes
    rest: bytes = b""


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """What a broken or hostile sender sends: a good conversation with up to four things done to it."""
    opens_well = draw(st.sampled_from([True, True, True, False]))
    pdus = [bytearray(one) for one in CONVERSATION[opens_well:]]
    for _ in range(draw(st.integers(0, 4))):
        _MUTATIONS[draw(st.sampled_from(sorted(_MUTATIONS)))](draw, pdus)
    data = b"".join(pdus)
    if draw(st.booleans()):
        data = data[: draw(st.integers(0, len(data)))]
    return Conversation(CONVERSATION[0], data) if opens_well else Conversation(data)


def _place(draw: st.DrawFn, pdus: list[bytearray]) -> int:
    return draw(st.integers(0, max(0, len(pdus) - 1)))


def _change(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    if pdus and (one := pdus[_place(draw, pdus)]):
        for position in draw(st.lists(st.integers(0, len(one) - 1), min_size=1, max_size=4)):
            one[position] = draw(st.integers(0, 255))


def _relength(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    if pdus:
        one = pdus[_place(draw, pdus)]
        one[2:6] = draw(st.sampled_from([0, 1, 3, 5, 7, len(one), 1 << 16, 1 << 20, 1 << 31, (1 << 32) - 1])).to_bytes(
            4
        )


def _cut(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    if pdus and (one := pdus[_place(draw, pdus)]):
        del one[draw(st.integers(0, len(one) - 1)) :]


def _remove(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    if pdus:
        del pdus[_place(draw, pdus)]


def _swap(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    if pdus:
        one, other = _place(draw, pdus), _place(draw, pdus)
        pdus[one], pdus[other] = pdus[other], pdus[one]


def _repeat(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    if pdus:
        one = _place(draw, pdus)
        pdus[one:one] = [bytearray(pdus[one])] * draw(st.integers(1, 20))


def _insert(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    pdus.insert(_place(draw, pdus), bytearray(draw(st.sampled_from(_EXTRA) | st.binary(max_size=64))))


def _refill(draw: st.DrawFn, pdus: list[bytearray]) -> None:
    """A PDU with a good header and any body."""
    if pdus:
        kind, body = draw(st.integers(0, 8)), draw(st.binary(max_size=120))
        pdus[_place(draw, pdus)] = bytearray(wire.pdu(kind, body))


_MUTATIONS: dict[str, Callable[[st.DrawFn, list[bytearray]], None]] = {
    "change": _change,
    "cut": _cut,
    "insert": _insert,
    "refill": _refill,
    "relength": _relength,
    "remove": _remove,
    "repeat": _repeat,
    "swap": _swap,
}


class ListenerUnderTest:
    """A listener in this process, what it keeps, and what its threads died of."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder / "state")
        self.dead_threads: list[str] = []
        threading.excepthook = self._note
        config = Dicom(
            port=0,
            max_object_bytes=_TOO_MANY_BYTES,
            association_timeout_seconds=60,
            max_associations=100,
            max_associations_per_host=100,
        )
        self._listener = DicomListener(config, Reception(self.store))
        self.threads = threading.active_count()

    def meet(self, conversation: Conversation) -> None:
        """Send a conversation as far as the listener takes it, and check what comes of it."""
        with wire.Peer(self._listener.port) as peer:
            answers = []
            with suppress(ConnectionError):
                peer.send(conversation.opening)
                if conversation.rest:
                    answers.append(peer.read())
                    peer.send(conversation.rest)
                with suppress(OSError):  # the listener has hung up already
                    peer.socket.shutdown(socket.SHUT_WR)
            answers += peer.read_all()
        statuses = [answer.status for answer in answers if answer.kind == wire.P_DATA]
        assert {answer.kind for answer in answers} <= {
            wire.ASSOCIATE_AC,
            wire.ASSOCIATE_RJ,
            wire.P_DATA,
            wire.RELEASE_RP,
            wire.ABORT,
        }
        await_until(lambda: threading.active_count() <= self.threads, "the end of the association's threads")
        assert not self.dead_threads
        self._check_kept(statuses)

    def check_service(self) -> None:
        """A good conversation is answered well."""
        with wire.Peer(self._listener.port) as peer:
            peer.associated().send(*wire.c_store(_OBJECT))
            assert peer.read().status == SUCCESS
            peer.send(wire.release_rq())
            assert [answer.kind for answer in peer.read_all()] == [wire.RELEASE_RP]

    def stop(self) -> None:
        """Stop it."""
        self._listener.stop(0.0)
        self.store.close()

    def _check_kept(self, statuses: list[int]) -> None:
        incoming = self.store.state_dir / "spool" / "incoming"
        try:
            await_until(lambda: not list(incoming.iterdir()), "the removal of what was not accepted")
        finally:
            for leftover in incoming.iterdir():  # else every conversation after a finding would look like one
                leftover.unlink()
        while instance := self.store.claim():
            dataset = dcmread(BytesIO(self.store.read(instance.id)), specific_tags=["SOPClassUID", "SOPInstanceUID"])
            arrival = instance.arrival
            kept = (dataset.file_meta.MediaStorageSOPInstanceUID, dataset.file_meta.MediaStorageSOPClassUID)
            assert kept == (arrival.sop_instance_uid, arrival.sop_class_uid)

    def _note(self, failure: ExceptHookArgs) -> None:
        self.dead_threads.append(f"{failure.exc_type.__name__}: {failure.exc_value}")


def fuzz_listener(under_test: ListenerUnderTest, examples: int, number: int) -> None:
    """Send `examples` conversations of the seed `number`."""

    @_how(examples, number)
    @given(conversations())
    def explore(conversation: Conversation) -> None:
        under_test.meet(conversation)

    explore()
    under_test.check_service()


def fuzz_identity(examples: int, number: int) -> None:
    """Give `read_identity` mutated data sets and noise: it names an object or refuses it, nothing else."""
    good = encoded(_OBJECT)

    @_how(examples, number)
    @given(
        st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=12)), max_size=4),
        st.binary(max_size=300),
        st.sampled_from(DECODED_SYNTAXES),
        st.booleans(),
    )
    def explore(patches: list[tuple[int, bytes]], noise: bytes, syntax: str, whole: bool) -> None:
        data = bytearray(good if whole else noise)
        for position, patch in patches:
            data[position : position + len(patch)] = patch
        if syntax == _DEFLATED and whole:
            data = bytearray(zlib.compress(data, wbits=-zlib.MAX_WBITS))
        with suppress(Unidentified):
            assert isinstance(read_identity(bytes(data), syntax), Identity)

    explore()


def _how(examples: int, number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    configured = settings(
        max_examples=examples,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink),
    )
    return lambda test: seed(number)(configured(test))


def main() -> None:
    """Rounds of both, each with a seed of its own, until the time is over; ends at the first finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4)), help="of the first round")
    arguments = parser.parse_args()
    silence_libraries()
    logging.getLogger("scanside").setLevel(logging.CRITICAL)
    end = time.monotonic() + 60 * arguments.minutes
    rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        under_test = ListenerUnderTest(Path(folder))
        while time.monotonic() < end:
            number = arguments.seed + rounds
            fuzz_listener(under_test, ROUND, number)
            fuzz_identity(10 * ROUND, number)
            rounds += 1
            print(f"seed {number}: {rounds * ROUND} conversations, {rounds * 10 * ROUND} data sets", flush=True)
        under_test.stop()


if __name__ == "__main__":
    main()
