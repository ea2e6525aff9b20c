"""Claim: after an outage with 500 images waiting, a fresh image waits for the one in work and for no other.

`python -m benchmarks.backlog`. The real intake and inference services on one box. Images that came while inference was
down wait; then inference starts, and fresh ones come one by one, by C-STORE, at random moments. The same number came
before on an empty queue. Times are the journal's: from acceptance to committed result. The engine is not interrupted:
beside a backlog the end of the image in work, and of its pictures, is in them.
"""

from __future__ import annotations

import random
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.box import running_service
from benchmarks.report import heading, percentile, ratio, spread
from edge import config_file
from edge.config import Config
from edge.records import Arrival, StoredResult
from edge.store import Store
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

BACKLOG = 500
FRESH = 40
ROUNDS = 3
_ROWS, _COLUMNS = 640, 512
_PAUSE = (0.05, 0.35)


def main() -> None:
    """Measure and print."""
    heading(f"Fresh images beside {BACKLOG} that wait since an outage, {_ROWS} x {_COLUMNS} DX, {ROUNDS} rounds")
    images = [radiograph(Kind.OPACITY, number, _ROWS, _COLUMNS) for number in range(8)]
    alone: list[float] = []
    beside: list[float] = []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        for number in range(ROUNDS):
            folder = Path(name) / str(number)
            folder.mkdir()
            file = _write_config(folder, Path(name) / "cache")
            settings = config_file.load(file)
            store = Store(settings.state_dir)
            with running_service(file, settings, "intake"):
                with running_service(file, settings, "inference"):
                    alone += _fresh(store, settings, images, seed=10_000)
                _send_all(store, images)
                with running_service(file, settings, "inference"):
                    beside += _fresh(store, settings, images, seed=20_000)
                    left = store.queue().depth
            store.close()
            print(f"round {number + 1}: {left} of the backlog still wait after the last fresh one", flush=True)
    print(f"empty queue        {spread(alone)}, p95 {percentile(alone, 95):.0f} ms, longest {max(alone):.0f} ms")
    print(f"beside the backlog {spread(beside)}, p95 {percentile(beside, 95):.0f} ms, longest {max(beside):.0f} ms")
    print(f"an empty queue is {ratio(beside, alone)}")


def _send_all(store: Store, images: list[NDArray[np.float32]]) -> None:
    """The outage's images, put into the store as the intake does: what they wait for is not measured."""
    for number in range(BACKLOG):
        data = dx_file(images[number % len(images)], seed=number)
        store.accept(data, Arrival(source="folder", peer="backlog"))


def _fresh(store: Store, settings: Config, images: list[NDArray[np.float32]], seed: int) -> list[float]:
    """Milliseconds from acceptance to result of fresh images, sent by C-STORE at random moments."""
    randomness = random.Random(seed)
    path = settings.state_dir.parent / "image.dcm"
    latencies: list[float] = []
    for number in range(FRESH):
        path.write_bytes(dx_file(images[number % len(images)], seed=seed + number))
        seen = store.last_seq()
        port = str(settings.intake.dicom.port)
        sender = ["/usr/bin/storescu", "-aec", "SCANSIDE", "-xe", "127.0.0.1", port, str(path)]
        subprocess.run(sender, check=True, capture_output=True)
        result = _answer(store, seen)
        latencies.append((result.committed_at - result.received_at) * 1000)
        time.sleep(randomness.uniform(*_PAUSE))
    return latencies


def _answer(store: Store, seen: int) -> StoredResult:
    """The result of the image that came over DICOM after a change."""
    while True:
        for result in store.changed_since(seen):
            seen = result.seq
            if result.result.source == "dicom":
                return result
        time.sleep(0.002)


def _write_config(folder: Path, cache: Path) -> Path:
    state = folder / "state"
    state.mkdir(mode=0o700)
    cache.mkdir(exist_ok=True)
    (state / "cache").symlink_to(cache)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    file = folder / "scanside.yaml"
    document = {"state_dir": str(state), "intake": {"dicom": {"port": port}}}
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


if __name__ == "__main__":
    main()
