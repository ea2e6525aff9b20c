"""A DICOM peer made by hand on pynetdicom's own machinery: it sends what a well-behaved sender would not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

from pydicom import Dataset
from pynetdicom import AE
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.dsutils import encode
from pynetdicom.pdu_primitives import P_DATA

from edge.device.dicom_client import associate


@contextmanager
def association_with(port: int, classes: list[Any], syntaxes: list[str]) -> Iterator[Any]:
    entity = AE(ae_title="MODALITY")
    entity.maximum_pdu_size = 0
    for abstract_syntax in classes:
        entity.add_requested_context(abstract_syntax, syntaxes)
    association = associate(entity, "127.0.0.1", port, ae_title="SCANSIDE", max_pdu=0)
    assert association.is_established
    try:
        yield association
    finally:
        association.release()


def c_store(association: Any, dataset: Dataset, data: bytes | None, priority: int = 0) -> Any:
    """C-STORE with any bytes as the data set of `dataset`'s UIDs: what pynetdicom's own sender would not send."""
    context = association.accepted_contexts[0]
    request = C_STORE()
    request.MessageID = 1
    request.AffectedSOPClassUID = dataset.SOPClassUID
    request.AffectedSOPInstanceUID = dataset.SOPInstanceUID
    request.Priority = priority
    request.DataSet = None if data is None else BytesIO(data)
    association._reactor_checkpoint.clear()  # the sender's own reactor rests from here on
    association.dimse.send_msg(request, context.context_id)
    if data == b"":  # pynetdicom announces a data set then and sends none: here is its last fragment (PS3.8 annex E.2)
        fragment = P_DATA()
        fragment.presentation_data_value_list = [[context.context_id, b"\x02"]]
        association.dul.send_pdu(fragment)
    _, answer = association.dimse.get_msg(block=True)
    association._reactor_checkpoint.set()
    return answer


def encoded(dataset: Dataset) -> bytes:
    data = encode(dataset, is_implicit_vr=False, is_little_endian=True)
    return bytes(data or b"")
