"""The channel between guard and analyst: messages whole or none, images as open files."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.inference.channel import MOST_BYTES, Analyse, Answer, Channel, Draw, Reply, Request, unanswered
from edge.records import Reason


@settings(deadline=None)
@given(cuts=st.lists(st.integers(1, 400), max_size=12), sources=st.lists(st.text(), min_size=1, max_size=4))
def test_messages_arrive_whole_however_they_are_cut(cuts: list[int], sources: list[str]) -> None:
    said = [unanswered(source, Reason.CRASHED) for source in sources]
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender: Channel[Request] = Channel(ours, Request)
        for message in said:
            sender.send(message)
        data = theirs.recv(1 << 20)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        receiver: Channel[Reply] = Channel(theirs, Reply)
        heard: list[Reply] = []
        for cut in [*cuts, len(data)]:
            ours.sendall(data[:cut])
            data = data[cut:]
            while (reply := receiver.receive(0.0)) is not None:
                heard.append(reply)
        assert heard == said
        ours.close()
        with pytest.raises(EOFError):
            receiver.receive()


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_what_cannot_be_understood_is_no_message(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.close()
        receiver: Channel[Reply] = Channel(theirs, Reply)
        with pytest.raises((EOFError, ValueError)):
            receiver.receive()


def test_a_message_that_is_too_long_is_not_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall((MOST_BYTES + 1).to_bytes(4, "big"))
        receiver: Channel[Reply] = Channel(theirs, Reply)
        with pytest.raises(ValueError, match="at most"):
            receiver.receive(0.0)


def test_an_image_travels_as_an_open_file_and_only_to_the_analyst(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"image")
    ours, theirs = socket.socketpair()
    with ours, theirs, path.open("rb") as file:
        service: Channel[Reply] = Channel(ours, Reply)
        analyst: Channel[Request] = Channel(theirs, Request, descriptors=1)
        service.send(Analyse(key="1", source="file"), file.fileno())
        assert analyst.receive() == Analyse(key="1", source="file")
        received = analyst.descriptor()
        assert os.read(received, 10) == b"image"
        os.close(received)
        service.send(Draw(key="1", explanation=None))
        assert analyst.receive() == Draw(key="1", explanation=None)
        with pytest.raises(ValueError, match="without its image"):
            analyst.descriptor()
        analyst.send(unanswered("file", Reason.CRASHED), file.fileno())
        opened = set(Path("/proc/self/fd").iterdir())
        assert isinstance(service.receive(), Answer)
        assert set(Path("/proc/self/fd").iterdir()) <= opened
