"""PDUs made by hand (PS3.8 9.3) and a bare socket to send them: for what no toolkit lets its caller send."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import NamedTuple, Self

from pydicom import Dataset

from tests.intake.objects import DX_FOR_PRESENTATION
from tests.intake.peer import encoded
from tests.running import PATIENCE

VERIFICATION = "1.2.840.10008.1.1"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"

ASSOCIATE_RQ, ASSOCIATE_AC, ASSOCIATE_RJ, P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = range(1, 8)
COMMAND, DATA, LAST_COMMAND, LAST_DATA = 1, 0, 3, 2
STORE_CONTEXT, ECHO_CONTEXT = 1, 3
C_STORE_RQ, C_FIND_RQ, C_ECHO_RQ, N_EVENT_REPORT_RQ, C_CANCEL_RQ = 0x0001, 0x0020, 0x0030, 0x0100, 0x0FFF


class Context(NamedTuple):
    """A proposed presentation context."""

    number: int
    abstract_syntax: str
    transfer_syntaxes: Sequence[str]


CONTEXTS = (
    Context(STORE_CONTEXT, DX_FOR_PRESENTATION, (EXPLICIT_LITTLE,)),
    Context(ECHO_CONTEXT, VERIFICATION, ("1.2.840.10008.1.2",)),
)


def pdu(kind: int, body: bytes) -> bytes:
    """Any PDU."""
    return struct.pack(">BBL", kind, 0, len(body)) + body


def associate_rq(
    contexts: Sequence[Context] = CONTEXTS,
    *,
    called: bytes = b"SCANSIDE",
    calling: bytes = b"MODALITY",
    application_context: str = APPLICATION_CONTEXT,
    max_pdu: int = 0,
) -> bytes:
    """A-ASSOCIATE-RQ; `called` and `calling` are padded to 16 bytes with spaces."""
    proposed = b"".join(
        _item(
            0x20,
            bytes((context.number, 0, 0, 0))
            + _item(0x30, context.abstract_syntax.encode())
            + b"".join(_item(0x40, syntax.encode()) for syntax in context.transfer_syntaxes),
        )
        for context in contexts
    )
    user = _item(0x50, _item(0x51, struct.pack(">L", max_pdu)) + _item(0x52, b"2.25.1") + _item(0x55, b"BY-HAND"))
    fixed = struct.pack(">HH", 1, 0) + called.ljust(16) + calling.ljust(16) + bytes(32)
    return pdu(ASSOCIATE_RQ, fixed + _item(0x10, application_context.encode()) + proposed + user)


def p_data(context: int, control: int, fragment: bytes) -> bytes:
    """P-DATA-TF with one fragment."""
    return pdu(P_DATA, struct.pack(">LBB", len(fragment) + 2, context, control) + fragment)


def command(field: int, *, sop_class: str, instance: str = "", data_set: bool = False, message: int = 1) -> bytes:
    """A command set (PS3.7 9.3), implicit VR little endian."""
    elements = [
        (0x0002, _padded(sop_class)),
        (0x0100, struct.pack("<H", field)),
        (0x0110, struct.pack("<H", message)),
        (0x0700, struct.pack("<H", 0)),
        (0x0800, struct.pack("<H", 0 if data_set else 0x0101)),
        (0x1000, _padded(instance)),
    ]
    body = b"".join(struct.pack("<HHL", 0, tag, len(value)) + value for tag, value in elements if value)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def c_echo() -> bytes:
    """C-ECHO-RQ."""
    return p_data(ECHO_CONTEXT, LAST_COMMAND, command(C_ECHO_RQ, sop_class=VERIFICATION))


def c_store_command(dataset: Dataset) -> bytes:
    """The command of a C-STORE-RQ."""
    request = command(C_STORE_RQ, sop_class=dataset.SOPClassUID, instance=dataset.SOPInstanceUID, data_set=True)
    return p_data(STORE_CONTEXT, LAST_COMMAND, request)


def c_store(dataset: Dataset, fragment_bytes: int = 1 << 16) -> list[bytes]:
    """A whole C-STORE-RQ as PDUs."""
    data = encoded(dataset)
    fragments = [data[start : start + fragment_bytes] for start in range(0, len(data), fragment_bytes)]
    controls = [DATA] * (len(fragments) - 1) + [LAST_DATA]
    return [
        c_store_command(dataset),
        *(p_data(STORE_CONTEXT, control, fragment) for control, fragment in zip(controls, fragments, strict=True)),
    ]


def release_rq() -> bytes:
    """A-RELEASE-RQ."""
    return pdu(RELEASE_RQ, bytes(4))


def abort() -> bytes:
    """A-ABORT of a service user."""
    return pdu(ABORT, bytes(4))


class Pdu(NamedTuple):
    """A received PDU."""

    kind: int
    body: bytes

    @property
    def status(self) -> int:
        """Of a P-DATA-TF with a C-STORE or C-ECHO response: its Status (0000,0900)."""
        at = self.body.index(struct.pack("<HHL", 0, 0x0900, 2)) + 8
        return int(struct.unpack_from("<H", self.body, at)[0])


class Peer:
    """A bare TCP connection to the listener. Its reads fail loudly where the listener hangs."""

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        self.socket.close()

    def send(self, *pdus: bytes) -> None:
        """Send all."""
        self.socket.sendall(b"".join(pdus))

    def associated(self) -> Self:
        """Send an A-ASSOCIATE-RQ and expect its acceptance."""
        self.send(associate_rq())
        assert self.read().kind == ASSOCIATE_AC
        return self

    def read(self) -> Pdu:
        """The next PDU. Raises `EOFError` at the connection's end."""
        header = self._read(6)
        return Pdu(header[0], self._read(struct.unpack(">L", header[2:])[0]))

    def read_all(self) -> list[Pdu]:
        """All PDUs until the listener closes the connection."""
        return list(self._until_closed())

    def _until_closed(self) -> Iterator[Pdu]:
        try:
            while True:
                yield self.read()
        except (EOFError, ConnectionError):
            return

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            if not more:
                raise EOFError
            data += more
        return data


def _item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(body)) + body


def _padded(uid: str) -> bytes:
    value = uid.encode()
    return value + b"\0" * (len(value) % 2)
