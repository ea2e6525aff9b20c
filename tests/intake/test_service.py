"""The intake as the process that it is: killed senders, a full disk, real files of many vendors, an orderly stop."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import pytest
from pydicom.uid import ExplicitVRLittleEndian

from edge.device.health import State, read_health
from edge.intake.statuses import DATA_SET_DOES_NOT_MATCH, SUCCESS
from edge.store import Store
from tests.intake.conftest import IntakeProcess, Sender
from tests.intake.objects import DX_FOR_PRESENTATION, PATIENT_NAME, dx, save
from tests.intake.peer import association_with, c_store, encoded
from tests.running import RunningProgram, scanside, with_tmpfs
from tests.system.conftest import await_until

_EVENT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d intake [A-Z]+ SC\d{3} .+\n")


class Wire:
    """A TCP relay between a sender and the listener that lets a number of bytes through and then holds the rest."""

    def __init__(self, port: int, lets_through: int) -> None:
        self.held = Event()
        self.released = Event()
        self._lets_through = lets_through
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self._listener = socket.create_connection(("127.0.0.1", port))
        Thread(target=self._relay, daemon=True).start()

    def cut(self) -> None:
        """Break the connection to the listener."""
        self._listener.shutdown(socket.SHUT_RDWR)

    def _relay(self) -> None:
        sender, _ = self._server.accept()
        Thread(target=_pump, args=(self._listener, sender), daemon=True).start()
        through = 0
        while data := _received(sender):
            through += len(data)
            if through > self._lets_through and not self.held.is_set():
                self.held.set()
                self.released.wait()
            with suppress(OSError):
                self._listener.sendall(data)


def test_a_sender_killed_in_mid_transfer_leaves_nothing(tmp_path: Path, sender: Sender) -> None:
    file = save(dx(size=1000), tmp_path / "dx.dcm")
    with IntakeProcess(tmp_path) as intake:
        wire = Wire(intake.port, lets_through=1_000_000)
        with subprocess.Popen(sender.command("storescu", wire.port, file), stdout=subprocess.DEVNULL) as modality:
            wire.held.wait()
            incoming = intake.state_dir / "spool" / "incoming"
            await_until(lambda: list(incoming.iterdir()), "the object's beginning")
            modality.kill()
        wire.cut()
        await_until(lambda: not list(incoming.iterdir()), "the removal of what came")
        assert intake.queue_depth() == 0
        assert sender.store(intake.port, file).returncode == 0
        assert intake.queue_depth() == 1
        assert len(list((intake.state_dir / "spool").rglob("*"))) == 2, "incoming/ and one file"


def test_sigkill_in_mid_transfer_accepts_nothing_and_starts_again(tmp_path: Path, sender: Sender) -> None:
    file = save(dx(size=1000), tmp_path / "dx.dcm")
    with IntakeProcess(tmp_path) as intake:
        wire = Wire(intake.port, lets_through=1_000_000)
        with subprocess.Popen(sender.command("storescu", wire.port, file), stdout=subprocess.DEVNULL) as modality:
            wire.held.wait()
            intake.process.kill()
            wire.released.set()
            assert modality.wait() != 0, "the sender knows"
    with IntakeProcess(tmp_path) as again:
        assert again.queue_depth() == 0
        assert sender.store(again.port, file).returncode == 0


def test_what_a_killed_writer_left_is_swept(tmp_path: Path) -> None:
    incoming = Store(tmp_path / "state").state_dir / "spool" / "incoming"
    (incoming / "half").write_bytes(b"half")
    (incoming.parent / "never-journalled").write_bytes(b"whole")
    with IntakeProcess(tmp_path) as intake:
        assert "1 half-written" in intake.wait_for("SC300")
        assert "1 spool files are not what was written" in intake.wait_for("SC324")
        assert list(incoming.parent.rglob("*")) == [incoming]


def test_sigterm_lets_a_running_c_store_finish(tmp_path: Path, sender: Sender) -> None:
    file = save(dx(size=1000), tmp_path / "dx.dcm")
    with IntakeProcess(tmp_path) as intake:
        wire = Wire(intake.port, lets_through=1_990_000)  # the rest is little: the service waits for two seconds
        command = sender.command("storescu", wire.port, file)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as modality:
            wire.held.wait()
            await_until(lambda: _associations(intake) == 1, "the association in the health file")
            intake.process.terminate()
            await_until(lambda: _refuses_connections(intake.port), "the listener's closing")
            wire.released.set()
            assert "Received Store Response (Success)" in modality.communicate()[0], "in time for its release or not"
        assert intake.wait_for_end() == 0
        assert intake.queue_depth() == 1
        health = read_health(intake.state_dir, time.time())["intake"]
        assert (health.state, health.reason) == (State.DOWN, "stopped")


def test_sigterm_does_not_wait_for_a_sender_that_stands_still(tmp_path: Path, sender: Sender) -> None:
    file = save(dx(size=1000), tmp_path / "dx.dcm")
    with IntakeProcess(tmp_path) as intake:
        wire = Wire(intake.port, lets_through=1_000_000)
        with subprocess.Popen(sender.command("storescu", wire.port, file), stdout=subprocess.DEVNULL) as modality:
            wire.held.wait()
            assert intake.stop() == 0
            wire.released.set()
            assert modality.wait() != 0
        assert intake.queue_depth() == 0


def test_a_full_disk_is_answered_as_out_of_resources(tmp_path: Path, sender: Sender) -> None:
    """A real ENOSPC: the state folder is a small tmpfs in a mount namespace of the service's own."""
    state = tmp_path / "state"
    state.mkdir()
    small, large = save(dx(size=64), tmp_path / "small.dcm"), save(dx(size=1700), tmp_path / "large.dcm")
    with IntakeProcess(tmp_path, prefix=with_tmpfs(state, megabytes=8)) as intake:
        assert sender.store(intake.port, small).returncode == 0
        assert sender.store(intake.port, large).returncode == 0
        second = save(dx(size=1700, seed=2), tmp_path / "second.dcm")
        for _ in range(2):
            refused = sender.store(intake.port, "-d", second)
            assert "0xa700" in refused.stdout
            assert "the disk is full" in refused.stdout
        intake.wait_for("SC203", count=2)
        assert sender.store(intake.port, save(dx(size=65), tmp_path / "other.dcm")).returncode == 0
        assert sender.store(intake.port, large).returncode == 0, "stored already"
        inside = Path(f"/proc/{intake.process.pid}/root{state}")
        assert len(list((inside / "spool").iterdir())) == 4, "incoming/ and three files"
        assert list((inside / "spool" / "incoming").iterdir()) == []
        assert intake.stop() == 0
    assert "Traceback" not in intake.log


def test_into_the_reserve_no_image_is_taken_by_any_door(tmp_path: Path, sender: Sender) -> None:
    """On a disk with less free than must stay free. What is in the watch folder stays there."""
    watched, state = tmp_path / "watched", tmp_path / "state"
    watched.mkdir()
    state.mkdir()
    file = save(dx(size=64), tmp_path / "dx.dcm")
    limits = {"warn_below_percent": 90, "spare_below_percent": 90, "refuse_below_percent": 90, "refuse_below_mb": 5120}
    with IntakeProcess(tmp_path, prefix=with_tmpfs(state, megabytes=8), watch_folder=watched, storage=limits) as intake:
        inside = Path(f"/proc/{intake.process.pid}/root{state}")
        (inside / "filler").write_bytes(bytes(1 << 20))
        intake.wait_for("SC310")
        shutil.copy(file, watched / "dx.dcm")
        assert "0xa700" in sender.store(intake.port, "-d", file).stdout
        intake.wait_for("SC206")
        await_until(lambda: read_health(inside, time.time())["intake"].state is State.DEGRADED, "health says so")
        health = read_health(inside, time.time())["intake"]
        assert health.details["disk"] == "full"
        assert "no image is taken" in health.reason
        assert [path.name for path in (inside / "spool").iterdir()] == ["incoming"]
        assert (watched / "dx.dcm").exists()
        assert intake.stop() == 0


def test_a_disk_without_a_byte_left_does_not_end_the_service(tmp_path: Path, sender: Sender) -> None:
    state = tmp_path / "state"
    state.mkdir()
    file = save(dx(size=64), tmp_path / "dx.dcm")
    with IntakeProcess(tmp_path, prefix=with_tmpfs(state, megabytes=4)) as intake:
        inside = Path(f"/proc/{intake.process.pid}/root{state}")
        with pytest.raises(OSError, match="No space"), (inside / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert "0xa700" in sender.store(intake.port, "-d", file).stdout
        intake.wait_for("SC700")
        assert sender.echo(intake.port).returncode == 0
        (inside / "filler").unlink()
        assert sender.store(intake.port, file).returncode == 0
        await_until(lambda: read_health(inside, time.time())["intake"].state is State.UP, "recovery in the health file")
        assert intake.stop() == 0
    assert "Traceback" not in intake.log


def test_real_files_are_answered_and_none_ends_the_service(tmp_path: Path, shared: Path, sender: Sender) -> None:
    """134 files of many vendors, odd and broken ones among them, each sent by DCMTK as it is."""
    with IntakeProcess(tmp_path) as intake:
        statuses = []
        for file in sorted((shared / "data" / "dicom" / "files").iterdir()):
            copy = tmp_path / "file.dcm"
            shutil.copy(file, copy)
            statuses.append(sender.send(intake.port, copy))
        assert intake.process.poll() is None
        assert intake.stop() == 0  # with its last line read
        accepted = len(intake.found("SC201")) + len(intake.found("SC202"))
        assert accepted == sum("0x0000" in status for status in statuses)
        assert accepted >= 100, "DCMTK itself refuses to send about 20 of them"
        known = (
            "0x0000 (Success)",
            "0xa900",
            "<no acceptable presentation context>",
            "<not sent>",
            "not sent by DCMTK",
        )
        assert not [status for status in statuses if not status.startswith(known)]
    assert not [line for line in intake.lines if not _EVENT_LINE.fullmatch(line)], "only events are logged"


def test_nothing_of_a_patient_is_logged(tmp_path: Path, sender: Sender) -> None:
    odd = dx(seed=1)
    odd.add_new(0x00101010, "UN", b"not an age")
    watched = tmp_path / "Doe^Watched"
    watched.mkdir()
    save(dx(seed=2), watched / "Doe^Watched.dcm")
    (watched / "Doe^Stuck.dcm").write_bytes(b"x" * 10)
    with IntakeProcess(tmp_path, watch_folder=watched) as intake:
        with association_with(intake.port, [DX_FOR_PRESENTATION], [ExplicitVRLittleEndian]) as association:
            assert c_store(association, dx(), encoded(dx(seed=3))).Status == DATA_SET_DOES_NOT_MATCH
            assert c_store(association, dx(), encoded(dx(seed=3))[:200]).Status != SUCCESS
        assert sender.send(intake.port, save(odd, tmp_path / "odd.dcm")).startswith("0x0000")
        intake.wait_for("SC203")
        await_until(lambda: not list(watched.iterdir()), "an empty watch folder")
        assert intake.stop() == 0
    assert PATIENT_NAME.split("^", maxsplit=1)[0] not in intake.log
    assert "4711" not in intake.log


def test_one_intake_for_each_state_folder(tmp_path: Path) -> None:
    with IntakeProcess(tmp_path) as intake:
        half = intake.state_dir / "spool" / "incoming" / "half"
        half.write_bytes(b"being written by the first")
        with RunningProgram(scanside("run", "--config", str(tmp_path / "scanside.yaml"), "intake")) as second:
            assert second.wait_for_end() == 1
        assert re.fullmatch(r"scanside: .+: intake runs here already: .+\n", second.log)
        assert half.exists(), "the second one has swept nothing away"


def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = tmp_path / "scanside.yaml"
        settings.write_text(f"state_dir: {tmp_path / 'state'}\nintake: {{dicom: {{port: {port}}}}}\n", encoding="utf-8")
        with RunningProgram(scanside("run", "--config", str(settings), "intake")) as intake:
            assert f"127.0.0.1:{port}" in intake.wait_for("SC209")
            assert intake.wait_for_end() == 1
    assert read_health(tmp_path / "state", time.time())["intake"].state is State.DOWN


def test_the_intake_never_loads_what_only_analysis_needs() -> None:
    heavy = ("cv2", "imagecodecs", "onnxruntime", "openvino", "flask", "paho")
    code = f"import edge.intake.service, sys; print([name for name in {heavy!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_intake_runs_without_numpy(tmp_path: Path, sender: Sender) -> None:
    with IntakeProcess(tmp_path) as intake:
        assert sender.store(intake.port, save(dx(), tmp_path / "dx.dcm")).returncode == 0
        assert "numpy" not in Path(f"/proc/{intake.process.pid}/maps").read_text(encoding="utf-8")


def _associations(intake: IntakeProcess) -> object:
    return read_health(intake.state_dir, time.time())["intake"].details.get("associations")


def _pump(source: socket.socket, sink: socket.socket) -> None:
    while data := _received(source):
        sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


def _received(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except OSError:
        return b""


def _refuses_connections(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0
