"""The service as a process of its own: killed at any moment, beside real PACS, over TLS and STOW-RS."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sized
from contextlib import closing, contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from pydicom import uid

from edge.device.health import State, read_health
from edge.file_meta import file_meta
from edge.identity import read_file_identity
from edge.records import Priority
from edge.store import Store
from tests.reporting import samples
from tests.reporting.peers import EVERYTHING, answer, orthanc, pacs, worklist
from tests.reporting.samples import order
from tests.running import RunningProgram, scanside
from tests.system.conftest import await_until, free_port

ROUNDS = int(os.environ.get("SCANSIDE_KILLS", "6"))
"""How often the service is killed; 50 of them were run, see edge/reporting/README.md."""

NAMES = {
    "Arabic": ("ISO_IR 127", "قباني^لنزار".encode("iso8859_6")),
    "Chinese": ("GB18030", "王^小东".encode("gb18030")),
    "Cyrillic": ("ISO_IR 144", "Люкceмбypг".encode("iso8859_5")),  # noqa: RUF001 - a name
    "Swahili": ("ISO_IR 192", b"Wanjiku^Ng'ang'a"),
}


@contextmanager
def running(folder: Path, **destination: Any) -> Iterator[RunningProgram]:
    """The service with one destination, `reporting` beside it taken from the same keywords."""
    reporting = {key: destination.pop(key) for key in ("commitment_port", "worklist") if key in destination}
    to = {"name": "pacs", "objects_per_second": 1000, **destination}
    file = folder / "scanside.yaml"
    settings: dict[str, Any] = {"state_dir": str(folder / "state")}
    settings["reporting"] = {"destinations": [to], **reporting}
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    with RunningProgram(scanside("run", "--config", str(file), "reporting")) as program:
        yield program


def settled(store: Store) -> bool:
    return not store.owed("report") and not store.deliveries.standing()


def test_it_sends_what_is_owed_and_stops_at_once(tmp_path: Path) -> None:
    with closing(Store(tmp_path / "state")) as store, pacs() as peer:
        with running(tmp_path, port=peer.port) as service:
            service.wait_for("SC550")
            answer(store, samples.radiograph())
            await_until(lambda: settled(store), "the delivery")
            assert service.stop(signal.SIGTERM) == 0
        assert [sop_class for sop_class, _ in peer.received] == [EVERYTHING[2], EVERYTHING[3], EVERYTHING[0]]
    assert "Test^A" not in service.log


def test_killed_at_any_moment_it_sends_nothing_under_two_uids_and_loses_nothing(tmp_path: Path) -> None:
    dice = random.Random(1)
    with closing(Store(tmp_path / "state")) as store, pacs() as peer:
        for number in range(ROUNDS):
            for image in range(2):
                name = f"1.2.826.0.1.3680043.8.3.{number}.{image}"
                answer(store, samples.radiograph(SOPInstanceUID=name))
            seen, wanted = len(peer.received), dice.randrange(1, 6)
            with running(tmp_path, port=peer.port) as service:
                await_until(partial(_has, peer.received, seen + wanted), "some objects")
                service.process.send_signal(signal.SIGKILL)
        with running(tmp_path, port=peer.port) as service:
            await_until(lambda: settled(store), "the delivery of everything")
            service.stop()
        of_images: dict[tuple[str, str], set[str]] = defaultdict(set)
        for name, contents in peer.objects.items():
            assert len(contents) == 1, "one UID, two contents"
            dataset = samples.read(_as_file(contents.pop()))
            of_images[str(dataset.SOPClassUID), _about(dataset)].add(name)
    assert len(of_images) == ROUNDS * 2 * 3
    assert all(len(names) == 1 for names in of_images.values())


def test_while_the_pacs_is_away_it_says_what_waits_and_why(tmp_path: Path) -> None:
    port = free_port()
    with closing(Store(tmp_path / "state")) as store:
        answer(store, samples.radiograph())
        with running(tmp_path, port=port) as service:
            said = await_until(lambda: _trouble(store), "the service's words")
            assert said == "results wait - 3 for pacs - no connection"
            service.wait_for("SC555")
            with pacs(port=port):
                await_until(lambda: settled(store), "the delivery")
                service.wait_for("SC556")
            service.stop()
        shown = subprocess.run(
            scanside("deliveries", "--config", str(tmp_path / "scanside.yaml")), capture_output=True, check=True
        )
        assert shown.stdout == b""


@pytest.mark.system
def test_a_stat_order_goes_first_once_the_worklist_has_been_asked(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    ordered = order(RequestedProcedurePriority="STAT", ScheduledProcedureStepStartDate=f"{date.today():%Y%m%d}")
    with (
        closing(Store(tmp_path / "state")) as store,
        worklist(tmp_path, program, ordered) as at,
        running(tmp_path, port=free_port(), worklist=msgspec.to_builtins(at)) as service,
    ):
        service.wait_for("SC567")
        identity = read_file_identity(samples.radiograph())[1]
        assert store.urgent_orders.priority(identity) is Priority.URGENT
        service.stop()


@pytest.mark.system
def test_the_round_through_orthanc(tmp_path: Path, program: Callable[[str], str]) -> None:
    """Sent, asked for, fetched and compared; the images' names come back as the very same bytes."""
    back = free_port()
    with (
        closing(Store(tmp_path / "state")) as store,
        orthanc(program("Orthanc"), tmp_path, back) as peer,
        running(tmp_path, port=peer.dicom, segmentation=True, storage_commitment=True, commitment_port=back) as service,
    ):
        studies = {script: f"1.2.826.0.1.3680043.8.4.{number}" for number, script in enumerate(NAMES)}
        for script, (character_set, name) in NAMES.items():
            answer(store, _named(studies[script], character_set, name))
        await_until(lambda: settled(store), "storage commitment of all")
        for script, (_, name) in NAMES.items():
            study = studies[script]
            found = peer.ask("/tools/find", {"Level": "Instance", "Query": {"StudyInstanceUID": study}})
            files = [peer.file(f"/instances/{one}/file") for one in found]
            assert {str(samples.read(each).SOPClassUID) for each in files} == {
                EVERYTHING[0],
                EVERYTHING[2],
                EVERYTHING[3],
                EVERYTHING[4],
            }
            for each in files:
                dataset = samples.read(each)
                assert dataset.get_item("PatientName").value.rstrip(b" ") == name, script
                assert (dataset.PatientID, dataset.StudyID) == ("1", "S1")
                assert samples.errors_of(program("dciodvfy"), each, tmp_path / "back.dcm") == []
        service.stop()


@pytest.mark.system
def test_the_same_by_stow_rs(tmp_path: Path, program: Callable[[str], str]) -> None:
    with (
        closing(Store(tmp_path / "state")) as store,
        orthanc(program("Orthanc"), tmp_path) as peer,
        running(tmp_path, stow_url=f"http://127.0.0.1:{peer.http}/dicom-web/studies") as service,
    ):
        answer(store, samples.radiograph())
        await_until(lambda: settled(store), "the delivery")
        assert set(peer.by_class()) == {EVERYTHING[0], EVERYTHING[2], EVERYTHING[3]}
        service.stop()


@pytest.mark.system
@pytest.mark.parametrize("tls", [False, True])
def test_storescp_of_dcmtk_takes_it(tls: bool, tmp_path: Path, program: Callable[[str], str]) -> None:
    got, port = tmp_path / "got", free_port()
    got.mkdir()
    options, secure = ["--output-directory", str(got)], {}
    if tls:
        key, own = certificate(tmp_path, program)
        options += ["+tls", str(key), str(own), "--ignore-peer-cert"]
        secure = {"tls": True, "ca_file": str(own), "host": "localhost"}
    with (
        closing(Store(tmp_path / "state")) as store,
        subprocess.Popen([program("storescp"), *options, str(port)]) as peer,
    ):
        try:
            answer(store, samples.radiograph())
            with running(tmp_path, port=port, structured_report="comprehensive", **secure) as service:
                await_until(lambda: settled(store), "the delivery")
                service.stop()
        finally:
            peer.terminate()
    kinds = sorted(str(samples.read(path.read_bytes()).SOPClassUID) for path in got.iterdir())
    assert kinds == sorted([EVERYTHING[1], EVERYTHING[2], EVERYTHING[3]])


def _has(received: Sized, count: int) -> bool:
    return len(received) >= count


def _trouble(store: Store) -> str:
    account = read_health(store.state_dir, time.time()).get("reporting")
    return account.reason if account and account.state is State.DEGRADED else ""


def _about(dataset: Any) -> str:
    """The image that an object is about."""
    for keyword in ("SourceImageSequence",):
        if keyword in dataset:
            return str(dataset[keyword][0].ReferencedSOPInstanceUID)
    if "ReferencedSeriesSequence" in dataset:
        return str(dataset.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID)
    evidence = dataset.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    return str(evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID)


def _as_file(data: bytes) -> bytes:
    return file_meta("1.2", "1.2", uid.ExplicitVRLittleEndian) + data


def _named(study: str, character_set: str, name: bytes) -> bytes:
    data = samples.radiograph(StudyInstanceUID=study, SOPInstanceUID=f"{study}.1", SpecificCharacterSet=character_set)
    padded = name + b" " * (len(name) % 2)
    old = b"\x10\x00\x10\x00PN\x06\x00Test^A"
    assert data.count(old) == 1
    return data.replace(old, b"\x10\x00\x10\x00PN" + len(padded).to_bytes(2, "little") + padded)


def certificate(folder: Path, program: Callable[[str], str]) -> tuple[Path, Path]:
    """A key, and the certificate of localhost that it vouches for itself."""
    key, own = folder / "key.pem", folder / "certificate.pem"
    command = f"{program('openssl')} req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(own)]
    subprocess.run([*command.split(), *more], capture_output=True, check=True)
    return key, own
