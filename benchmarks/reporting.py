"""Claim: results reach a PACS within seconds, and a PACS that is down or slow costs a flag nothing (within 5 %).

`python -m benchmarks.reporting [sizes] [rate] [time] [flags]`. Sizes and making of the objects; objects a second into a
real Orthanc, beside DCMTK's `storescu` with objects of the same sizes; from committed result to the last object in the
PACS; and from acceptance to result, on a box without a PACS, with one that is away and with one that takes 2 s for each
object, in blocks that take turns. Of the box without a PACS there are two: how far these lie apart is what the machine
does by itself.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median, quantiles
from threading import Event
from typing import Any

import yaml

from benchmarks.box import running_service
from benchmarks.report import heading, percentile, ratio, spread
from edge import config_file
from edge.config import Config
from edge.config_reporting import Destination, Reporting
from edge.reporting.courier import Courier
from edge.reporting.maker import Maker
from edge.reporting.objects import ORDER, make
from edge.reporting.source import read_source
from edge.store import Store, ring
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from tests.reporting import samples
from tests.reporting.peers import answer, orthanc, pacs

RESULTS, ROUNDS = 40, 3
FLAG_ROUNDS = 8
_BLOCK, _PAUSE = 8, (0.05, 0.35)
_SLOW = 2.0
_ROWS, _COLUMNS = 2048, 1680
_PARTS = ["sizes", "rate", "time", "flags"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=_PARTS, help="all when none is named")
    parser.add_argument("--rounds", type=int, default=FLAG_ROUNDS, help="of the flags")
    options = parser.parse_args()
    parts = options.parts or _PARTS
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        if "sizes" in parts:
            heading("Objects of one result: size, and time to make and check them")
            _sizes()
        if "rate" in parts:
            heading(f"Objects a second into Orthanc, {RESULTS} results of three objects each, {ROUNDS} rounds in turn")
            _rate(Path(name))
        if "time" in parts:
            heading("From committed result to the last of its objects in the PACS (service running)")
            _time_to_pacs(Path(name))
        if "flags" in parts:
            heading(
                f"From acceptance to result, DX of {_ROWS} x {_COLUMNS}, {options.rounds} rounds, blocks of {_BLOCK}"
            )
            _flags(Path(name), options.rounds)


def _sizes() -> None:
    source = read_source(dx_file(radiograph(Kind.OPACITY, 1, _ROWS, _COLUMNS), seed=1))
    times: list[float] = []
    for number in range(20):
        begun = time.perf_counter()
        made = make(source, samples.report(result_id=f"{number:032x}-abababab"), samples.pictures(), ORDER)
        times.append((time.perf_counter() - begun) * 1000)
    for kind, data in made.objects.items():
        print(f"{kind:4} {len(data):9,} bytes")
    print(f"all of them made and checked in {spread(times)}")


def _rate(folder: Path) -> None:
    ours: list[float] = []
    theirs: list[float] = []
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin") or "Orthanc"
    for number in range(ROUNDS):
        place = folder / f"rate{number}"
        place.mkdir()
        with orthanc(program, place) as peer, closing(Store(place / "state")) as store:
            to = Destination(name="pacs", port=peer.dicom, objects_per_second=1000)
            _queue(store, to, f"1.2.826.0.1.3680043.9.{number}")
            one = Courier(store, to, lambda _to, _row: None)
            begun = time.perf_counter()
            while store.deliveries.standing():
                one.turn(Event())
            ours.append((time.perf_counter() - begun) * 1000)
            files = _files(place / "files", number)
            begun = time.perf_counter()
            command = ["storescu", "-R", "-aec", "PACS", "127.0.0.1", str(peer.dicom), *map(str, files)]
            subprocess.run([shutil.which(command[0], path="/usr/bin") or "storescu", *command[1:]], check=True)
            theirs.append((time.perf_counter() - begun) * 1000)
    count = 3 * RESULTS
    print(f"Scanside, journal row struck out after each  {count / median(ours) * 1000:6.1f} objects/s, {spread(ours)}")
    print(
        f"DCMTK storescu, one association, no queue    {count / median(theirs) * 1000:6.1f} objects/s, {spread(theirs)}"
    )
    print(f"Scanside is {ratio(theirs, ours)}")


def _queue(store: Store, to: Destination, root: str) -> None:
    for number in range(RESULTS):
        answer(store, samples.radiograph(SOPInstanceUID=f"{root}.{number}"))
    maker = Maker(store, Config(state_dir=store.state_dir, reporting=Reporting(destinations=(to,))))
    while maker.turn():
        pass


def _files(folder: Path, number: int) -> list[Path]:
    """Objects of other results, of the same kinds and sizes, as files."""
    folder.mkdir()
    files = []
    for image in range(RESULTS):
        source = read_source(samples.radiograph(SOPInstanceUID=f"1.2.826.0.1.3680043.10.{number}.{image}"))
        report = samples.report(result_id=f"{number:016x}{image:016x}-abababab")
        for kind, data in make(source, report, samples.pictures(), ("sc", "pr", "sr")).objects.items():
            files.append(folder / f"{image}.{kind}")
            files[-1].write_bytes(data)
    return files


def _time_to_pacs(folder: Path) -> None:
    place = folder / "time"
    place.mkdir()
    times: list[float] = []
    with pacs() as peer:
        file, settings = _write_config(place, [{"name": "pacs", "port": peer.port}])
        with closing(Store(settings.state_dir)) as store, running_service(file, settings, "reporting"):
            for number in range(20):
                wanted = len(peer.received) + 3
                begun = time.perf_counter()
                answer(store, samples.radiograph(SOPInstanceUID=f"1.2.826.0.1.3680043.11.{number}"))
                ring(store.state_dir, "reporting")  # as the inference service does
                while len(peer.received) < wanted:
                    time.sleep(0.002)
                times.append((time.perf_counter() - begun) * 1000)
    print(f"{spread(times)}, p95 {percentile(times, 95):.0f} ms; at most 10 objects a second, the default")


class _Box:
    """A box under one condition. Its reporting service stands still unless it is this box's turn."""

    def __init__(self, opened: ExitStack, place: Path, cache: Path, destinations: list[dict[str, Any]]) -> None:
        place.mkdir()
        file, self._settings = _write_config(place, destinations, cache)
        for service in ("intake", "inference"):
            opened.enter_context(running_service(file, self._settings, service))
        self._reporting = None
        if destinations:
            self._reporting = opened.enter_context(running_service(file, self._settings, "reporting"))
            opened.callback(self._signal, signal.SIGCONT)
            self._signal(signal.SIGSTOP)
        self._store = opened.enter_context(closing(Store(self._settings.state_dir)))
        self._file = place / "image.dcm"
        self._sent = 0

    def latencies(self, pictures: Sequence[Any], pauses: Sequence[float]) -> list[float]:
        """Milliseconds from acceptance to result of images that come by C-STORE, with these pauses after them.

        The first, for which the box must be woken, does not count.
        """
        self._signal(signal.SIGCONT)
        found = [self._latency(pictures[number % len(pictures)], pause) for number, pause in enumerate(pauses)]
        while self._reporting and self._store.owed("report", 1):
            time.sleep(0.1)
        self._signal(signal.SIGSTOP)
        return found[1:]

    def _latency(self, picture: Any, pause: float) -> float:
        self._sent += 1
        self._file.write_bytes(dx_file(picture, seed=self._sent))
        seen = self._store.last_seq()
        port = str(self._settings.intake.dicom.port)
        subprocess.run(["/usr/bin/storescu", "-xe", "127.0.0.1", port, str(self._file)], check=True)
        while not (changed := self._store.changed_since(seen)):
            time.sleep(0.002)
        time.sleep(pause)
        return changed[0].waited * 1000

    def _signal(self, number: signal.Signals) -> None:
        if self._reporting:
            self._reporting.send_signal(number)


def _flags(folder: Path, rounds: int) -> None:
    """Blocks of images under each condition in turn, so that what else the machine does meets all alike."""
    (folder / "cache").mkdir()
    pictures = [radiograph(Kind.OPACITY, number, _ROWS, _COLUMNS) for number in range(3)]
    dice = random.Random(1)
    with ExitStack() as opened:
        slow = opened.enter_context(pacs(before=lambda: time.sleep(_SLOW)))
        peers: dict[str, list[dict[str, Any]]] = {
            "no PACS": [],
            "PACS away": [{"name": "pacs", "port": 1}],
            "no PACS again": [],
            "PACS slow": [{"name": "pacs", "port": slow.port}],
        }
        boxes = {name: _Box(opened, folder / name, folder / "cache", to) for name, to in peers.items()}
        turns = list(boxes)
        found: dict[str, list[list[float]]] = {name: [] for name in turns}
        for box in boxes.values():
            box.latencies(pictures, [0.0] * 3)
        for number in range(rounds):
            pauses = [dice.uniform(*_PAUSE) for _ in range(_BLOCK + 1)]
            for name in turns[number % 4 :] + turns[: number % 4]:
                found[name].append(boxes[name].latencies(pictures, pauses))
    for name, blocks in found.items():
        every = [latency for block in blocks for latency in block]
        shares = [median(block) / median(alone) for block, alone in zip(blocks, found["no PACS"], strict=True)]
        low, _, high = quantiles(shares, n=4)
        beside = f"; beside no PACS, block by block {median(shares):.3f} ({low:.3f} to {high:.3f})"
        print(f"{name:14} {spread(every)}, p95 {percentile(every, 95):.0f} ms{'' if name == turns[0] else beside}")


def _write_config(folder: Path, destinations: list[dict[str, Any]], cache: Path | None = None) -> tuple[Path, Config]:
    state = folder / "state"
    state.mkdir(mode=0o700)
    if cache:
        (state / "cache").symlink_to(cache)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    document = {
        "state_dir": str(state),
        "intake": {"dicom": {"port": port}},
        "reporting": {"destinations": destinations},
    }
    file = folder / "scanside.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file, config_file.load(file)


if __name__ == "__main__":
    main()
