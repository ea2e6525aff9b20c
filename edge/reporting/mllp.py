"""HL7 v2 messages over MLLP, in the clear or over TLS (HL7 Minimal Lower Layer Protocol, release 1)."""

from __future__ import annotations

import socket
import time
from types import TracebackType
from typing import Self

from edge import reasons
from edge.config_reporting import Destination
from edge.device.client_tls import client_context
from edge.reporting.pacs import Unreachable

_BEGIN, _END = b"\x0b", b"\x1c\r"
_CONNECT_WITHIN, _ANSWER_WITHIN = 10.0, 60.0
_LONGEST_ANSWER = 1 << 16
_STORED, _BUSY, _REFUSED = 0x0000, 0xA700, 0xC000
_PASSING = frozenset({"206", "207"})
"""Error codes (table 0357) that say nothing of the message: a record is locked, the application failed."""


class MllpSession:
    """What `Association` is, for a system that takes HL7 v2: one connection, each message acknowledged before the next.

    Attributes:
        accepted: What is offered.
        commits: Never: an acknowledgement is all that there is.
    """

    commits = False

    def __init__(self, destination: Destination, classes: tuple[str, ...]) -> None:
        """Connect. Raises `Unreachable`."""
        self.accepted = frozenset(classes)
        files = destination.ca_file, destination.certificate_file, destination.key_file
        try:
            context = client_context(*files) if destination.tls else None
            connection = socket.create_connection((destination.host, destination.port), _CONNECT_WITHIN)
            self._connection = (
                context.wrap_socket(connection, server_hostname=destination.host) if context else connection
            )
        except (OSError, ValueError) as error:
            raise Unreachable(reasons.NO_CONNECTION) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._connection.close()

    def store(self, message: bytes) -> int:
        """Send a message; its acknowledgement as a status of C-STORE. Raises `Unreachable`: none came for this one."""
        try:
            self._connection.settimeout(_ANSWER_WITHIN)
            self._connection.sendall(_BEGIN + message + _END)
            answer = self._answer()
        except OSError as error:
            raise Unreachable(reasons.CONNECTION_BROKE) from error
        status = status_of(answer, control_id_of(message))
        if status is None:
            raise Unreachable(reasons.CONNECTION_BROKE)
        return status

    def _answer(self) -> bytes:
        """What stands between the next begin and end. Raises `OSError`: nothing of the kind came."""
        received, deadline = b"", time.monotonic() + _ANSWER_WITHIN
        while _END not in received and len(received) < _LONGEST_ANSWER and time.monotonic() < deadline:
            piece = self._connection.recv(4096)
            if not piece:
                raise ConnectionResetError("it hung up")
            received += piece
        return received.partition(_BEGIN)[2].partition(_END)[0]


def control_id_of(message: bytes) -> str:
    """MSH-10 of a message that was made here."""
    return message.split(b"|", 10)[9].decode("ascii")


def status_of(answer: bytes, control_id: str) -> int | None:
    """An acknowledgement (HL7 2.5, 2.9) as a status of C-STORE; None when it is none for this message.

    What the receiver's own state is to blame for comes again later: AR with an error code that says so (table 0357),
    in ERR-3, in ERR-1.4 or in MSA-6.
    """
    segments = [line.split("|") for line in answer.decode("latin-1").split("\r")]
    acknowledged = next((fields for fields in segments if fields[0].strip() == "MSA"), [])
    code, about = (*acknowledged[1:3], "", "")[:2]
    if about != control_id:
        return None
    if code in ("AA", "CA"):
        return _STORED
    if code not in ("AE", "AR", "CE", "CR"):
        return None
    errors = [part for fields in segments if fields[0] == "ERR" for field in fields[1:] for part in field.split("^")]
    errors += [part for field in acknowledged[6:7] for part in field.split("^")]
    return _BUSY if code in ("AR", "CR") and not _PASSING.isdisjoint(errors) else _REFUSED
