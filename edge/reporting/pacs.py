"""One association with a PACS: Storage SCU and Storage Commitment SCU (PS3.4 annexes B and J), plain or over TLS."""

from __future__ import annotations

import logging
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from types import TracebackType
from typing import Any, Self

from pydicom import Dataset, dcmread
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, _config, evt
from pynetdicom.sop_class import StorageCommitmentPushModel

from edge import reasons
from edge.config_reporting import Destination
from edge.device.client_tls import client_context
from edge.device.dicom_client import associate
from edge.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

COMMITMENT_INSTANCE = "1.2.840.10008.1.20.1.1"
_CONNECT_WITHIN = 10.0
_ANSWER_WITHIN = 60.0
_SYNTAXES = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]

Committed = Callable[[str, Sequence[str], Sequence[str]], None]
"""Is told a transaction's UID, and the instances that are kept for good and those that are not."""


class Unreachable(Exception):  # noqa: N818 - a state of the network that callers back off from
    """No association, or it broke: the message says why, in words of our own."""


def silence_libraries() -> None:
    """Keep pynetdicom and pydicom from writing: their messages quote what objects say about patients."""
    for name in ("pynetdicom", "pydicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    _config.LOG_HANDLER_LEVEL = "none"


class Association:
    """An association with one destination, a context manager that releases it.

    Attributes:
        accepted: The SOP Classes that the destination takes.
        commits: Whether it offers storage commitment.
    """

    def __init__(self, destination: Destination, classes: Iterable[str], on_commitment: Committed) -> None:
        """Associate.

        Raises:
            Unreachable: It cannot be had.
        """
        entity = AE(ae_title=destination.calling_ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.connection_timeout = entity.acse_timeout = _CONNECT_WITHIN
        entity.dimse_timeout = entity.network_timeout = _ANSWER_WITHIN
        for sop_class in classes:
            entity.add_requested_context(sop_class, _SYNTAXES)
        if destination.storage_commitment:
            entity.add_requested_context(StorageCommitmentPushModel)
        try:
            association = associate(
                entity,
                destination.host,
                destination.port,
                ae_title=destination.called_ae_title,
                tls_args=(_tls(destination), destination.host) if destination.tls else None,
                evt_handlers=[(evt.EVT_N_EVENT_REPORT, commitment_handler(on_commitment))],
            )
        except (OSError, ssl.SSLError, ValueError, RuntimeError) as error:
            raise Unreachable(reasons.NO_CONNECTION) from error
        if not association.is_established and not association.rejected_contexts:
            raise Unreachable(reasons.REJECTED if association.is_rejected else reasons.NO_CONNECTION)
        self._association = association
        names = {str(context.abstract_syntax) for context in association.accepted_contexts}
        self.commits = str(StorageCommitmentPushModel) in names
        self.accepted = frozenset(names - {str(StorageCommitmentPushModel)})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._association.is_established:
            self._association.release()

    def store(self, data: bytes) -> int:
        """Send an object (PS3.10); the status of its C-STORE.

        Raises:
            Unreachable: No answer came: whether the object arrived is not known.
        """
        try:
            status = self._association.send_c_store(dcmread(BytesIO(data)))
        except (RuntimeError, ValueError, AttributeError) as error:
            raise Unreachable(reasons.ASSOCIATION_BROKE) from error
        if "Status" not in status:
            raise Unreachable(reasons.ASSOCIATION_BROKE)
        return int(status.Status)

    def ask_commitment(self, instances: Sequence[tuple[str, str]]) -> str:
        """Ask to keep instances (SOP Class, SOP Instance UID) for good; the transaction's UID.

        Raises:
            Unreachable: It did not take the request.
        """
        request = Dataset()
        request.TransactionUID = f"2.25.{uuid.uuid4().int}"
        request.ReferencedSOPSequence = []
        for sop_class, uid in instances:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
            request.ReferencedSOPSequence.append(item)
        try:
            status, _ = self._association.send_n_action(request, 1, StorageCommitmentPushModel, COMMITMENT_INSTANCE)
        except (RuntimeError, ValueError) as error:
            raise Unreachable(reasons.ASSOCIATION_BROKE) from error
        if "Status" not in status or status.Status != 0x0000:
            raise Unreachable(reasons.COMMITMENT_REFUSED)
        return str(request.TransactionUID)

    def await_report(self, heard: Callable[[], bool], seconds: float) -> None:
        """Stay until the commitment has been heard of, at most so long: some answer on the same association."""
        deadline = time.monotonic() + seconds
        while self._association.is_established and not heard() and time.monotonic() < deadline:
            time.sleep(0.02)


def commitment_handler(on_commitment: Committed) -> Callable[[Any], tuple[int, None]]:
    """Takes N-EVENT-REPORTs of the Storage Commitment Push Model."""

    def handle(event: Any) -> tuple[int, None]:
        try:
            report = event.event_information
            kept = [str(item.ReferencedSOPInstanceUID) for item in report.get("ReferencedSOPSequence") or ()]
            failed = [str(item.ReferencedSOPInstanceUID) for item in report.get("FailedSOPSequence") or ()]
            on_commitment(str(report.TransactionUID), kept, failed)
        except Exception:  # a network handler never raises: DESIGN rule 2
            return 0x0110, None
        return 0x0000, None

    return handle


def listen_for_commitment(host: str, port: int, on_commitment: Committed) -> Any:
    """A listener for those PACS that call back. Raises `OSError`: the address cannot be had.

    It answers under whatever title it is called by: each PACS calls the one under which it was asked. What it says of a
    transaction that nobody has asked for is passed over.
    """
    entity = AE()
    entity.require_called_aet = False
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    return entity.start_server(
        (host, port), block=False, evt_handlers=[(evt.EVT_N_EVENT_REPORT, commitment_handler(on_commitment))]
    )


def _tls(destination: Destination) -> ssl.SSLContext:
    return client_context(destination.ca_file, destination.certificate_file, destination.key_file)
