"""Claims: last C-STORE byte to committed result under 250 ms (p95); ready within 5 s; under 450 MB in all.

`python -m benchmarks.whole_way`. The same images go to the usual stack (benchmarks/usual_stack.py), once with
DenseNet-121 and once with our own network, in the same run, by turns. The time is taken from the start of DCMTK's
storescu, so its process, association and transfer are in it.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.box import free_port, running_appliance, send, write_config
from benchmarks.report import heading, percentile, ratio, spread
from benchmarks.usual_stack import NETWORKS
from edge import config_file
from edge.config import Config
from edge.demo.broker import embedded_broker
from edge.store import Store
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

IMAGES = 40
_KILO = 1024
_SYNTAXES = {
    "uncompressed": ("1.2.840.10008.1.2.1", "-xe"),
    "JPEG lossless": ("1.2.840.10008.1.2.4.70", "-xs"),
    "JPEG 2000 lossless": ("1.2.840.10008.1.2.4.90", "-xv"),
}
"""Transfer syntax, and how storescu is told to propose it."""
_PEER_READS = ("uncompressed", "JPEG 2000 lossless")
"""What pydicom decodes with the plugins that are installed beside it here (Pillow)."""


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name, embedded_broker(broker_port := free_port()):
        folder = Path(name)
        file = write_config(folder, broker_port)
        settings = config_file.load(file)
        with running_appliance(file, settings):
            pass  # fills the model caches and chooses the engine
        with running_appliance(file, settings) as (appliance, ready_seconds):
            with ExitStack() as stack:
                peers = {network: stack.enter_context(_usual_stack(network)) for network in NETWORKS}
                heading(f"The whole way, 2048 x 2500 x 16 bit DX, {IMAGES} images each, one storescu each")
                print(f"ready after {ready_seconds:.2f} s (model caches warm)")
                for title, (syntax, proposal) in _SYNTAXES.items():
                    ports = {network: port for network, (_, port) in peers.items()} if title in _PEER_READS else {}
                    _compare(title, syntax, proposal, settings, ports)
                for network, (peer, _) in peers.items():
                    print(f"memory (PSS), usual stack with {network}: {_pss(peer.pid):.0f} MB")
            # The peers are gone: they would share libraries with us.
            print(f"memory (PSS), all our processes: {_pss(appliance.pid):.0f} MB")


def _compare(title: str, syntax: str, proposal: str, settings: Config, peers: dict[str, int]) -> None:
    store = Store(settings.state_dir)
    ours: list[float] = []
    server_side: list[float] = []
    theirs: dict[str, list[float]] = {network: [] for network in peers}
    for number in range(IMAGES):
        pixels = radiograph(Kind.OPACITY, number, 2048, 2500)
        data = dx_file(pixels, seed=1000 * len(title) + number, transfer_syntax=syntax)
        path = settings.state_dir.parent / "image.dcm"
        path.write_bytes(data)
        seen = store.last_seq()
        start = time.perf_counter()
        send(path, settings.intake.dicom.port, settings.intake.dicom.ae_title, proposal)
        while not (new := store.changed_since(seen)):
            time.sleep(0.001)
        ours.append((time.perf_counter() - start) * 1000)
        server_side.append((new[0].committed_at - new[0].received_at) * 1000)
        for network, port in peers.items():
            start = time.perf_counter()
            send(path, port, "USUAL", proposal)
            theirs[network].append((time.perf_counter() - start) * 1000)
    print(f"{title}: Scanside, sent to committed result {spread(ours)}, p95 {percentile(ours, 95):.0f} ms")
    print(
        f"{title}: of it, received to committed       {spread(server_side)}, p95 {percentile(server_side, 95):.0f} ms"
    )
    for network, times in theirs.items():
        print(f"{title}: usual stack with {network}, sent to score {spread(times)}; Scanside is {ratio(times, ours)}")
    store.close()


@contextmanager
def _usual_stack(network: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.usual_stack", str(port), network])
    try:
        while socket.socket().connect_ex(("127.0.0.1", port)):
            time.sleep(0.05)
        yield process, port
    finally:
        process.kill()
        process.wait()


def _pss(root: int) -> float:
    """Proportional set size of a process and its descendants, megabytes (proc(5), smaps_rollup)."""
    total = 0
    for pid in _tree(root):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
        total += int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1])  # type: ignore[index]
    return total / _KILO


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            yield from _tree(int(child))


if __name__ == "__main__":
    main()
