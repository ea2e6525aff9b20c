"""DCMTK and Orthanc as senders, with and without TLS: the listener as a clinic's own programs meet it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread

from edge.config import Dicom, DicomTls
from edge.intake.dicom_listener import DicomListener
from edge.intake.reception import Reception
from edge.store import Store
from tests.intake import wire
from tests.intake.certificates import Authority, Credentials
from tests.intake.conftest import IntakeProcess, Sender
from tests.intake.objects import dx, report, save
from tests.intake.orthanc import running_orthanc
from tests.running import RunningProgram, scanside
from tests.system.conftest import await_until


class Tls:
    """An authority, the box's certificate, and the options with which DCMTK trusts it."""

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.box = self.authority.issue("box")
        self.anonymous = ("+tla", "+cf", str(self.authority.file))

    def config(self, *, client_certificates: bool = False) -> DicomTls:
        """The listener's section `tls`."""
        authorities = self.authority.file if client_certificates else None
        return DicomTls(
            port=0, certificate_file=self.box.certificate, key_file=self.box.key, client_ca_file=authorities
        )

    def as_client(self, credentials: Credentials) -> tuple[str, ...]:
        """DCMTK's options to show a certificate."""
        return ("+tls", str(credentials.key), str(credentials.certificate), "+cf", str(self.authority.file))


@pytest.fixture
def tls(tmp_path: Path) -> Tls:
    """Certificates of the test's own."""
    return Tls(tmp_path)


@pytest.fixture
def both(store: Store, tls: Tls) -> Iterator[DicomListener]:
    """A listener with and without TLS at the same time."""
    running = DicomListener(Dicom(port=0, tls=tls.config()), Reception(store))
    yield running
    running.stop(0.0)


def _stored(store: Store) -> list[str]:
    uids = []
    while instance := store.claim():
        uids.append(str(dcmread(BytesIO(store.read(instance.id))).SOPInstanceUID))
    return uids


def test_dcmsend_sends_a_folder_of_unlike_objects(
    listener: DicomListener, store: Store, program: Callable[[str], str], tmp_path: Path
) -> None:
    objects = [dx(seed=1), dx(seed=2), report()]
    files = [save(dataset, tmp_path / f"{number}.dcm") for number, dataset in enumerate(objects)]
    command = [program("dcmsend"), "-aec", "SCANSIDE", "127.0.0.1", str(listener.port), *map(str, files)]
    assert subprocess.run(command, check=False).returncode == 0
    assert sorted(_stored(store)) == sorted(dataset.SOPInstanceUID for dataset in objects)


def test_orthanc_sends(listener: DicomListener, store: Store, program: Callable[[str], str], tmp_path: Path) -> None:
    radiograph = dx(size=500)
    file = save(radiograph, tmp_path / "dx.dcm")
    with running_orthanc(program("Orthanc"), tmp_path, listener.port) as orthanc:
        assert orthanc.echo() == "sent"
        assert orthanc.store(orthanc.upload(file)) == "sent"
    assert _stored(store) == [radiograph.SOPInstanceUID]


def test_orthanc_is_told_that_it_may_not_send(store: Store, program: Callable[[str], str], tmp_path: Path) -> None:
    listener = DicomListener(Dicom(port=0, calling_ae_titles=("DX1",)), Reception(store))
    with running_orthanc(program("Orthanc"), tmp_path, listener.port) as orthanc:
        refusal = orthanc.store(orthanc.upload(save(dx(), tmp_path / "dx.dcm")))
    assert "Association Rejected" in refusal
    assert store.queue().depth == 0
    listener.stop(0.0)


@pytest.mark.parametrize("client_certificates", [False, True])
def test_orthanc_sends_over_tls(
    store: Store, tls: Tls, program: Callable[[str], str], tmp_path: Path, client_certificates: bool
) -> None:
    config = Dicom(port=0, plain=False, tls=tls.config(client_certificates=client_certificates))
    listener = DicomListener(config, Reception(store))
    radiograph = dx(size=500)
    file = save(radiograph, tmp_path / "dx.dcm")
    ours = tls.authority.issue("orthanc")
    with running_orthanc(program("Orthanc"), tmp_path, listener.tls_port, ours, tls.authority.file) as orthanc:
        assert orthanc.echo() == "sent"
        assert orthanc.store(orthanc.upload(file)) == "sent"
    assert _stored(store) == [radiograph.SOPInstanceUID]
    listener.stop(0.0)


def test_dcmtk_sends_with_and_without_tls_at_the_same_time(
    both: DicomListener, store: Store, tls: Tls, sender: Sender, tmp_path: Path
) -> None:
    objects = [dx(size=500, seed=seed) for seed in range(2)]
    encrypted, plain = (save(dataset, tmp_path / f"{dataset.SOPInstanceUID}.dcm") for dataset in objects)
    assert sender.echo(both.tls_port, *tls.anonymous).returncode == 0
    assert sender.store(both.tls_port, *tls.anonymous, encrypted).returncode == 0
    assert sender.store(both.port, plain).returncode == 0
    assert _stored(store) == [dataset.SOPInstanceUID for dataset in objects]


@pytest.mark.parametrize("profile", ["+py", "+px"])
def test_dcmtk_s_profiles_of_bcp_195_find_a_cipher(both: DicomListener, tls: Tls, sender: Sender, profile: str) -> None:
    assert sender.echo(both.tls_port, *tls.anonymous, profile).returncode == 0


def test_what_bcp_195_forbids_is_refused(
    both: DicomListener, tls: Tls, program: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    """OpenSSL with its own limits off offers TLS 1.1, and then key exchange without forward secrecy."""
    caplog.set_level("INFO", "scanside")
    for options in (["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], ["-tls1_2", "-cipher", "AES256-GCM-SHA384"]):
        command = [program("openssl"), "s_client", "-connect", f"127.0.0.1:{both.tls_port}", *options]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        assert re.search(r"alert (protocol version|handshake failure)", done.stderr), done.stderr
    await_until(lambda: "SC213 no TLS with 127.0.0.1: unsupported protocol" in caplog.text, "the event")
    await_until(lambda: "SC213 no TLS with 127.0.0.1: no shared cipher" in caplog.text, "the event")


def test_only_who_shows_a_certificate_of_the_authority_may_send(
    store: Store, tls: Tls, sender: Sender, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "scanside")
    listener = DicomListener(Dicom(port=0, plain=False, tls=tls.config(client_certificates=True)), Reception(store))
    foreign = Authority(tmp_path, "foreign").issue("intruder")
    assert sender.echo(listener.tls_port, *tls.as_client(tls.authority.issue("modality"))).returncode == 0
    assert sender.echo(listener.tls_port, *tls.as_client(foreign)).returncode != 0
    await_until(lambda: "no TLS with 127.0.0.1: unable to get local issuer certificate" in caplog.text, "the event")
    assert sender.echo(listener.tls_port, *tls.anonymous).returncode != 0
    await_until(lambda: "SC213 no TLS with 127.0.0.1: peer did not return a certificate" in caplog.text, "the event")
    listener.stop(0.0)


def test_a_handshake_that_stalls_keeps_nobody_waiting(store: Store, tls: Tls, sender: Sender) -> None:
    listener = DicomListener(Dicom(port=0, tls=tls.config(), association_timeout_seconds=3), Reception(store))
    with wire.Peer(listener.tls_port) as stalled:
        stalled.send(b"\x16\x03\x01")
        assert sender.echo(listener.tls_port, *tls.anonymous).returncode == 0
        assert stalled.read_all() == []
    listener.stop(0.0)


def test_who_speaks_without_tls_to_the_tls_port_is_refused(both: DicomListener, sender: Sender) -> None:
    assert sender.echo(both.tls_port).returncode != 0


def test_the_service_opens_both_ports(tmp_path: Path, tls: Tls, sender: Sender) -> None:
    section = {"port": 0, "certificate_file": str(tls.box.certificate), "key_file": str(tls.box.key)}
    with IntakeProcess(tmp_path, tls=section) as intake:
        tls_port = int(intake.wait_for("SC211").rsplit(":", 1)[1])
        assert sender.store(tls_port, *tls.anonymous, save(dx(), tmp_path / "dx.dcm")).returncode == 0
        assert sender.echo(intake.port).returncode == 0
        assert intake.queue_depth() == 1
        assert intake.stop() == 0
    assert "Traceback" not in intake.log


UNUSABLE = {
    "no certificate": ("certificate_file", None, "No such file"),
    "a certificate that is none": ("certificate_file", b"none", "that belong together"),
    "a key that is none": ("key_file", b"none", "that belong together"),
    "an authority that is none": ("client_ca_file", b"none", "no certificate in PEM"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_a_certificate_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, tls: Tls, case: str) -> None:
    key, content, words = UNUSABLE[case]
    file = tmp_path / "wrong.pem"
    if content is not None:
        file.write_bytes(content)
    section = {"certificate_file": tls.box.certificate, "key_file": tls.box.key, key: file}
    lines = "".join(f"      {name}: {path}\n" for name, path in section.items())
    settings = tmp_path / "scanside.yaml"
    settings.write_text(f"state_dir: {tmp_path / 'state'}\nintake:\n  dicom:\n    port: 0\n    tls:\n{lines}")
    with RunningProgram(scanside("run", "--config", str(settings), "intake")) as intake:
        assert words in intake.wait_for("SC212")
        assert intake.wait_for_end() == 1
    assert "Traceback" not in intake.log
