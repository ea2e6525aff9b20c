"""The DICOM listener: Storage and Verification Service Class as SCP (PS3.4, annexes A and B).

The data set's bytes go to the store as they came; nothing is decoded here but the first elements, which must say what
the C-STORE request says. Each way to fail has its own status (PS3.4 table B.2-1, PS3.7 annex C) and never raises into
the network's threads.
"""

from __future__ import annotations

import logging
import socket
import sqlite3
import time
import warnings
from threading import ExceptHookArgs
from typing import Any, Self

from pydicom import Dataset
from pynetdicom import AE, AllStoragePresentationContexts, _config, build_context, evt
from pynetdicom.dsutils import encode_file_meta

from edge import events
from edge.config import Dicom
from edge.events import emit, place
from edge.identity import Identity, Unidentified, read_identity
from edge.imaging.decode import DECODED_SYNTAXES
from edge.intake.reception import Reception
from edge.records import Arrival, Priority
from edge.store import StorageFull

SUCCESS = 0x0000
PROCESSING_FAILURE = 0x0110
OUT_OF_RESOURCES = 0xA700
DATA_SET_DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000

IMPLEMENTATION_CLASS_UID = "2.25.199491396992977404719333051299002334566"
IMPLEMENTATION_VERSION_NAME = "SCANSIDE"
"""Ours in each file's meta information, the same in every version: an image that comes again has the same bytes."""

_VERIFICATION = "1.2.840.10008.1.1"
_PRIORITIES = {1: Priority.URGENT, 2: Priority.BACKLOG}  # PS3.7 table 9.3-1: 0 medium, 1 high, 2 low
_COMMENT_LENGTH = 64
_POLL = 0.02


class Refused(Exception):  # noqa: N818 - an answer, not an error of ours
    """An object that is answered with a failure status and a comment for the sender's log."""

    def __init__(self, status: int, comment: str) -> None:
        super().__init__(comment)
        self.status = status


class DicomListener:
    """Accepts associations and objects from its creation on, in threads of its own, until `stop`."""

    def __init__(self, config: Dicom, reception: Reception) -> None:
        """Bind and listen. Raises `OSError` when the address cannot be had."""
        self._config = config
        self._reception = reception
        self._storing: set[Any] = set()
        entity = AE(ae_title=config.ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.require_called_aet = config.require_called_ae_title
        entity.maximum_associations = config.max_associations
        entity.maximum_pdu_size = config.max_pdu_bytes
        self._server = entity.start_server(
            (config.host, config.port),
            block=False,
            contexts=_supported_contexts(),
            evt_handlers=[(evt.EVT_C_STORE, self._on_store), (evt.EVT_REJECTED, self._on_rejected)],
        )
        self.port: int = self._server.server_address[1]
        emit(events.LISTENING, ae_title=config.ae_title, host=config.host, port=self.port)

    @property
    def associations(self) -> int:
        """How many are open now."""
        return len(self._server.active_associations)

    def stop(self, seconds: float) -> None:
        """Take no new associations, let running C-STOREs finish for up to `seconds`, then hang up on all."""
        deadline = time.monotonic() + seconds
        self._server.shutdown()
        idle: set[Any] = set()
        while open_now := set(self._server.active_associations):
            idle_before, idle = idle, {association for association in open_now if not self._is_busy(association)}
            late = time.monotonic() >= deadline
            for association in open_now if late else idle & idle_before:
                _hang_up(association)
            if time.monotonic() >= deadline + 1:
                return
            time.sleep(_POLL)

    def _is_busy(self, association: Any) -> bool:
        """Whether it is in the middle of a message: some of it received, or all of it and not answered yet."""
        dimse = association.dimse
        return association in self._storing or dimse.message is not None or not dimse.msg_queue.empty()

    def _on_store(self, event: Any) -> int | Dataset:
        self._storing.add(event.assoc)
        try:
            self._reception.accept(*_received(event))
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
        finally:
            self._storing.discard(event.assoc)
        return SUCCESS

    def _on_rejected(self, event: Any) -> None:
        request = event.assoc.requestor
        if self._config.require_called_ae_title and request.primitive.called_ae_title != self._config.ae_title.strip():
            reason = f"it called another AE title than {self._config.ae_title}"
        else:
            reason = f"{self._config.max_associations} are open already"
        emit(events.ASSOCIATION_REJECTED, host=request.address, reason=reason)


def silence_libraries() -> None:
    """Keep pynetdicom and pydicom from writing: their messages and tracebacks quote what patients' images hold."""
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"
    warnings.simplefilter("ignore")


def report_thread_failure(failure: ExceptHookArgs) -> None:
    """For `threading.excepthook`: one event instead of a traceback."""
    where = place(failure.exc_value) if failure.exc_value else "unknown"
    emit(events.THREAD_FAILED, error=failure.exc_type.__name__, where=where)


class _Contexts(list[Any]):
    """The contexts that pynetdicom copies for each association, only to read them: not copying saves 57 ms each."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


def _supported_contexts() -> _Contexts:
    """Every storage SOP class in every transfer syntax that is decoded here; the first that the sender has is taken."""
    syntaxes = list(DECODED_SYNTAXES)
    contexts = _Contexts(build_context(storage.abstract_syntax, syntaxes) for storage in AllStoragePresentationContexts)
    contexts.append(build_context(_VERIFICATION))
    return contexts


def _received(event: Any) -> tuple[bytes, Arrival]:
    """The object as a DICOM file (PS3.10 7.1), and how it came. Raises `Refused`."""
    request, syntax = event.request, event.context.transfer_syntax
    data_set = request.DataSet.getvalue()
    stated = Identity(str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
    try:
        found = read_identity(data_set, str(syntax))
    except Unidentified as error:
        raise Refused(CANNOT_UNDERSTAND, str(error)) from error
    if found[:2] != stated[:2]:
        name = "SOP Class" if found.sop_class_uid != stated.sop_class_uid else "SOP Instance"
        raise Refused(DATA_SET_DOES_NOT_MATCH, f"the data set's {name} UID is not the request's")
    meta = event.file_meta
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    arrival = Arrival(
        source="dicom",
        peer=event.assoc.requestor.ae_title,
        sop_instance_uid=stated.sop_instance_uid,
        sop_class_uid=stated.sop_class_uid,
        transfer_syntax_uid=str(syntax),
        priority=_PRIORITIES.get(request.Priority, Priority.ROUTINE),
    )
    return b"".join((bytes(128), b"DICM", encode_file_meta(meta), data_set)), arrival


def _failure(status: int, comment: str) -> Dataset:
    """A response with the reason in its Error Comment (PS3.7 annex C), for the sender's log as for ours."""
    emit(events.STORE_FAILED, status=status, error=comment)
    answer = Dataset()
    answer.Status = status
    answer.ErrorComment = comment[:_COMMENT_LENGTH]
    return answer


def _hang_up(association: Any) -> None:
    """Close the connection under an association: its threads see the end at once and go."""
    try:
        association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
    except (AttributeError, OSError):
        return  # closed already
