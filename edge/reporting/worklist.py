"""The order behind an image: asked for at the clinic's worklist (Modality Worklist SCU, PS3.4 annex K), and compared.

The comparison is pure. Where the worklist names another patient, nothing is written into a record: whoever typed an
accession number wrongly at the modality would have a result filed under somebody else.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from typing import NamedTuple

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import ModalityWorklistInformationFind

from edge import events
from edge.config_reporting import Worklist
from edge.device.backoff import backoff
from edge.device.client_tls import client_context
from edge.events import emit
from edge.reporting.source import text_of

LONGEST_DELAY = 300.0
_CONNECT_WITHIN, _ANSWER_WITHIN = 5.0, 10.0
_PENDING = (0xFF00, 0xFF01)
_RADIOGRAPHS = frozenset({"CR", "DX"})
"""A plate and a detector are ordered alike."""


class Difference(NamedTuple):
    """In what order and image differ, in words of our own without a value, and whether that is another patient."""

    words: str
    another_patient: bool = False


class Orders:
    """Asks the worklist; one that does not answer is left alone for a while, and nothing waits for it."""

    def __init__(self, config: Worklist, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, steadily."""
        self._config = config
        self._clock = clock
        self._failures = 0
        self._not_before = float("-inf")

    def differences(self, image: Dataset) -> list[Difference]:
        """In what an image differs from the nearest order of its accession number at the worklist.

        Nothing is known, and so nothing said, without an accession number, an order or an answer.
        """
        accession = text_of(image, "AccessionNumber")
        if not accession or "*" in accession or "?" in accession or self._clock() < self._not_before:
            return []
        try:
            orders = self._find(accession)
        except (OSError, ssl.SSLError, RuntimeError, ValueError) as error:
            self._failures += 1
            self._not_before = self._clock() + backoff(self._failures, LONGEST_DELAY)
            if self._failures == 1:
                emit(events.WORKLIST_DOWN, error=str(error) if isinstance(error, ConnectionError) else "no connection")
            return []
        self._failures = 0
        found = [compare(order, image) for order in orders]
        return min(found, key=lambda each: (any(one.another_patient for one in each), len(each)), default=[])

    def _find(self, accession: str) -> list[Dataset]:
        config = self._config
        entity = AE(ae_title=config.calling_ae_title)
        entity.connection_timeout = entity.acse_timeout = _CONNECT_WITHIN
        entity.dimse_timeout = entity.network_timeout = _ANSWER_WITHIN
        entity.add_requested_context(ModalityWorklistInformationFind)
        association = entity.associate(
            config.host,
            config.port,
            ae_title=config.called_ae_title,
            tls_args=(client_context(config.ca_file, None, None), config.host) if config.tls else None,
        )
        if not association.is_established:
            raise ConnectionError("it rejects this box" if association.is_rejected else "no connection")
        try:
            found = []
            for status, order in association.send_c_find(_query(accession), ModalityWorklistInformationFind):
                if "Status" not in status:
                    raise ConnectionError("the association broke")
                if status.Status in _PENDING and order is not None:
                    found.append(order)
                elif status.Status not in (0x0000, *_PENDING):
                    raise ConnectionError("it refuses the query")
            return found
        finally:
            association.release()


def compare(order: Dataset, image: Dataset) -> list[Difference]:
    """In what an order and an image differ; what one of them does not say is no difference."""
    steps = order.get("ScheduledProcedureStepSequence") or [Dataset()]

    def differ(keyword: str) -> bool:
        ordered, stated = text_of(order, keyword), text_of(image, keyword)
        return bool(ordered and stated and ordered != stated)

    def names(dataset: Dataset) -> str:
        """The first form of the name; nothing where nobody says in which characters it is written."""
        name = "".join(str(dataset.get("PatientName") or "").partition("=")[0].casefold().replace("^", " ").split())
        return name if name.isascii() or dataset.get("SpecificCharacterSet") else ""

    modality, ordered = text_of(image, "Modality"), text_of(steps[0], "Modality")
    modalities = {modality, ordered} - {""}
    return [
        difference
        for differs, difference in (
            (differ("PatientID"), Difference("patient id", another_patient=True)),
            (differ("PatientBirthDate"), Difference("birth date", another_patient=True)),
            (differ("PatientSex"), Difference("sex")),
            (bool(names(order) and names(image) and names(order) != names(image)), Difference("name")),
            (len(modalities) > 1 and not modalities <= _RADIOGRAPHS, Difference("modality")),
            (differ("StudyInstanceUID"), Difference("study")),
        )
        if differs
    ]


def _query(accession: str) -> Dataset:
    query, step = Dataset(), Dataset()
    query.AccessionNumber = accession
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID"):
        setattr(query, keyword, "")
    query.RequestedProcedureID, query.RequestedProcedurePriority, query.RequestedProcedureDescription = "", "", ""
    step.Modality, step.ScheduledProcedureStepDescription, step.ScheduledStationAETitle = "", "", ""
    query.ScheduledProcedureStepSequence = [step]
    return query
