"""The tables of the DICOM conformance statement, out of the code that they speak of.

`python -m tests.intake.conformance` writes them into `edge/intake/CONFORMANCE.md`; `test_conformance.py` fails when
that was forgotten. Each stands between `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Callable, Iterable, Iterator
from datetime import date

import msgspec
from pydicom import Dataset
from pydicom.uid import UID
from pynetdicom import AllStoragePresentationContexts

from edge.config import Dicom
from edge.config_reporting import Destination
from edge.file_meta import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from edge.intake import dimse, statuses, upper_layer
from edge.intake.admission import APPLICATION_CONTEXT
from edge.intake.dicom_listener import RETIRED_STORAGE, storage_classes
from edge.intake.tls import CIPHERS_1_2
from edge.reporting.decide import Answer, classes_of, judge
from edge.reporting.source import read_source
from edge.reporting.workitem import PRIORITIES, apart, retrievable, workitem
from edge.reporting.worklist import day_query, order_query
from tests.conftest import ROOT
from tests.reporting import samples

FILE = ROOT / "edge" / "intake" / "CONFORMANCE.md"

_STATUSES = {
    "SUCCESS": "Bytes and journal row are on the disk; also when the same object was stored before",
    "PROCESSING_FAILURE": "The disk, the journal or the software failed: send it again later",
    "OUT_OF_RESOURCES": "The disk is full, the object is larger than `max_object_bytes`, or no memory is left for it",
    "DATA_SET_DOES_NOT_MATCH": "SOP Class or Instance UID of the data set and of the request differ",
    "CANNOT_UNDERSTAND": "The data set is empty, cannot be read, or has no SOP Class or Instance UID",
}
_ANSWERS = {
    Answer.STORED: "Delivered",
    Answer.CHANGED: "Delivered, and told loudly (SC557): it is stored changed",
    Answer.BUSY: "Sent again later, others first; after a second one the destination is left alone for a while",
    Answer.UNSUPPORTED: "A Comprehensive 3D SR is sent as Comprehensive SR; anything else is parked",
    Answer.REFUSED: "Parked until a person has seen to it (SC553)",
}
_WORKITEM_VALUES = {
    "ScheduledProcedureStepPriority": ", ".join(f"`{value}` {status.value}" for status, value in PRIORITIES.items()),
    "ProcedureStepLabel": "the answer in a word",
    "CommentsOnTheScheduledProcedureStep": "the answer in sentences",
    "ScheduledProcedureStepStartDateTime": "when it was answered",
    "RetrieveAETitle": "`called_ae_title`",
}
_SETTINGS_WITHOUT_A_LIMIT = ("ae_title", "host", "port")


def with_tables(text: str) -> str:
    """The statement with every table as the code has it. Raises `KeyError` for a table that there is none of."""
    return re.sub(
        r"(<!-- (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}{TABLES[found[2]]()}{found[3]}",
        text,
        flags=re.DOTALL,
    )


def _table(*columns: str, rows: Iterable[tuple[object, ...]]) -> str:
    lines = [columns, ("---",) * len(columns), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def _storage() -> str:
    known = {
        str(context.abstract_syntax): UID(str(context.abstract_syntax)).name
        for context in AllStoragePresentationContexts
    }
    rows = (
        (known.get(uid) or f"{UID(uid).name.removesuffix(' (Retired)')} (retired)", f"`{uid}`")
        for uid in sorted(storage_classes(), key=lambda uid: [int(part) for part in uid.split(".")])
    )
    return _table("SOP Class", "UID", rows=rows)


def _syntaxes() -> str:
    rows = ((number, UID(uid).name, f"`{uid}`") for number, uid in enumerate(DECODED_SYNTAXES, start=1))
    return _table("Preference", "Transfer syntax", "UID", rows=rows)


def _services() -> str:
    rows = [
        ("Verification", "Verification", "no", "yes"),
        ("Storage, of results", f"{len(_sent_classes())} storage SOP classes", "yes", "as below"),
        (
            "Storage",
            f"{len(storage_classes())} storage SOP classes, {len(RETIRED_STORAGE)} of them retired",
            "no",
            "yes",
        ),
        ("Storage Commitment", "Storage Commitment Push Model", "yes", "no"),
        ("Unified Procedure Step", "Unified Procedure Step - Push, by UPS-RS", "create", "no"),
        ("Basic Worklist Management", "Modality Worklist Information Model - FIND", "yes", "no"),
    ]
    return _table("Service", "SOP Classes", "User (SCU)", "Provider (SCP)", rows=rows)


def _sent_classes() -> list[str]:
    everything = Destination(name="any", segmentation=True)
    return [str(sop_class) for sop_class in classes_of(everything)]


def _sent() -> str:
    return _table("SOP Class", "UID", rows=((UID(uid).name, f"`{uid}`") for uid in _sent_classes()))


def _worklist() -> str:
    queries = order_query("number"), day_query(date(2026, 11, 26))
    asked = [dict(_keys(query)) for query in queries]
    names = dict.fromkeys(name for keys in asked for name in keys)
    rows = ((name, *(keys.get(name, "") for keys in asked)) for name in names)
    return _table("Attribute", "Order of an image", "Urgent orders", rows=rows)


def _workitem() -> str:
    made = workitem(read_source(samples.radiograph()), samples.report())
    assert made
    _, sent = apart(retrievable(made, Destination(name="any")))
    (item,) = json.loads(sent)
    image = {str(element.value) for element in samples.read(samples.radiograph())}
    return _table("Attribute", "Value", rows=_given(Dataset.from_json(item), image))


def _given(item: Dataset, image: set[str], depth: str = "") -> Iterator[tuple[str, str]]:
    """Each attribute of a workitem that is never empty, and where its value comes from."""
    for element in item:
        name = f"{depth}{element.name} {element.tag}"
        if element.VR == "SQ":
            for each in element.value:
                yield name, "one item"
                yield from _given(each, image, f"{depth}>")
        elif element.value:
            of_image = "the image's" if str(element.value) in image else f"`{element.value}`"
            yield name, _WORKITEM_VALUES.get(element.keyword, of_image)


def _keys(query: Dataset) -> Iterator[tuple[str, str]]:
    """Each attribute of a query, and whether it is matched or asked for."""
    for element in query:
        items = element.value if element.VR == "SQ" else ()
        if not items:
            match = "range" if "-" in str(element.value) else "single value"
            yield f"{element.name} {element.tag}", match if element.value else "return"
        for item in items:
            yield from _keys(item)


def _answers() -> str:
    ranges: list[tuple[int, int, Answer]] = []
    for status in range(0x10000):
        answer = judge(status)
        if ranges and ranges[-1][2] is answer:
            ranges[-1] = (ranges[-1][0], status, answer)
        else:
            ranges.append((status, status, answer))
    said: dict[Answer, str] = {
        answer: ", ".join(
            f"`0x{first:04X}`" if first == last else f"`0x{first:04X}` to `0x{last:04X}`"
            for first, last, each in ranges
            if each is answer
        )
        for answer in Answer
        if answer is not Answer.REFUSED
    }
    rows = [(said.get(answer, "every other"), meaning) for answer, meaning in _ANSWERS.items()]
    return _table("C-STORE status", "What becomes of the object", rows=rows)


def _statuses() -> str:
    rows = sorted((f"`0x{getattr(statuses, name):04X}`", meaning) for name, meaning in _STATUSES.items())
    return _table("Status", "Meaning", rows=rows)


def _association() -> str:
    defaults = Dicom()
    rows = [
        ("Application context", f"`{APPLICATION_CONTEXT}`"),
        ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
        ("Implementation version name", IMPLEMENTATION_VERSION_NAME),
        ("Maximum PDU length offered", f"`max_pdu_bytes`, {defaults.max_pdu_bytes} bytes"),
        ("Longest A-ASSOCIATE-RQ", f"{upper_layer.MAX_ASSOCIATE_BYTES} bytes"),
        ("Longest command set", f"{dimse.MAX_COMMAND_BYTES} bytes"),
        ("Asynchronous operations", "not supported: one operation at a time"),
        ("Extended negotiation, role selection, user identity", "ignored"),
    ]
    return _table("Parameter", "Value", rows=rows)


def _settings() -> str:
    rows = []
    for field in msgspec.structs.fields(Dicom):
        default = msgspec.json.encode(field.default).decode()
        limits = next((meta for meta in getattr(field.type, "__metadata__", ()) if meta.ge is not None), None)
        bounds = f"{limits.ge} to {limits.le}" if limits and field.name not in _SETTINGS_WITHOUT_A_LIMIT else ""
        rows.append((f"`{field.name}`", f"`{default}`", bounds))
    return _table("`intake.dicom.`", "Default", "Range", rows=rows)


def _ciphers() -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(":".join(CIPHERS_1_2))
    names = {cipher["name"] for cipher in context.get_ciphers()}
    rows = [("1.2", f"`{name}`") for name in CIPHERS_1_2 if name in names]
    rows += [
        ("1.3", f"`{name}`")
        for name in ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
    ]
    return _table("TLS", "Cipher suite (OpenSSL's name)", rows=rows)


TABLES: dict[str, Callable[[], str]] = {
    "answers": _answers,
    "association": _association,
    "ciphers": _ciphers,
    "sent": _sent,
    "services": _services,
    "settings": _settings,
    "statuses": _statuses,
    "storage": _storage,
    "syntaxes": _syntaxes,
    "workitem": _workitem,
    "worklist": _worklist,
}

if __name__ == "__main__":
    FILE.write_text(with_tables(FILE.read_text(encoding="utf-8")), encoding="utf-8")
