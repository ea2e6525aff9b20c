"""Our hooks into pynetdicom's upper layer: with `dimse.py` the only place that relies on its insides (of 3.0.4).

pynetdicom reads whatever length a PDU claims, keeps whatever an object or command grows to, waits without end for the
rest of either, does TLS handshakes in the loop that accepts connections, and lets a thread die of a PDU that its state
machine does not expect. Here each of these gets its bound; what is against the protocol becomes the event "invalid PDU"
(Evt19) of PS3.8's own state machine, which answers with A-ABORT.

It also copies each byte of an object six times, and its two threads look every millisecond whether there is something
to do. Here an object's bytes are used where they were received, and both threads sleep until there is.
"""

from __future__ import annotations

import os
import queue
import select
import socket
import ssl
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from socketserver import TCPServer
from threading import Event, Lock
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import pdu_items, pdu_primitives, presentation
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationServer, AssociationSocket, RequestHandler
from pynetdicom.utils import set_uid

from edge import events
from edge.config import Dicom
from edge.events import emit, place
from edge.intake.admission import make_titles_readable
from edge.intake.connections import Connection, Connections, Stage
from edge.intake.dimse import Dimse, Violation
from edge.intake.tls import tls_words
from edge.store import Delivery

MAX_ASSOCIATE_BYTES = 1 << 18
"""The longest A-ASSOCIATE-RQ: 128 presentation contexts of 50 transfer syntaxes each need 180 KB."""

_HEADER_BYTES = 6
_READ_BYTES = 1 << 16
_LINGER_SECONDS = 1.0
_ASSOCIATE_RQ, _P_DATA, _LONGEST_KNOWN = 0x01, 0x04, 0x07
_LONGEST_UID = 64  # PS3.5 9.1
_SHORTEST_PDV = 2  # a presentation context's number and a message control header
_REST_SECONDS = 0.1
_NO_BELL = -1
_P_DATA_RECEIVED, _CLOSED, _INVALID_PDU = "Evt10", "Evt17", "Evt19"
_IDLE, _ESTABLISHED, _CLOSING = "Sta1", "Sta6", "Sta13"


def remember_uids() -> None:
    """Look at each UID once: senders propose the same hundred contexts, and each UID is checked six times.

    An association request with 128 contexts and its answer take 2.2 ms of CPU time instead of 4.9.
    """
    is_valid, made = lru_cache(maxsize=1024)(vars(UID)["is_valid"].fget), lru_cache(maxsize=1024)(set_uid)

    def set_once(value: str | bytes | None, *rules: Any, **more_rules: Any) -> UID | None:
        short = value is not None and len(value) <= _LONGEST_UID
        uid: UID | None = (made if short else set_uid)(value, *rules, **more_rules)
        return uid

    UID.is_valid = property(lambda uid: len(uid) <= _LONGEST_UID and is_valid(uid))  # type: ignore[method-assign, assignment]
    for module in (pdu_items, pdu_primitives, presentation):
        module.set_uid = set_once


class Server(AssociationServer):  # type: ignore[misc]
    """Accepts connections in one thread that never waits for a sender, and cuts those that are overdue."""

    request_queue_size = 128

    def __init__(
        self,
        *arguments: Any,
        connections: Connections,
        config: Dicom,
        tls: ssl.SSLContext | None,
        begin: Callable[[Dataset, UID], Delivery],
        refused: Callable[[str, str], None],
        **options: Any,
    ) -> None:
        """Bind and listen. Raises `OSError`.

        Args:
            arguments: pynetdicom's, as are the options.
            connections: Those of all listeners.
            config: The limits on PDUs and objects.
            tls: With TLS, or without.
            begin: Starts an object, from a C-STORE-RQ's command set and its transfer syntax.
            refused: Told of a host with which there is no TLS, and why.
            options: See arguments.
        """
        self.connections = connections
        self.max_pdu_bytes = config.max_pdu_bytes
        self.max_object_bytes = config.max_object_bytes
        self.tls = tls
        self.begin = begin
        self.refused = refused
        super().__init__(*arguments, request_handler=_Handler, **options)

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept; the TLS handshake comes with the association's first read, in its own thread."""
        client, address = self.socket.accept()
        if self.tls:
            client = self.tls.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        return client, address

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start an association's threads, if there may be one more connection."""
        connection = self.connections.opened(request, client_address[0])
        if connection is None:
            self.shutdown_request(request)
            return
        try:
            _Handler(request, client_address, self, connection)
        except BaseException:
            self.connections.closed(connection)
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """Say that no threads could be started for a connection, which is then closed."""
        if error := sys.exception():
            emit(events.THREAD_FAILED, error=type(error).__name__, where=place(error))

    def service_actions(self) -> None:
        """Called between requests, twice a second at least."""
        super().service_actions()
        self.connections.cut_overdue()

    def shutdown(self) -> None:
        """Stop accepting, and close the socket."""
        TCPServer.shutdown(self)  # pynetdicom's own wants to be known to its AE
        self.server_close()


class _Handler(RequestHandler):  # type: ignore[misc]
    def __init__(self, request: Any, client_address: Any, server: Server, connection: Connection) -> None:
        self._connection = connection
        super().__init__(request, client_address, server)

    def handle(self) -> None:
        association = self._create_association()
        association.connection = self._connection
        association._reactor_checkpoint = checkpoint = _Checkpoint()
        association.dul = _Dul(association, checkpoint)
        association.acse_timeout, association.network_timeout = self.ae.acse_timeout, self.ae.network_timeout
        association.dul.socket = _Transport(association, self.request, self._connection, self.server)
        association.dul.state_machine = _Machine(association.dul)
        association.dimse = Dimse(
            association,
            self._connection,
            begin=self.server.begin,
            max_object_bytes=self.server.max_object_bytes,
            clock=self.server.connections.clock,
        )
        association.dimse.msg_queue = _Waking(checkpoint.wake)
        association.start()
        self._connection.thread = association


class _Waking(queue.Queue[Any]):
    """A queue that wakes who waits for it together with other things."""

    def __init__(self, wake: Callable[[], None]) -> None:
        super().__init__()
        self._wake = wake

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._wake()


class _Checkpoint:
    """Where the association's thread rests before each look at its queues: until something was put into one of them.

    In the place of an event that pynetdicom's acceptor never clears.
    """

    def __init__(self) -> None:
        self._event = Event()
        self.wake = self.set = self._event.set

    def wait(self) -> None:
        """Rest."""
        self._event.wait(_REST_SECONDS)  # in the end it looks whether the other thread still lives
        self._event.clear()


class _PDataTf:
    """A P-DATA-TF PDU whose presentation data values are views of what was received (PS3.8 9.3.5)."""

    def __init__(self, view: memoryview) -> None:
        """Take a PDU apart. Raises `Violation`."""
        self._primitive = P_DATA()
        start = _HEADER_BYTES
        while start < len(view):
            length = int.from_bytes(view[start : start + 4], "big")
            end = start + 4 + length
            if length < _SHORTEST_PDV or end > len(view):
                raise Violation(f"a presentation data value of {length} bytes in a PDU of {len(view)}")
            self._primitive.presentation_data_value_list.append((view[start + 4], view[start + 5 : end]))
            start = end

    def to_primitive(self) -> P_DATA:
        return self._primitive


class _Dul(DULServiceProvider):  # type: ignore[misc]
    """The upper layer's thread: sleeps until there is something to read or to send, and copies no P-DATA."""

    def __init__(self, association: Any, checkpoint: _Checkpoint) -> None:
        super().__init__(association)
        self.to_provider_queue = _Waking(self.ring)
        self.to_user_queue = _Waking(checkpoint.wake)
        self._run_loop_delay = 0
        self._checkpoint = checkpoint
        self._bell = _NO_BELL
        self._bell_lock = Lock()  # a descriptor that was closed meanwhile may be another file's

    def ring(self) -> None:
        """Wake it, if it runs; what is done before it runs is seen when it does."""
        with self._bell_lock:
            if self._bell != _NO_BELL:
                os.eventfd_write(self._bell, 1)

    def rest(self, client: socket.socket | None) -> bool:
        """Sleep until the bell rings or the client has sent something, a moment at most; whether it has.

        Raises:
            OSError, ValueError: The connection was closed meanwhile.
        """
        waited_for: list[Any] = [self._bell, client] if client else [self._bell]
        readable, _, _ = select.select(waited_for, [], [], _REST_SECONDS)
        if self._bell in readable:
            os.eventfd_read(self._bell)
        return client in readable

    def stop_dul(self) -> bool:
        """As pynetdicom's, but waking the thread that is to end."""
        if self.state_machine.current_state != _IDLE:
            return False
        self._kill_thread = True
        self.ring()
        self.join()
        return True

    def run_reactor(self) -> None:
        """The thread."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            super().run_reactor()
        finally:
            with self._bell_lock:
                os.close(self._bell)
                self._bell = _NO_BELL
            self._checkpoint.wake()

    def _read_pdu_data(self) -> None:
        try:
            view = self.socket.read_pdu()
            while view[0] == _P_DATA and self.state_machine.current_state == _ESTABLISHED:
                # PS3.8's action DT-2 until a message is whole, without a turn of the reactor for each PDU.
                self.assoc.dimse.receive_primitive(_PDataTf(view).to_primitive())
                if self.assoc.dimse.message is None:
                    return
                view = self.socket.read_pdu()
            if view[0] == _P_DATA:
                pdu, event = _PDataTf(view), _P_DATA_RECEIVED
            else:
                pdu, event = self._decode_pdu(bytearray(view))
        except OSError:
            self.event_queue.put(_CLOSED)
        except Exception as error:  # pynetdicom and pydicom raise nearly any type for what they cannot decode
            self.assoc.connection.violation = _words(error)
            self.event_queue.put(_INVALID_PDU)
        else:
            self.event_queue.put(event)
            self._recv_pdu.put(pdu)


class _Transport(AssociationSocket):  # type: ignore[misc]
    """Reads PDUs of bounded length, in large pieces, and no more while a message waits for its answer."""

    def __init__(self, association: Any, client: Any, connection: Connection, server: Server) -> None:
        super().__init__(association, client_socket=client)
        self._connection = connection
        self._clock = server.connections.clock
        self._max_pdu_bytes = server.max_pdu_bytes
        self._refused = server.refused
        self._buffer = bytearray(_HEADER_BYTES)

    @property
    def ready(self) -> bool:
        if self.assoc.dul.state_machine.current_state == _CLOSING:
            self._linger()
            return False  # nothing that still comes is of interest: pynetdicom closes the connection now
        if not self.event_queue.empty():
            return False
        may_read = self._connection.stage is not Stage.STORING
        try:
            if may_read and isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
                return True
            return bool(self.assoc.dul.rest(self.socket if may_read else None))
        except (OSError, ValueError):
            self.event_queue.put(_CLOSED)
            return False

    def _linger(self) -> None:
        """Let the sender read why it is sent away: closing on unread bytes would reset the connection under it."""
        end = self._clock() + _LINGER_SECONDS
        with suppress(OSError, ValueError, TypeError):  # closed already
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
            while (left := end - self._clock()) > 0 and select.select([self.socket], [], [], left)[0]:
                if not socket.socket.recv(self.socket, _READ_BYTES):  # not SSLSocket's: nobody deciphers this
                    return

    def read_pdu(self) -> memoryview:
        """The next PDU, until the one after it is read: all go through one buffer, as long as the longest of them.

        Raises:
            OSError: The connection ends before its end.
            Violation: It is of no known type, or too long.
        """
        if self.assoc.dimse.message is None:
            self._connection.since, self._connection.received = self._clock(), 0
        self._read(0, _HEADER_BYTES)
        kind, length = self._buffer[0], int.from_bytes(self._buffer[2:_HEADER_BYTES], "big")
        if not 0 < kind <= _LONGEST_KNOWN:
            raise Violation(f"a PDU of type {kind}, the rule is 1 to {_LONGEST_KNOWN}")
        longest = self._max_pdu_bytes if kind == _P_DATA else MAX_ASSOCIATE_BYTES
        if length > longest:
            raise Violation(f"a PDU of {length} bytes, the rule is at most {longest}")
        end = _HEADER_BYTES + length
        if end > len(self._buffer):
            self._buffer = self._buffer[:_HEADER_BYTES] + bytearray(length)
        self._read(_HEADER_BYTES, end)
        view = memoryview(self._buffer)[:end]
        if kind == _ASSOCIATE_RQ:
            make_titles_readable(view[_HEADER_BYTES:])
        return view

    def _read(self, start: int, end: int) -> None:
        """Fill the buffer from `start` to `end`. Raises `OSError`, also when the sender stops before."""
        client = self.socket
        view = memoryview(self._buffer)
        try:
            while start < end:
                count = client.recv_into(view[start:end]) if client else 0
                if not count:
                    raise ConnectionAbortedError
                # DCMTK writes a PDU's header by itself, and the kernel there keeps a short rest back until that is
                # acknowledged (RFC 1122 4.2.3.4), which the kernel here does after 40 ms if it is not asked to at once.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
                start += count
                self._connection.received += count
        except ssl.SSLError as error:
            emit(events.TLS_FAILED, host=self._connection.host, error=tls_words(error))
            self._refused(self._connection.host, f"no TLS: {tls_words(error)}")
            raise


class _Machine(StateMachine):  # type: ignore[misc]
    """PS3.8's state machine, for which an action that fails is one more invalid PDU."""

    def do_action(self, event: str) -> None:
        connection = self.dul.assoc.connection
        if event == _INVALID_PDU and self.current_state != _CLOSING:
            reason = connection.violation or "a PDU that cannot be read"
            emit(events.ASSOCIATION_ABORTED, host=connection.host, reason=reason)
        try:
            super().do_action(event)
        except Exception as error:  # any type, from any depth of pynetdicom and pydicom
            connection.violation = connection.violation or _words(error)
            self._give_up(event)

    def _give_up(self, event: str) -> None:
        """Go on to A-ABORT after a failed action; where there is no association any more, to the end."""
        with suppress(queue.Empty):
            while True:
                self.dul.to_provider_queue.get_nowait()  # else the reactor tries to send it again and again
        self.dul._kill_thread = self.current_state == _IDLE or event == _INVALID_PDU
        if self.current_state != _CLOSING:
            self.dul.event_queue.put(_INVALID_PDU)


def _words(error: Exception) -> str:
    """What is against the protocol, in words without a value of the data set."""
    return str(error) if isinstance(error, Violation) else f"{type(error).__name__} in {place(error)}"
