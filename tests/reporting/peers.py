"""PACS for the tests: one made on pynetdicom that does as it is told, and a real Orthanc."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import hl7
import hl7.mllp
import msgspec
from pydicom import Dataset
from pydicom.uid import (
    UID,
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, build_role, evt
from pynetdicom.sop_class import ModalityWorklistInformationFind, StorageCommitmentPushModel, Verification

from edge.config_reporting import Worklist
from edge.device.dicom_client import associate
from edge.records import Arrival, Reason, Status, StoredResult, Subject
from edge.reporting.objects import encode
from edge.store import Store
from tests.reporting import samples
from tests.running import ROOT
from tests.system.conftest import accepts, await_until, free_port

EVERYTHING = (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    SecondaryCaptureImageStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    SegmentationStorage,
)


@dataclass
class Pacs:
    """A storage SCP; what it got is in `received`, in order, as (SOP Class, SOP Instance UID).

    Attributes:
        answers: Statuses that it gives, in turn, before it says success.
        requests: Those for storage commitment.
        asked_by: The AE title of who made the last one.
    """

    port: int
    received: list[tuple[str, str]] = field(default_factory=list)
    objects: dict[str, set[bytes]] = field(default_factory=dict)
    answers: list[int] = field(default_factory=list)
    requests: list[Dataset] = field(default_factory=list)
    asked_by: str = ""

    def store(self, event: Any) -> int:
        """Answer a C-STORE."""
        status = self.answers.pop(0) if self.answers else 0x0000
        if status < 0xA000 or (status >= 0xB000 and status < 0xC000):
            request = event.request
            data = event.encoded_dataset(include_meta=False)
            self.objects.setdefault(str(request.AffectedSOPInstanceUID), set()).add(data)
            self.received.append((str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID)))
        return status

    def action(self, event: Any) -> tuple[int, None]:
        """Take a request for storage commitment."""
        self.requests.append(event.action_information)
        self.asked_by = event.assoc.requestor.ae_title
        return 0x0000, None

    def report_to(self, port: int, *, failed: bool = False) -> None:
        """Call who has asked last, by its title, with the answer: everything is kept, or nothing is."""
        request, entity = self.requests[-1], AE(ae_title="PACS")
        entity.add_requested_context(StorageCommitmentPushModel)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = associate(entity, "127.0.0.1", port, ae_title=self.asked_by, ext_neg=[role])
        assert association.is_established
        report = Dataset()
        report.TransactionUID = request.TransactionUID
        setattr(report, "FailedSOPSequence" if failed else "ReferencedSOPSequence", request.ReferencedSOPSequence)
        status, _ = association.send_n_event_report(
            report, 2 if failed else 1, StorageCommitmentPushModel, "1.2.840.10008.1.20.1.1"
        )
        assert status.Status == 0x0000
        association.release()


@contextmanager
def pacs(
    classes: Sequence[str] = EVERYTHING,
    *,
    port: int | None = None,
    commits: bool = False,
    before: Callable[[], None] = lambda: None,
) -> Iterator[Pacs]:
    """A PACS that takes these SOP Classes; `before` is called before it answers."""
    entity = AE(ae_title="PACS")
    for sop_class in classes:
        entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    entity.add_supported_context(Verification)
    if commits:
        entity.add_supported_context(StorageCommitmentPushModel)
    peer = Pacs(port or free_port())

    def store(event: Any) -> int:
        before()
        return peer.store(event)

    server = entity.start_server(
        ("127.0.0.1", peer.port),
        block=False,
        evt_handlers=[(evt.EVT_C_STORE, store), (evt.EVT_N_ACTION, peer.action)],
    )
    try:
        yield peer
    finally:
        server.shutdown()


def answer(store: Store, data: bytes, reason: Reason | None = None, status: Status = Status.FLAGGED) -> StoredResult:
    """Take an image and commit its result, owed to PACS."""
    dataset = samples.read(data)
    accepted = store.accept(
        data,
        Arrival(
            source="dicom",
            peer="MODALITY",
            sop_instance_uid=str(dataset.SOPInstanceUID),
            sop_class_uid=str(dataset.SOPClassUID),
        ),
    )
    claimed = store.claim()
    assert claimed is not None and claimed.id == accepted.instance.id
    of = Subject(modality="DX", patient_id="1", study_instance_uid=str(dataset.StudyInstanceUID))
    explanation = msgspec.json.encode(samples.EXPLANATION).decode()
    result = msgspec.structs.replace(samples.result(status), reason=reason)
    stored = store.commit(claimed, result, of, explanation=explanation, report=True)
    drawn = samples.pictures()
    for name, picture in (("preview.jpg", drawn.preview), ("overlay.png", drawn.overlay)):
        assert picture
        store.write_picture(claimed.id, name, picture)
    store.settle([item.number for item in store.owed("preview", instance_id=claimed.id)])
    return stored


class Orthanc:
    """A real PACS, by its REST API."""

    def __init__(self, http: int, dicom: int) -> None:
        self.http = http
        self.dicom = dicom

    def ask(self, path: str, body: Any = None) -> Any:
        """What it says; JSON where it is."""
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"http://127.0.0.1:{self.http}{path}", data)) as said:
            return json.loads(said.read())

    def file(self, path: str) -> bytes:
        """A file of it."""
        with urlopen(f"http://127.0.0.1:{self.http}{path}") as said:
            return bytes(said.read())

    def by_class(self) -> dict[str, bytes]:
        """What it has, as files by SOP Class."""
        files = [self.file(f"/instances/{one}/file") for one in self.ask("/instances")]
        return {str(samples.read(data).SOPClassUID): data for data in files}

    def is_up(self) -> bool:
        """Whether it answers."""
        try:
            return bool(self.ask("/system"))
        except OSError:
            return False


@contextmanager
def orthanc(program: str, folder: Path, commitment_port: int = 0) -> Iterator[Orthanc]:
    """Orthanc with DICOMweb; it calls `commitment_port` back with its storage commitments."""
    peer = Orthanc(free_port(), free_port())
    settings = {
        "StorageDirectory": str(folder / "orthanc"),
        "HttpPort": peer.http,
        "DicomPort": peer.dicom,
        "DicomAet": "PACS",
        "DicomCheckCalledAet": False,
        "DicomModalities": {"box": {"AET": "SCANSIDE", "Host": "127.0.0.1", "Port": commitment_port or 1}},
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "AuthenticationEnabled": False,
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings), encoding="utf-8")
    with (
        (folder / "orthanc.log").open("wb") as log,
        subprocess.Popen([program, str(file)], stdout=log, stderr=log, cwd=ROOT) as process,
    ):
        try:
            await_until(peer.is_up, "Orthanc's REST API")
            yield peer
        finally:
            process.terminate()


@contextmanager
def worklist(folder: Path, program: Callable[[str], str], order: Dataset, *options: str) -> Iterator[Worklist]:
    """DCMTK's worklist with one order; as it is configured."""
    database, port = folder / "worklist-files" / "ORDERS", free_port()
    database.mkdir(parents=True)
    (database / "lockfile").touch()
    order.SOPClassUID, order.SOPInstanceUID = ModalityWorklistInformationFind, "1.2.3"
    (database / "order.wl").write_bytes(encode(order))
    command = [program("wlmscpfs"), "--data-files-path", str(database.parent), *options, str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            await_until(lambda: accepts(port), "the worklist")
            yield Worklist(port=port, called_ae_title="ORDERS")
        finally:
            process.terminate()


@dataclass
class Ris:
    """A system that takes HL7 v2; each message that it got is in `received`, as it came.

    Attributes:
        answers: Acknowledgement codes, and error codes, that it gives in turn before it says AA; None hangs up.
    """

    port: int = 0
    received: list[str] = field(default_factory=list)
    answers: list[tuple[str, str] | None] = field(default_factory=list)

    async def serve(self, reader: Any, writer: Any) -> None:
        """Answer one connection's messages."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = await reader.readmessage()
                self.received.append(str(message))
                answer = self.answers.pop(0) if self.answers else ("AA", "")
                if answer is None:
                    break
                acknowledgement = message.create_ack(ack_code=answer[0])
                if answer[1]:
                    acknowledgement.append(hl7.parse(f"MSH|^~\\&|\rERR|||{answer[1]}|E\r").segment("ERR"))
                writer.writemessage(acknowledgement)
                await writer.drain()
        writer.close()


@contextmanager
def ris(tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Ris]:
    """The MLLP server of python-hl7, which shares no code with what sends."""
    peer, loop = Ris(), asyncio.new_event_loop()

    async def start() -> Any:
        return await hl7.mllp.start_hl7_server(peer.serve, "127.0.0.1", port, encoding="utf-8", ssl=tls)

    server = loop.run_until_complete(start())
    peer.port = server.sockets[0].getsockname()[1]
    thread = in_background(loop.run_forever)
    try:
        yield peer
    finally:
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


UPS_TYPE_1 = ("00404005", "00404041", "00741000", "00741200", "00741204")
UPS_TYPE_2 = (
    "00081080", "00081084", "00081195", "00100010", "00100020", "00100021", "00100024", "00100030", "00100040",
    "00101002", "00380010", "00380014", "00400400", "00404018", "00404021", "00404025", "00404026", "00404027",
    "0040A370", "00741002", "00741202", "00741210", "00741216",
)  # fmt: skip
"""What a creator of workitems must give, in the letters of PS3.4 table CC.2.5-3, column N-CREATE (SCU)."""


@dataclass
class WorklistManager:
    """Keeps workitems as PS3.18 11.4 has it: 201, 409 for a UID that is there, 400 for what breaks PS3.4 CC.2.5.

    Attributes:
        created: Workitems by their UID.
        answers: Status codes that it gives in turn instead; None: it creates, and hangs up without a word.
        said: What it has answered.
    """

    port: int = 0
    created: dict[str, Any] = field(default_factory=dict)
    answers: list[int | None] = field(default_factory=list)
    said: list[int | None] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Of its workitems."""
        return f"http://127.0.0.1:{self.port}/dicom-web/workitems"

    def create(self, path: str, kind: str, body: bytes) -> tuple[int | None, str]:
        """The status, and the UID; None hangs up."""
        given = self.answers.pop(0) if self.answers else 0
        if given:
            return given, ""
        url = urlsplit(path)
        (uid,) = parse_qs(url.query).get("workitem", [""])
        if url.path != "/dicom-web/workitems" or kind != "application/dicom+json":
            return 404 if kind == "application/dicom+json" else 415, uid
        if uid in self.created:
            return 409, uid
        (item,) = json.loads(body)
        empty = [tag for tag in UPS_TYPE_1 if not item.get(tag, {}).get("Value")]
        absent = [tag for tag in UPS_TYPE_2 if tag not in item]
        scheduled = item.get("00741000", {}).get("Value") == ["SCHEDULED"] and not item["00081195"].get("Value")
        if (
            empty
            or absent
            or not scheduled
            or {"00000002", "00001000", "00080018"} & set(item)
            or not UID(uid).is_valid
        ):
            return 400, uid
        self.created[uid] = item
        return (None if given is None else 201), uid


@contextmanager
def worklist_manager(port: int = 0) -> Iterator[WorklistManager]:
    """One behind HTTP."""
    manager = WorklistManager()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, uid = manager.create(self.path, self.headers["Content-Type"], body)
            manager.said.append(status)
            if status is None:
                self.close_connection = True
                return
            self.send_response(status)
            if status == 201:
                self.send_header("Content-Location", f"{manager.url}/{uid}")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    manager.port = server.server_address[1]
    thread = in_background(server.serve_forever)
    try:
        yield manager
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def in_background(work: Callable[[], None]) -> Thread:
    """Run it in a thread."""
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread
