"""The clinic's orders: asked for at its worklist (Modality Worklist SCU, PS3.4 annex K), by image and by day.

Nothing waits for it: one that does not answer is left alone for a while.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from datetime import date, timedelta

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind

from edge import events
from edge.config_reporting import Worklist
from edge.device.backoff import backoff
from edge.device.client_tls import client_context
from edge.device.dicom_client import associate
from edge.events import emit
from edge.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from edge.identity import URGENT_TERMS
from edge.records import ANOTHER_PATIENT, OrderDifference
from edge.reporting.comparison import compare
from edge.reporting.source import text_of

LONGEST_DELAY = 300.0
MOST_ORDERS = 20_000
"""Of one answer: a worklist that goes on for ever is cut off."""

_CONNECT_WITHIN, _ANSWER_WITHIN, _ALL_WITHIN = 5.0, 10.0, 60.0
_PENDING = (0xFF00, 0xFF01)


class Orders:
    """Asks the worklist, each time in an association of its own. For one thread."""

    def __init__(self, config: Worklist, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, steadily."""
        self._config = config
        self._clock = clock
        self._failures = 0
        self._not_before = float("-inf")

    def differences(self, image: Dataset) -> tuple[OrderDifference, ...] | None:
        """In what an image differs from the nearest order of its accession number at the worklist.

        None, as nothing is known, without an accession number, an order or an answer.
        """
        accession = text_of(image, "AccessionNumber")
        if not accession or "*" in accession or "?" in accession:
            return None
        found = [compare(order, image) for order in self._ask(order_query(accession)) or ()]
        return min(found, key=lambda each: (not ANOTHER_PATIENT.isdisjoint(each), len(each)), default=None)

    def urgent(self, today: date) -> frozenset[str] | None:
        """Accession numbers and Study Instance UIDs of the urgent orders from yesterday to tomorrow.

        By Requested Procedure Priority (0040,1003), which no worklist must match by: all of these days are asked for.
        None when the worklist does not answer.
        """
        orders = self._ask(day_query(today))
        if orders is None:
            return None
        urgent = [order for order in orders if text_of(order, "RequestedProcedurePriority").upper() in URGENT_TERMS]
        keywords = ("AccessionNumber", "StudyInstanceUID")
        return frozenset(text_of(order, keyword) for order in urgent for keyword in keywords) - {""}

    def _ask(self, query: Dataset) -> list[Dataset] | None:
        """What matches; None when it does not answer, or has not lately."""
        if self._clock() < self._not_before:
            return None
        try:
            orders = self._find(query)
        except (OSError, ssl.SSLError, RuntimeError, ValueError) as error:
            self._failures += 1
            self._not_before = self._clock() + backoff(self._failures, LONGEST_DELAY)
            if self._failures == 1:
                emit(events.WORKLIST_DOWN, error=str(error) if isinstance(error, ConnectionError) else "no connection")
            return None
        self._failures = 0
        return orders

    def _find(self, query: Dataset) -> list[Dataset]:
        config = self._config
        entity = AE(ae_title=config.calling_ae_title)
        entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        entity.connection_timeout = entity.acse_timeout = _CONNECT_WITHIN
        entity.dimse_timeout = entity.network_timeout = _ANSWER_WITHIN
        entity.add_requested_context(ModalityWorklistInformationFind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        association = associate(
            entity,
            config.host,
            config.port,
            ae_title=config.called_ae_title,
            tls_args=(client_context(config.ca_file, None, None), config.host) if config.tls else None,
        )
        if not association.is_established:
            raise ConnectionError("it rejects this box" if association.is_rejected else "no connection")
        found: list[Dataset] = []
        deadline = time.monotonic() + _ALL_WITHIN
        try:
            for status, order in association.send_c_find(query, ModalityWorklistInformationFind):
                if "Status" not in status:
                    raise ConnectionError("the association broke")
                if status.Status in _PENDING and order is not None:
                    found.append(order)
                elif status.Status not in (0x0000, *_PENDING):
                    raise ConnectionError("it refuses the query")
                if len(found) > MOST_ORDERS or time.monotonic() > deadline:
                    association.abort()
                    raise ConnectionError("its answer has no end")
            return found
        finally:
            if association.is_established:
                association.release()


def order_query(accession: str) -> Dataset:
    """Asks for the orders of an accession number."""
    query, step = _query()
    query.AccessionNumber = accession
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "RequestedProcedureDescription"):
        setattr(query, keyword, "")
    query.RequestedProcedureID, query.RequestedProcedureCodeSequence = "", []
    step.ScheduledProcedureStepDescription, step.ScheduledStationAETitle = "", ""
    return query


def day_query(today: date) -> Dataset:
    """Asks for the orders from yesterday to tomorrow."""
    query, step = _query()
    first, last = (today + timedelta(days=days) for days in (-1, 1))
    step.ScheduledProcedureStepStartDate = f"{first:%Y%m%d}-{last:%Y%m%d}"
    query.AccessionNumber = ""
    return query


def _query() -> tuple[Dataset, Dataset]:
    """What every query asks for, and its scheduled procedure step."""
    query, step = Dataset(), Dataset()
    query.StudyInstanceUID, query.RequestedProcedurePriority, step.Modality = "", "", ""
    query.ScheduledProcedureStepSequence = [step]
    return query, step
