"""The intake service as its own process, and the listener within ours where its store is looked into."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from edge.config import Dicom
from edge.intake.dicom_listener import DicomListener
from edge.intake.reception import Reception
from edge.store import Store
from tests.running import RunningProgram, scanside

_STATUS = re.compile(r"DIMSE Status\s*:\s*(.+)")


class IntakeProcess(RunningProgram):
    """`scanside run intake` on a free port, listening."""

    def __init__(
        self,
        folder: Path,
        *,
        watch_folder: Path | None = None,
        prefix: Sequence[str] = (),
        storage: Mapping[str, object] | None = None,
        **dicom: object,
    ) -> None:
        """`prefix` stands before the command; `dicom` are further options of the listener."""
        self.state_dir = folder / "state"
        settings: Mapping[str, object] = {
            "state_dir": str(self.state_dir),
            "intake": {"dicom": {"port": 0, **dicom}, "watch_folder": str(watch_folder) if watch_folder else None},
            "storage": dict(storage or {}),
        }
        file = folder / "scanside.yaml"
        file.write_text(yaml.safe_dump(settings), encoding="utf-8")
        super().__init__([*prefix, *scanside("run", "--config", str(file), "intake")])
        self.port = int(self.wait_for("SC200").rsplit(":", 1)[1])

    def queue_depth(self) -> int:
        """How many objects it has accepted, as a second process sees it."""
        store = Store(self.state_dir)
        try:
            return store.queue().depth
        finally:
            store.close()


class Sender:
    """DCMTK's `storescu` and `echoscu`."""

    def __init__(self, program: Callable[[str], str]) -> None:
        self._program = program

    def command(self, name: str, port: int, *arguments: str | Path) -> list[str]:
        """The command line of one of DCMTK's programs, calling SCANSIDE."""
        options = [argument for argument in arguments if isinstance(argument, str)]
        files = [str(argument) for argument in arguments if isinstance(argument, Path)]
        return [
            self._program(name),
            "-v",
            "-aet",
            "MODALITY",
            "-aec",
            "SCANSIDE",
            *options,
            "127.0.0.1",
            str(port),
            *files,
        ]

    def echo(self, port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        """C-ECHO."""
        return _finished(self.command("echoscu", port, *arguments))

    def store(self, port: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """C-STORE of the files given as paths, all in one association; strings are options."""
        return _finished(self.command("storescu", port, *arguments))

    def send(self, port: int, file: Path) -> str:
        """C-STORE of one file as it is, under its file meta information's UIDs: the status in `dcmsend`'s words."""
        report = file.with_suffix(".report")
        report.unlink(missing_ok=True)
        # -dn: send the pixels as they are stored; -nuc: DCMTK's own check of UIDs is not what is tested
        subprocess.run(
            [self._program("dcmsend"), "-dn", "-nuc", "+crf", report, "-aec", "SCANSIDE", "127.0.0.1", str(port), file],
            stderr=subprocess.DEVNULL,
            check=False,
        )
        statuses = _STATUS.findall(report.read_text(encoding="latin-1")) if report.exists() else []
        return str(statuses[0]) if statuses else "not sent by DCMTK"


@pytest.fixture
def sender(program: Callable[[str], str]) -> Sender:
    """DCMTK as the modality."""
    return Sender(program)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A store of its own."""
    opened = Store(tmp_path / "state")
    yield opened
    opened.close()


@pytest.fixture
def listener(store: Store) -> Iterator[DicomListener]:
    """A listener on a free port that puts into `store`."""
    running = DicomListener(Dicom(port=0), Reception(store))
    yield running
    running.stop(0.0)


def _finished(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
