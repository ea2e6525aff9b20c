"""Claim: 20 images in one association, durably stored, as fast as DCMTK's storescp and 1.5x as fast as Orthanc.

`python -m benchmarks.receiving`. DCMTK's `storescu` sends the same 20 uncompressed 2048 x 2500 x 16 bit images, each
time under new UIDs, to each receiver in turn. Ours answers after fsync of object and journal; `storescp` writes without
fsync, once with its own PDU length and once with the largest that it has; Orthanc is as it comes.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import yaml
from pydicom import dcmread
from pydicom.uid import generate_uid

from benchmarks.box import free_port
from benchmarks.report import heading, ratio, spread
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

IMAGES = 20
ROUNDS = 9
_SYSTEM = "/usr/bin:/usr/sbin"


class _Receiver(NamedTuple):
    name: str
    port: int
    pid: int


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, ExitStack() as running:
        folder = Path(name)
        images = _images(folder / "images")
        receivers = [running.enter_context(start(folder)) for start in _RECEIVERS]
        heading(f"Receiving {IMAGES} uncompressed 2048 x 2500 x 16 bit DX in one association, {ROUNDS} rounds")
        milliseconds: dict[str, list[float]] = {receiver.name: [] for receiver in receivers}
        for number in range(ROUNDS + 1):
            _renew(images)
            first = number % len(receivers)
            for receiver in receivers[first:] + receivers[:first]:
                elapsed = _send(images, receiver.port)
                if number:  # the first round warms all up
                    milliseconds[receiver.name].append(elapsed)
        ours = milliseconds["Scanside"]
        for who, values in milliseconds.items():
            compared = "" if values is ours else f"; Scanside is {ratio(values, ours)}"
            print(f"{who:25} {spread(values)}{compared}")
        print(f"peak memory of the intake: {_peak(receivers[0].pid):.0f} MB")


def _images(folder: Path) -> list[Path]:
    folder.mkdir()
    paths = [folder / f"{number:02}.dcm" for number in range(IMAGES)]
    for number, path in enumerate(paths):
        pixels = radiograph(Kind.OPACITY, number, 2048, 2500)
        path.write_bytes(dx_file(pixels, seed=number, transfer_syntax="1.2.840.10008.1.2.1"))
    return paths


def _renew(images: list[Path]) -> None:
    """New UIDs, so that no receiver may skip what it has; read once, so that no sender waits for the disk."""
    for path in images:
        dataset = dcmread(path)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.save_as(path)
        path.read_bytes()


def _send(images: list[Path], port: int) -> float:
    command = [_program("storescu"), "-xe", "-aec", "SCANSIDE", "127.0.0.1", str(port), *map(str, images)]
    start = time.perf_counter()
    subprocess.run(command, check=True)
    return (time.perf_counter() - start) * 1000


@contextmanager
def _scanside(folder: Path) -> Iterator[_Receiver]:
    port = free_port()
    file = folder / "scanside.yaml"
    document = {"state_dir": str(folder / "state"), "intake": {"dicom": {"port": port}}}
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    with _running([sys.executable, "-m", "edge.cli", "run", "--config", str(file), "intake"], port) as pid:
        yield _Receiver("Scanside", port, pid)


@contextmanager
def _storescp(folder: Path, *options: str) -> Iterator[_Receiver]:
    port = free_port()
    inside = folder / f"storescp{''.join(options)}"
    inside.mkdir()
    with _running([_program("storescp"), "-od", str(inside), *options, str(port)], port) as pid:
        yield _Receiver(" ".join(("storescp", *options)), port, pid)


@contextmanager
def _orthanc(folder: Path) -> Iterator[_Receiver]:
    port = free_port()
    file = folder / "orthanc.json"
    settings = {
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "DicomPort": port,
        "HttpServerEnabled": False,
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
    }
    file.write_text(json.dumps(settings), encoding="utf-8")
    with _running([_program("Orthanc"), str(file)], port) as pid:
        yield _Receiver("Orthanc", port, pid)


_RECEIVERS = (_scanside, _storescp, lambda folder: _storescp(folder, "--max-pdu", "131072"), _orthanc)


@contextmanager
def _running(command: list[str], port: int) -> Iterator[int]:
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                if process.poll() is not None:
                    raise SystemExit(f"{command[0]} did not start")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()


def _peak(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[1]) / 1024  # type: ignore[index]


def _program(name: str) -> str:
    """A system program: pynetdicom has namesakes of DCMTK's in the virtual environment."""
    path = shutil.which(name, path=_SYSTEM)
    if path is None:
        raise SystemExit(f"{name} is missing: run tests/install_system_packages")
    return path


if __name__ == "__main__":
    main()
