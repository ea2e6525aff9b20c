"""What the inference service and its analyst say to each other, and the socket on which they do.

A message is its length (4 bytes, big endian) and that many bytes of MessagePack. An image travels as an open file
descriptor beside its request (SCM_RIGHTS, unix(7)): its bytes go through no pipe, and the analyst needs no path to it.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Any, Generic, Self, TypeVar

import msgspec

from edge.device.health import ModelInService
from edge.records import Priority, Reason, Record, Result, Status, Subject, Timings

MOST_BYTES = 64 << 20
"""Longest message that is believed: pictures are a hundredth of it."""

_LENGTH = struct.Struct(">I")
_CHUNK = 1 << 18

Heard = TypeVar("Heard")


class Begin(Record, frozen=True, kw_only=True, tag=True):
    """First to the analyst: how to work.

    Attributes:
        config: The device configuration as JSON.
        cache: Folder for what the engines compile.
        service: What its log lines are prefixed with.
        level: From which level on it logs.
    """

    config: str
    cache: str
    service: str
    level: int


class Analyse(Record, frozen=True, kw_only=True, tag=True):
    """Answer for the image whose descriptor comes along.

    Attributes:
        key: Names the image between these two and in the log; says nothing about the patient.
        source: How the result names it.
        modality: Taken as Modality where no header says it.
        age_years: Taken as the patient's age where no header says it.
        secret: The key of the file, where it is a sealed one of the store's; it opens no other.
    """

    key: str
    source: str
    modality: str | None = None
    age_years: float | None = None
    secret: bytes | None = None


class Draw(Record, frozen=True, kw_only=True, tag=True):
    """Draw an image for the page: the one that was just analysed under this key, else the one that comes along.

    Attributes:
        explanation: What `Answer.explanation` said of it.
        secret: As in `Analyse`.
    """

    key: str
    explanation: str | None
    secret: bytes | None = None


class Serving(Record, frozen=True, kw_only=True, tag=True):
    """The analyst is ready, with these models."""

    models: tuple[ModelInService, ...]


class Refused(Record, frozen=True, kw_only=True, tag=True):
    """The analyst ends: no model can be served."""

    error: str


class Answer(Record, frozen=True, kw_only=True, tag=True):
    """What became of an image.

    Attributes:
        result: The answer; never missing.
        subject: Whose image it is, for the page.
        explanation: Class activation maps as JSON, where a model ran.
        refusal: Why it was not analysed, for the log.
        defect: The error and its place, when the software itself failed.
    """

    result: Result
    subject: Subject = Subject()
    explanation: str | None = None
    refusal: str = ""
    defect: tuple[str, str] | None = None


def unanswered(source: str, reason: Reason, defect: tuple[str, str] | None = None) -> Answer:
    """The answer for an image of which nothing became known but why."""
    result = Result(
        source=source,
        sop_instance_uid=None,
        status=Status.NOT_ANALYSED,
        reason=reason,
        priority=Priority.ROUTINE,
        timings_ms=Timings(),
    )
    return Answer(result=result, defect=defect)


class Pictures(Record, frozen=True, kw_only=True, tag=True):
    """An image as JPEG and what explains it as PNG; none where that cannot be drawn: `error` says why."""

    preview: bytes | None = None
    overlay: bytes | None = None
    error: str | None = None


Request = Begin | Analyse | Draw
Reply = Serving | Refused | Answer | Pictures


class Channel(Generic[Heard]):
    """One end of the socket between the two."""

    def __init__(self, end: socket.socket, heard: Any, *, descriptors: int = 0) -> None:
        """`heard` is the type of what the other end may say, `descriptors` how many may come with it."""
        self._socket = end
        self._decoder = msgspec.msgpack.Decoder(heard)
        self._most_descriptors = descriptors
        self._buffer = bytearray()
        self._descriptors: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, message: Record, descriptor: int | None = None, *, seconds: float | None = None) -> None:
        """Say something. Raises `OSError` when the other end is gone or has not taken it after `seconds`."""
        body = msgspec.msgpack.encode(message)
        self._socket.settimeout(seconds)
        view = memoryview(_LENGTH.pack(len(body)) + body)
        if descriptor is not None:
            view = view[socket.send_fds(self._socket, [view], [descriptor]) :]
        self._socket.sendall(view)

    def receive(self, seconds: float | None = None) -> Heard | None:
        """The next message, or None when it has not come wholly within `seconds`: call again for the rest of it.

        Raises:
            EOFError, OSError: The other end is gone.
            ValueError: It says what cannot be understood.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        while (body := self._whole()) is None:
            try:
                self._socket.settimeout(deadline and max(0.0, deadline - time.monotonic()))
                chunk, descriptors, _, _ = socket.recv_fds(self._socket, _CHUNK, self._most_descriptors)
            except (TimeoutError, BlockingIOError):
                return None
            self._descriptors += descriptors
            if not chunk:
                raise EOFError("the other end is closed")
            self._buffer += chunk
        message: Heard = self._decoder.decode(body)
        return message

    def descriptor(self) -> int:
        """The descriptor that came with the last message; the caller closes it. Raises `ValueError` without one."""
        if not self._descriptors:
            raise ValueError("the request came without its image")
        return self._descriptors.pop(0)

    def fileno(self) -> int:
        """For use with a selector."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def _whole(self) -> bytes | None:
        """The next message's bytes, if they are all here."""
        if len(self._buffer) < _LENGTH.size:
            return None
        (length,) = _LENGTH.unpack_from(self._buffer)
        if length > MOST_BYTES:
            raise ValueError(f"a message of {length} bytes; at most {MOST_BYTES} are believed")
        end = _LENGTH.size + length
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[_LENGTH.size : end])
        del self._buffer[:end]
        return body
