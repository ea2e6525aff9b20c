"""The demo's broker and subscriber, with Mosquitto and without."""

from __future__ import annotations

import queue
import shutil
import socket
from collections.abc import Callable

import pytest

from edge.demo.broker import embedded_broker
from edge.demo.subscriber import subscribe
from edge.errors import ScansideError
from tests.sync.conftest import PREFIX, SyncProcess
from tests.sync.conftest import make_sync as make_sync  # noqa: PLC0414 - a fixture
from tests.system.conftest import PATIENCE, free_port

pytestmark = pytest.mark.system


@pytest.mark.parametrize("name", ["Mosquitto", "amqtt"])
def test_a_summary_arrives(
    name: str, make_sync: Callable[..., SyncProcess], monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]
) -> None:
    if name == "Mosquitto":
        program("mosquitto")
    else:
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    port = free_port()
    received: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
    with embedded_broker(port) as broker, subscribe("127.0.0.1", port, lambda *message: received.put(message)):
        assert broker == name
        sync = make_sync(port=port)
        (message_id,) = sync.put(1)
        sync.start()
        while received.get(timeout=PATIENCE)[0] != f"{PREFIX}inference/find/image/{message_id}":
            pass
        assert sync.stop() == 0
    assert socket.socket().connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("name", ["Mosquitto", "amqtt"])
def test_a_port_that_is_taken_is_one_line(
    name: str, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str]
) -> None:
    if name == "Mosquitto":
        program("mosquitto")
    else:
        monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        with pytest.raises(ScansideError, match=str(port)), embedded_broker(port):
            pass


def test_without_a_broker_the_subscriber_says_so() -> None:
    with pytest.raises(OSError, match="refused"), subscribe("127.0.0.1", free_port(), lambda *_: None):
        pass
