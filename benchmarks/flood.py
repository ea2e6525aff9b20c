"""Claim: as many requests as one client can send hold up neither the analysis of images nor other visitors.

`python -m benchmarks.flood [--rounds 6]`. The whole appliance, with HTTP on loopback. Images come by C-STORE from
DCMTK's storescu, one after the other, in turns: without a flood; while one client floods a port at which nobody listens
(the peer: what the client itself costs on the machine that it shares here with the box); while it floods the page
without a session; while it does with the session of a technician, asking for the worklist. The client keeps 64
connections busy, each with 16 requests at once and a new one for each answer, and opens another when one is closed.
Beside each turn: how many requests it has sent, how they were answered, and what a visitor from another address waited
for `/healthz`.
"""

from __future__ import annotations

import argparse
import http.client
import multiprocessing
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import count
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import NamedTuple

import yaml

from benchmarks.box import free_port
from benchmarks.page import session
from benchmarks.report import heading, percentile, ratio, spread
from edge import config_file
from edge.config import Config
from edge.device.health import State, read_health
from edge.store import Store
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from edge.web.permissions import SESSION_COOKIE

IMAGES = 20
"""Of each turn of a round."""

CONNECTIONS = 64
AT_ONCE = 16
Client = Callable[[Event, Event, Callable[[Counter[str]], None]], None]
"""Floods until told to stop: says when it is under way, and then how many it `sent` and how they were answered."""

_VISITOR = "127.0.0.2"
_QUIET, _PEER, _OPEN, _SIGNED_IN = "no flood", "flood at a closed port", "flood of the page", "flood with a session"
_ROWS, _COLUMNS = 1024, 832


class Turn(NamedTuple):
    """What was seen during one way of flooding: milliseconds, and statuses (`sent` and `refused` among them)."""

    to_result: list[float]
    pipeline: list[float]
    visitor: list[float]
    answers: Counter[str]
    seconds: list[float]

    def add(self, other: Turn) -> None:
        """Take another turn of the same way into this one."""
        self.to_result.extend(other.to_result)
        self.pipeline.extend(other.pipeline)
        self.visitor.extend(other.visitor)
        self.answers.update(other.answers)
        self.seconds.extend(other.seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        file = write_config(Path(name))
        settings = config_file.load(file)
        with running(file, settings) as web, session(settings.state_dir) as token:
            floods = {
                _QUIET: None,
                _PEER: partial(_flood, free_port(), ""),
                _OPEN: partial(_flood, settings.web.port, ""),
                _SIGNED_IN: partial(_flood, settings.web.port, token),
            }
            before = _memory(web)
            turns = alternate(settings, floods, rounds)
            after = _memory(web)
    _print(turns, rounds)
    print(f"memory of the page's worker (resident): {before['VmRSS']:.0f} MB before, {after['VmRSS']:.0f} MB after,")
    print(f"at most {after['VmHWM']:.0f} MB")


def alternate(settings: Config, floods: Mapping[str, Client | None], rounds: int) -> dict[str, Turn]:
    """Turns beside each of the floods (None is a quiet turn), one way after the other; the first round warms up."""
    turns = {way: Turn([], [], [], Counter(), []) for way in floods}
    seeds = count()
    for number in range(rounds + 1):
        for way, flood in floods.items():
            turn = _turn(settings, flood, seeds)
            if number:
                turns[way].add(turn)
    return turns


def _print(turns: dict[str, Turn], rounds: int) -> None:
    heading(f"A flood from one client, {rounds * IMAGES} images each, {_ROWS} x {_COLUMNS} x 16 bit DX")
    quiet, peer = turns[_QUIET], turns[_PEER]
    for way, turn in turns.items():
        print(f"{way}: sent to committed result {spread(turn.to_result)}, p95 {percentile(turn.to_result, 95):.0f} ms")
        print(f"{way}: of it, in the pipeline   {spread(turn.pipeline)}, p95 {percentile(turn.pipeline, 95):.0f} ms")
        print(f"{way}: another visitor waited   {spread(turn.visitor)}, p95 {percentile(turn.visitor, 95):.0f} ms")
        if turn is not quiet:
            told = dict(turn.answers)
            sent = told.pop("sent") / sum(turn.seconds)
            shares = ", ".join(f"{status} {times / sum(turn.seconds):.0f}" for status, times in sorted(told.items()))
            print(f"{way}: requests a second: sent {sent:.0f}; {shares}")
            print(f"{way}: to the result, no flood is {ratio(turn.to_result, quiet.to_result)}")
        if turn not in (quiet, peer):
            print(f"{way}: to the result, the peer is {ratio(turn.to_result, peer.to_result)}")
            print(f"{way}: in the pipeline, the peer is {ratio(turn.pipeline, peer.pipeline)}")


def _turn(settings: Config, flood: Client | None, seeds: Iterator[int]) -> Turn:
    """One turn of images beside a client in a process of its own."""
    turn = Turn([], [], [], Counter(), [])
    path = settings.state_dir.parent / "image.dcm"
    with closing(Store(settings.state_dir)) as store, _flooding(flood, turn):
        for number in range(IMAGES):
            path.write_bytes(dx_file(radiograph(Kind.OPACITY, number, _ROWS, _COLUMNS), seed=next(seeds)))
            seen, start = store.last_seq(), time.perf_counter()
            _send(path, settings)
            while not (new := store.changed_since(seen)):
                time.sleep(0.001)
            turn.to_result.append((time.perf_counter() - start) * 1000)
            turn.pipeline.append(new[0].result.timings_ms.total)
            turn.visitor.append(_visit(settings.web.port))
    return turn


def _visit(port: int) -> float:
    """Milliseconds until another address has its answer."""
    start = time.perf_counter()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60, source_address=(_VISITOR, 0))) as visitor:
        visitor.request("GET", "/healthz")
        if visitor.getresponse().status != 200:
            raise SystemExit("another visitor was refused")
    return (time.perf_counter() - start) * 1000


@contextmanager
def _flooding(flood: Client | None, turn: Turn) -> Iterator[None]:
    if flood is None:
        yield
        return
    context = multiprocessing.get_context("spawn")
    begun, stop, told = context.Event(), context.Event(), context.Queue()
    client = context.Process(target=flood, args=(begun, stop, told.put))
    client.start()
    begun.wait()
    start = time.perf_counter()
    try:
        yield
    finally:
        stop.set()
        turn.seconds.append(time.perf_counter() - start)
        turn.answers.update(told.get())
        client.join()


def _flood(port: int, token: str, begun: Event, stop: Event, tell: Callable[[Counter[str]], None]) -> None:
    """The client: `CONNECTIONS` at once until it is told to stop."""
    cookie = f"Cookie: {SESSION_COOKIE}={token}\r\n" if token else ""
    request = f"GET / HTTP/1.1\r\nHost: box\r\n{cookie}\r\n".encode()
    counts: Counter[str] = Counter()
    with selectors.DefaultSelector() as waiting:
        for _ in range(CONNECTIONS):
            _open(waiting, port)
        while not stop.is_set():
            for key, events in waiting.select(0.1):
                if not _serve(waiting, key.fileobj, events, request, counts):  # type: ignore[arg-type]
                    _open(waiting, port)
            if not begun.is_set() and (counts["429"] or counts["ConnectionRefusedError"] > CONNECTIONS):
                begun.set()
                counts.clear()  # of the burst that everybody may have
    tell(counts)


def _open(waiting: selectors.BaseSelector, port: int) -> None:
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex(("127.0.0.1", port))
    waiting.register(connection, selectors.EVENT_WRITE)


def _serve(
    waiting: selectors.BaseSelector, connection: socket.socket, events: int, request: bytes, counts: Counter[str]
) -> bool:
    """Write to or read from a connection that is ready; False when it is over, and closed."""
    try:
        if events & selectors.EVENT_WRITE:
            counts["sent"] += AT_ONCE  # also to a closed port: what a client does costs it the same
            connection.send(request * AT_ONCE)
            waiting.modify(connection, selectors.EVENT_READ)
            return True
        said = connection.recv(1 << 16)
        statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", said)
        counts.update(status.decode() for status in statuses)
        counts["sent"] += len(statuses)
        connection.send(request * len(statuses))
        if said:
            return True
    except BlockingIOError:
        return True
    except OSError as error:
        counts[type(error).__name__] += 1
    waiting.unregister(connection)
    connection.close()
    return False


def _send(path: Path, settings: Config) -> None:
    port = str(settings.intake.dicom.port)
    command = ["/usr/bin/storescu", "-aec", settings.intake.dicom.ae_title, "-xe", "127.0.0.1", port, str(path)]
    subprocess.run(command, check=True, capture_output=True)


@contextmanager
def running(file: Path, settings: Config) -> Iterator[int]:
    """The appliance, up; the process id of the page's worker."""
    command = [sys.executable, "-m", "edge.cli", "run", "--config", str(file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                with suppress(FileNotFoundError):
                    health = read_health(settings.state_dir, time.time())
                    if all(s in health and health[s].state is State.UP for s in ("intake", "inference", "web")):
                        break
                if process.poll() is not None:
                    raise SystemExit("the appliance did not start")
                time.sleep(0.02)
            yield health["web"].pid
        finally:
            process.send_signal(signal.SIGTERM)


def _memory(pid: int) -> dict[str, float]:
    """Megabytes by their names in proc(5)."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return {name: int(kilo) / 1024 for name, kilo in re.findall(r"^(Vm\w+):\s+(\d+) kB", status, re.MULTILINE)}


def write_config(folder: Path) -> Path:
    """Of an appliance in this folder, on free ports of loopback."""
    document = {
        "state_dir": str(folder / "state"),
        "intake": {"dicom": {"port": free_port()}},
        "web": {"port": free_port()},
    }
    file = folder / "scanside.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return file


if __name__ == "__main__":
    main()
