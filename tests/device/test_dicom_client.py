"""Who asks a peer gets its answer: the association's own thread is at rest, wherever it was when it was told to."""

from __future__ import annotations

from threading import Event, Thread

from pynetdicom import AE, evt
from pynetdicom.sop_class import Verification

from edge.device.dicom_client import Checkpoint, associate
from tests.system.conftest import await_until, free_port


def test_who_asks_waits_for_a_thread_that_has_passed_the_checkpoint() -> None:
    passed, go_on, done = Event(), Event(), Event()
    order: list[str] = []

    def look() -> None:
        while not done.is_set():
            checkpoint.wait()
            passed.set()
            go_on.wait()
            order.append("looked")

    def ask() -> None:
        checkpoint.clear()
        order.append("asked")

    thread = Thread(target=look)
    checkpoint = Checkpoint(thread.is_alive)
    thread.start()
    passed.wait()
    asking = Thread(target=ask)
    asking.start()
    await_until(lambda: not checkpoint._is_open, "the thread being told to rest")
    go_on.set()
    asking.join()
    assert order == ["looked", "asked"]
    done.set()
    checkpoint.set()
    thread.join()
    checkpoint.clear()  # who asks after its end is kept by nobody


def test_it_asks_and_is_answered_as_often_as_it_likes() -> None:
    scp, scu, port = AE(), AE(), free_port()
    scp.add_supported_context(Verification)
    scu.add_requested_context(Verification)
    server = scp.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: 0x0000)])
    try:
        association = associate(scu, "127.0.0.1", port)
        assert association.is_established
        assert [association.send_c_echo().Status for _ in range(100)] == [0] * 100
        association.release()
        assert association.is_released
    finally:
        server.shutdown()
    assert not associate(scu, "127.0.0.1", port).is_established
