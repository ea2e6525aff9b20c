"""DIMSE messages as they come: each of bounded size, an object's bytes straight on to the store (pynetdicom 3.0.4)."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_CANCEL_RQ, C_ECHO_RQ, C_STORE_RQ, DIMSEMessage
from pynetdicom.pdu_primitives import P_DATA

from edge.intake.connections import Connection, Stage
from edge.store import Delivery

MAX_COMMAND_BYTES = 1 << 14
"""The longest command set: a C-STORE request has under 300 bytes."""

_HEAD_BYTES = 1 << 16
"""How much of an object stays in memory: the UIDs that say what it is are among its first elements."""

_NAMED_BY = ("AffectedSOPClassUID", "AffectedSOPInstanceUID")


class Violation(Exception):  # noqa: N818 - the sender's error, not ours
    """What a sender did against the protocol."""


class ObjectBuffer(BytesIO):
    """An object as it comes: it goes on to the store, and only its head stays here, to say what it is.

    Attributes:
        size: How many bytes came.
        delivery: What is in the store's hands; None before the first byte.
        is_too_large: Whether it is not kept: then it is only counted.
    """

    def __init__(self, begin: Callable[[], Delivery], longest: int) -> None:
        """`begin` starts the delivery when the first fragment comes; `longest` is in bytes."""
        super().__init__()
        self._begin = begin
        self._longest = longest
        self.size = 0
        self.delivery: Delivery | None = None
        self.is_too_large = False

    def write(self, data: Any) -> int:
        """Take one fragment."""
        self.size += len(data)
        self.delivery = self.delivery or self._begin()
        if self.size > self._longest:
            self.is_too_large = True
            self.delivery.discard()
            return len(data)
        self.delivery.write(data)
        super().write(data[: _HEAD_BYTES - self.tell()])
        return len(data)

    def discard(self) -> None:
        """Remove what came, unless the store has accepted it."""
        if self.delivery:
            self.delivery.discard()


class _CommandBuffer(BytesIO):
    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_COMMAND_BYTES:
            raise Violation(f"a command set of more than {MAX_COMMAND_BYTES} bytes")
        return super().write(data)


class Dimse(DIMSEServiceProvider):  # type: ignore[misc]
    """Takes C-STORE and C-ECHO requests, one at a time and of bounded size."""

    message: Any

    def __init__(
        self,
        association: Any,
        connection: Connection,
        *,
        begin: Callable[[Dataset, UID], Delivery],
        max_object_bytes: int,
        clock: Callable[[], float],
    ) -> None:
        """Take messages for an association.

        Args:
            association: pynetdicom's.
            connection: Where its messages come from.
            begin: Starts an object, from a C-STORE-RQ's command set and its transfer syntax.
            max_object_bytes: What is longer is counted, and not kept.
            clock: Seconds, monotonic.
        """
        super().__init__(association)
        self._connection = connection
        self._begin_object = begin
        self._max_object_bytes = max_object_bytes
        self._clock = clock

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Add fragments to the message. Raises `Violation`."""
        message = self.message = self.message or self._new_message()
        complete = message.decode_msg(primitive, self.assoc)
        endless = message.data_set.size > 2 * self._max_object_bytes  # not kept; its end need not be waited for
        if not complete and not endless:
            return
        self.message = None
        if isinstance(message, C_CANCEL_RQ):
            return  # too late: what it cancels was answered before the next message was read
        if not isinstance(message, C_STORE_RQ | C_ECHO_RQ):
            raise Violation(f"a {type(message).__name__} message, the rule is C-STORE-RQ or C-ECHO-RQ")
        request = message.message_to_primitive()
        if not request.is_valid_request:
            raise Violation(f"a {type(message).__name__} message without its mandatory parameters")
        self._connection.stage = Stage.STORING
        self.msg_queue.put((message.context_id, request))

    def send_msg(self, primitive: Any, context_id: int) -> None:
        """Answer, and let the next message come."""
        super().send_msg(primitive, context_id)
        self._connection.discard()
        self._connection.received, self._connection.since = 0, self._clock()
        self._connection.stage = Stage.RECEIVING

    def _new_message(self) -> Any:
        self._connection.discard()  # of an object that was given up for another message
        message: Any = DIMSEMessage()
        message.encoded_command_set = _CommandBuffer()
        message.data_set = ObjectBuffer(lambda: self._begin(message), self._max_object_bytes)
        self._connection.incoming = message.data_set
        return message

    def _begin(self, message: Any) -> Delivery:
        if not isinstance(message, C_STORE_RQ):
            raise Violation("a data set without the command of a C-STORE-RQ")
        if not all(keyword in message.command_set for keyword in _NAMED_BY):
            raise Violation("a C-STORE-RQ message without its mandatory parameters")
        context = self.assoc._accepted_cx.get(message.context_id)
        if context is None:
            raise Violation("a presentation context that was not accepted")
        if self._connection.stage is Stage.CLOSING:
            raise Violation("more after the connection was cut")
        return self._begin_object(message.command_set, context.transfer_syntax[0])
