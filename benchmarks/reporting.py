"""Claim: results reach a PACS within seconds, and a PACS that is down or slow costs a flag nothing (within 5 %).

`python -m benchmarks.reporting`. Sizes and making of the objects; objects a second into a real Orthanc, beside DCMTK's
`storescu` with objects of the same sizes; from committed result to the last object in the PACS; and from acceptance to
result, box without a PACS, with one that is away and with one that takes 2 s for each object, in turn.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from statistics import median
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
IMAGES = 15
_SLOW = 2.0
_ROWS, _COLUMNS = 2048, 1680


def main() -> None:
    """Measure and print."""
    heading("Objects of one result: size, and time to make and check them")
    _sizes()
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        heading(f"Objects a second into Orthanc, {RESULTS} results of three objects each, {ROUNDS} rounds in turn")
        _rate(Path(name))
        heading("From committed result to the last of its objects in the PACS (service running)")
        _time_to_pacs(Path(name))
        heading(f"From acceptance to result, {IMAGES} DX of {_ROWS} x {_COLUMNS}, {ROUNDS} rounds in turn")
        _flags(Path(name))


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
            while store.deliveries.waiting("pacs", 1):
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


def _flags(folder: Path) -> None:
    cache = folder / "cache"
    cache.mkdir()
    pictures = [radiograph(Kind.OPACITY, number, _ROWS, _COLUMNS) for number in range(3)]
    found: dict[str, list[float]] = {"no PACS": [], "PACS away": [], "PACS slow": []}
    for number in range(ROUNDS):
        for name in found:
            place = folder / f"{name}{number}"
            place.mkdir()
            with ExitStack() as opened:
                destinations = []
                if name == "PACS away":
                    destinations = [{"name": "pacs", "port": 1}]
                elif name == "PACS slow":
                    peer = opened.enter_context(pacs(before=lambda: time.sleep(_SLOW)))
                    destinations = [{"name": "pacs", "port": peer.port}]
                file, settings = _write_config(place, destinations, cache)
                services = ["intake", "inference", *(["reporting"] if destinations else [])]
                for service in services:
                    opened.enter_context(running_service(file, settings, service))
                store = opened.enter_context(closing(Store(settings.state_dir)))
                found[name] += _latencies(store, settings, pictures, number)
    for name, latencies in found.items():
        print(f"{name:10} {spread(latencies)}, p95 {percentile(latencies, 95):.0f} ms")
    for name in ("PACS away", "PACS slow"):
        change = median(found[name]) / median(found["no PACS"]) - 1
        print(f"{name}: {change:+.1%} at the median")


def _latencies(store: Store, settings: Config, pictures: Sequence[Any], round_number: int) -> list[float]:
    """Milliseconds from acceptance to result of images that come by C-STORE, one each half second."""
    latencies = []
    path = settings.state_dir.parent / "image.dcm"
    for number in range(IMAGES):
        path.write_bytes(dx_file(pictures[number % len(pictures)], seed=1000 * round_number + number))
        seen = store.last_seq()
        port = str(settings.intake.dicom.port)
        subprocess.run(["/usr/bin/storescu", "-xe", "127.0.0.1", port, str(path)], check=True, capture_output=True)
        while not (changed := store.changed_since(seen)):
            time.sleep(0.002)
        latencies.append(changed[0].waited * 1000)
        time.sleep(0.5)
    return latencies


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
