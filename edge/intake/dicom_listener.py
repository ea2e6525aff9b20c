"""The DICOM listener: Storage and Verification Service Class as SCP (PS3.4, annexes A and B).

The data set's bytes go to the store as they came; nothing is decoded here but the first elements, which must say what
the C-STORE request says. Each way to fail has its own status (PS3.4 table B.2-1, PS3.7 annex C) and never raises into
the network's threads.
"""

from __future__ import annotations

import logging
import sqlite3
import ssl
import sys
import time
import warnings
from threading import Thread
from typing import Any, Self

from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, _config, build_context, evt, register_uid
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import Verification

from edge import events
from edge.config import Dicom
from edge.events import emit
from edge.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, file_meta
from edge.identity import Identity, Unidentified, read_identity
from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from edge.intake.admission import REJECTED_PERMANENT
from edge.intake.connections import Connection, Connections, Stage
from edge.intake.receipts import Sender
from edge.intake.reception import Reception
from edge.intake.statuses import (
    CANNOT_UNDERSTAND,
    DATA_SET_DOES_NOT_MATCH,
    OUT_OF_RESOURCES,
    PROCESSING_FAILURE,
    SUCCESS,
    Refused,
)
from edge.intake.tls import server_context
from edge.intake.upper_layer import Server
from edge.records import Arrival, Priority
from edge.store import Delivery, StorageFull

RETIRED_STORAGE = {
    "1.2.840.10008.5.1.4.1.1.3": "UltrasoundMultiFrameImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.5": "NuclearMedicineImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.6": "UltrasoundImageStorageRetired",
    "1.2.840.10008.5.1.4.1.1.12.3": "XRayAngiographicBiPlaneImageStorage",
    "1.2.840.10008.5.1.4.1.1.77.1": "VLImageStorageTrial",
    "1.2.840.10008.5.1.4.1.1.77.2": "VLMultiFrameImageStorageTrial",
}
"""Image storage classes that old modalities still send and pynetdicom does not list (PS3.6 table A-1)."""

_PRIORITIES = {1: Priority.URGENT, 2: Priority.BACKLOG}  # PS3.7 table 9.3-1: 0 medium, 1 high, 2 low
_COMMENT_LENGTH = 64
_POLL = 0.02
_RELEASES_WITHIN = 0.3
"""Seconds that a sender has for releasing its association, once it was answered, while we stop."""
_CUT_EVERY = 0.5


class DicomListener:
    """Accepts associations and objects from its creation on, in threads of its own, until `stop`.

    Attributes:
        port: The port without TLS; 0 when there is none.
        tls_port: The port with TLS; 0 when there is none.
    """

    def __init__(self, config: Dicom, reception: Reception) -> None:
        """Bind and listen.

        Raises:
            OSError: The address cannot be had; its `filename` is the port.
            TlsUnusable: The certificate or the key.
        """
        self._config = config
        self._reception = reception
        self._connections = Connections(config)
        self._servers: list[Server] = []
        tls = server_context(config.tls) if config.tls else None
        self.port = self._listen(config.port) if config.plain else 0
        self.tls_port = self._listen(config.tls.port, tls) if config.tls else 0
        for server in self._servers:
            Thread(target=server.serve_forever, args=(_CUT_EVERY,), daemon=True).start()
        for event, port in ((events.LISTENING, self.port), (events.TLS_LISTENING, self.tls_port)):
            if port:
                emit(event, ae_title=config.ae_title, host=config.host, port=port)

    @property
    def associations(self) -> int:
        """How many are open now."""
        return self._connections.associations()

    def stop(self, seconds: float) -> None:
        """Take no new associations, let running C-STOREs finish for up to `seconds`, then hang up on all."""
        deadline = time.monotonic() + seconds
        for server in self._servers:
            server.shutdown()
        idle: dict[Any, float] = {}
        while open_now := set(self._connections.all()):
            now = time.monotonic()
            idle = {connection: idle.get(connection, now) for connection in open_now if not _is_busy(connection)}
            for connection in open_now:
                if now >= deadline or now - idle.get(connection, now) >= _RELEASES_WITHIN:
                    connection.hang_up()
            if now >= deadline + 1:
                return
            time.sleep(_POLL)

    def _listen(self, port: int, tls: ssl.SSLContext | None = None) -> int:
        entity = AE(ae_title=self._config.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.maximum_pdu_size = self._config.max_pdu_bytes
        entity.maximum_associations = sys.maxsize  # `Connections` decides
        entity.acse_timeout = self._config.association_timeout_seconds + 2  # `Connections` comes first, and says so
        entity.network_timeout = None  # `Connections` decides
        try:
            server = entity.make_server(
                (self._config.host, port),
                contexts=_supported_contexts(),
                evt_handlers=[
                    (evt.EVT_REQUESTED, self._on_requested),
                    (evt.EVT_CONN_CLOSE, self._on_closed),
                    (evt.EVT_C_STORE, self._on_store),
                ],
                server_class=Server,
                connections=self._connections,
                config=self._config,
                tls=tls,
                begin=self._begin,
                refused=self._reception.receipts.refused,
            )
        except OSError as error:
            for other in self._servers:
                other.server_close()
            raise OSError(error.errno, error.strerror, str(port)) from error
        self._servers.append(server)
        return int(server.server_address[1])

    def _on_requested(self, event: Any) -> None:
        association = event.assoc
        request = association.requestor.primitive
        rejection = self._connections.admit(
            association.connection,
            called=request.called_ae_title,
            calling=request.calling_ae_title,
            context=str(request.application_context_name),
        )
        if rejection:
            emit(events.ASSOCIATION_REJECTED, host=association.connection.host, reason=rejection.words)
            if rejection.result == REJECTED_PERMANENT:
                self._reception.receipts.refused(association.connection.host, rejection.words)
            association.acse.send_reject(rejection.result, rejection.source, rejection.reason)
            association.kill()  # waits until it is sent

    def _begin(self, command: Dataset, transfer_syntax: UID) -> Delivery:
        """Start a DICOM file (PS3.10 7.1) with file meta information of our own."""
        meta = file_meta(command.AffectedSOPClassUID, command.AffectedSOPInstanceUID, transfer_syntax)
        delivery = self._reception.begin()
        delivery.write(meta)
        return delivery

    def _on_store(self, event: Any) -> int | Dataset:
        try:
            identity = _identified(event, self._config.max_object_bytes)
            asked = _PRIORITIES.get(event.request.Priority, Priority.ROUTINE)
            arrival = _arrival(event, identity, self._reception.priority(identity, asked))
            accepted = self._reception.keep(event.request.DataSet.delivery, arrival)
            sender = Sender(event.assoc.requestor.ae_title, event.assoc.connection.host)
            self._reception.receipts.add(event.assoc, sender, identity, new=accepted.new)
        except Refused as refusal:
            self._reception.refuse()
            return _failure(refusal.status, str(refusal))
        except StorageFull:
            return _failure(OUT_OF_RESOURCES, "the disk is full: try again later")
        except (OSError, sqlite3.Error) as error:
            return _failure(PROCESSING_FAILURE, f"the object could not be stored: {type(error).__name__}")
        except Exception as error:  # a defect of ours costs this object, not the association: DESIGN rule 2
            self._reception.refuse()
            return _failure(PROCESSING_FAILURE, f"the software failed: {type(error).__name__}")
        return SUCCESS

    def _on_closed(self, event: Any) -> None:
        """Nothing more comes. Wakes an association that waits for its request: pynetdicom would let it time out."""
        self._reception.receipts.ended(event.assoc)
        if event.assoc.requestor.primitive is None:
            event.assoc.dul.to_user_queue.put(None)


def silence_libraries() -> None:
    """Keep pynetdicom and pydicom from writing: their messages and tracebacks quote what patients' images hold."""
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"
    warnings.simplefilter("ignore")


class _Contexts(list[Any]):
    """The contexts that pynetdicom copies for each association, only to read them: not copying saves 57 ms each."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def storage_classes() -> list[str]:
    """The UIDs of the storage SOP classes that are accepted."""
    return [
        *(str(context.abstract_syntax) for context in AllStoragePresentationContexts),
        *RETIRED_STORAGE,
    ]


def _supported_contexts() -> _Contexts:
    """Every storage SOP class in every transfer syntax that is decoded here; the first that the sender has is taken."""
    for retired, keyword in RETIRED_STORAGE.items():
        register_uid(retired, keyword, StorageServiceClass)
    contexts = _Contexts(build_context(storage, list(DECODED_SYNTAXES)) for storage in storage_classes())
    contexts.append(build_context(Verification))
    return contexts


def _is_busy(connection: Connection) -> bool:
    """Whether it is in the middle of a message: some of it received, or all of it and not answered yet."""
    return connection.stage is Stage.STORING or bool(connection.thread and connection.thread.dimse.message)


def _identified(event: Any, longest: int) -> Identity:
    """What an object is, once it is known to be what its request says. Raises `Refused`."""
    request, syntax = event.request, event.context.transfer_syntax
    if request.DataSet.is_too_large:
        raise Refused(OUT_OF_RESOURCES, f"the object has more than {longest} bytes")
    stated = Identity(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
    try:
        found = read_identity(request.DataSet.getvalue(), str(syntax))
    except Unidentified as error:
        raise Refused(CANNOT_UNDERSTAND, str(error)) from error
    if found[:2] != stated[:2]:
        name = "SOP Class" if found.sop_class_uid != stated.sop_class_uid else "SOP Instance"
        raise Refused(DATA_SET_DOES_NOT_MATCH, f"the data set's {name} UID is not the request's")
    return found


def _arrival(event: Any, identity: Identity, priority: Priority) -> Arrival:
    return Arrival(
        source="dicom",
        peer=event.assoc.requestor.ae_title,
        sop_instance_uid=identity.sop_instance_uid,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=str(event.context.transfer_syntax),
        priority=priority,
    )


def _failure(status: int, comment: str) -> Dataset:
    """A response with the reason in its Error Comment (PS3.7 annex C), for the sender's log as for ours."""
    emit(events.STORE_FAILED, status=status, error=comment)
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:_COMMENT_LENGTH]
    return answer
