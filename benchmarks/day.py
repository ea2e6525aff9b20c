"""Claim: after a full day's work no identifier of a patient is readable outside of the box's own memory.

`python -m benchmarks.day --images 300 --seed 1`: a whole appliance; as many images as a busy clinic makes in a day,
with identifiers planted in every attribute and sent through every door, some of them broken; visits to the page with
sign-in, searches and acknowledgements; wrong passwords; a broker that is away for hours; services killed; a backup; and
a wall clock that goes through 24 hours meanwhile (where there is a C compiler). Then everything planted is searched
for, in each encoding of `tests/identifiers.py`, in the state folder, the log, temporary files, the backup, and every
byte that went to the broker or to people who were not signed in. Exit status 1 when any is found.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from random import Random
from threading import Thread
from urllib.parse import quote

from benchmarks.faults import found_programs
from benchmarks.report import heading
from edge.config import Config
from edge.inference.guard import Guard
from edge.store import Store
from tests.identifiers import CHARACTER_SETS, Planted, find, word
from tests.running import scanside
from tests.system.conftest import Appliance, await_until, free_port, running_appliance, running_broker
from tests.system.faults.shim import Shim
from tests.system.leaks import Leaks, leaks_of, listening
from tests.system.planting import Case, Damage, Door, ask_for, send

DAY = 86_400
PASSPHRASE = "several words for a backup"
_DOORS = (Door.C_STORE,) * 5 + (Door.STOW, Door.STOW, Door.UPLOAD, Door.FOLDER)
_DAMAGES = (Damage.NONE,) * 12 + tuple(Damage)
_VISIT_EVERY, _CURIOUS_EVERY = 10, 60
_AWAY, _BACKED_UP = (0.4, 0.5), 0.85
_KILLED = {0.25: "edge.inference.analyst", 0.55: "inference", 0.7: "intake", 0.75: "web"}


class Wire:
    """What stands between box and broker: it hands on every byte and keeps it, or is not there."""

    def __init__(self, broker: int) -> None:
        self.port = free_port()
        self.heard = bytearray()
        self._broker = broker
        self._open: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.connect()

    def connect(self) -> None:
        """Be there."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Be away: nobody listens, and what was open is closed."""
        if self._listener:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # cut
            while True:
                box, _ = listener.accept()
                broker = socket.create_connection(("127.0.0.1", self._broker))
                self._open += [box, broker]
                for source, target in ((box, broker), (broker, box)):
                    Thread(target=self._hand_on, args=(source, target), daemon=True).start()

    def _hand_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self.heard += data
                target.sendall(data)
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


class Day:
    """One day of one box."""

    def __init__(self, box: Leaks, wire: Wire, shim: Shim | None, seed: int, images: int) -> None:
        self.box = box
        self.done: Counter[str] = Counter()
        self.backup = box.appliance.folder / "backup"
        self._wire = wire
        self._shim = shim
        self._random = Random(seed)
        self._images = images

    def run(self) -> None:
        """From its first image to its last, and until all is answered and delivered."""
        due = sorted(_KILLED)
        away = False
        for number in range(self._images):
            now = number / self._images
            if self._shim:
                self._shim.clock_offset = round(now * DAY)
            if away is not (_AWAY[0] <= now < _AWAY[1]):
                away = not away
                self._wire.cut() if away else self._wire.connect()
                self.done["the broker goes or comes"] += 1
            if due and now >= due[0]:
                self._kill(_KILLED[due.pop(0)])
            if now >= _BACKED_UP and not self.backup.exists():
                self._back_up()
            self._one_image(number)
            if number % _VISIT_EVERY == _VISIT_EVERY - 1:
                self._visit()
            if number % _CURIOUS_EVERY == _CURIOUS_EVERY - 1:
                self._be_curious()
            if number % 50 == 49:
                print(f"{number + 1} images, {24 * (number + 1) / self._images:.0f} h", flush=True)
        self.box.settle()

    def _one_image(self, number: int) -> None:
        door, damage = self._random.choice(_DOORS), self._random.choice(_DAMAGES)
        case = Case(door, damage, list(CHARACTER_SETS)[number % len(CHARACTER_SETS)], self._random.randrange(1 << 32))
        if door is Door.UPLOAD:
            self.box.sign_in()  # the session of the last visit may be over
        send(self.box, case)
        self.done[f"images by {door}"] += 1
        self.done["images that are broken or none"] += damage is not Damage.NONE

    def _visit(self) -> None:
        """A technician signs in, looks at the list and at the newest images, searches, and answers."""
        name = quote(self._random.choice(self.box.planted).name)
        self.box.sign_in()
        with closing(Store(self.box.appliance.settings.state_dir)) as store:
            newest = store.results(limit=2)
        paths = ["/", f"/?{name}", "/device", "/metrics", "/api/v1/results?limit=20", f"/api/v1/results?patient={name}"]
        for stored in newest:
            paths += [f"/results/{stored.id}", f"/results/{stored.id}?from={name}"]
            paths += [f"/api/v1/results/{stored.id}{what}" for what in ("", "/image", "/overlay")]
        for path in paths:
            self.done[f"pages answered with {self.box.ask('GET', path, headers=self.box.signed_in())}"] += 1
        self.done["sign-ins"] += 1
        said = self.box.signed_in() | {"Content-Type": "application/json"}
        for stored in newest:
            self.box.ask("POST", f"/api/v1/results/{stored.id}/acknowledge", b'{"response": "agree"}', said)
            self.done["acknowledgements asked for"] += 1

    def _be_curious(self) -> None:
        planted = word(self._random)
        self.box.planted.append(planted)
        ask_for(self.box, planted)
        self.done["rounds of curious requests and wrong passwords"] += 1

    def _kill(self, what: str) -> None:
        """SIGKILL, and until it is back; what is sent next meets a box that has just come up."""
        doomed = self._running(what)
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
            self.done[f"killed: {what}"] += 1
        await_until(lambda: self._running(what) - doomed, "it is started again")
        for port in (self.box.appliance.settings.intake.dicom.port, self.box.appliance.settings.web.port):
            await_until(lambda port=port: _listens(port), "the service is back")  # type: ignore[misc]
        self.box.settle()

    def _running(self, what: str) -> set[int]:
        return {int(process.name) for process in self.box.processes() if what in _arguments(process)}

    def _back_up(self) -> None:
        folder = self.box.appliance.folder
        command = scanside("backup", str(self.backup), "--config", str(folder / "scanside.yaml"))
        made = subprocess.run(command, input=PASSPHRASE, capture_output=True, text=True, check=False)
        self.box.heard += [made.stdout.encode(), made.stderr.encode()]
        self.done[f"backups (exit status {made.returncode})"] += 1


def main() -> int:
    """Live a day, print what was done and what was found; the exit status."""
    parser = argparse.ArgumentParser(description="A day's work, and then the search for what was planted.")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    programs = found_programs()
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # that the box writes no core file is its own doing
    with tempfile.TemporaryDirectory(prefix="scanside-day-") as name:
        with living(Path(name), programs) as (box, wire, shim):
            heading(f"A day of {options.images} images, seed {options.seed}, clock {'moving' if shim else 'as it is'}")
            day = Day(box, wire, shim, options.seed, options.images)
            began = time.monotonic()
            day.run()
            print(f"lived in {time.monotonic() - began:.0f} s", flush=True)
            hits = box.search() + find(box.planted, bytes(wire.heard))
            box.appliance.stop()
            hits += box.search() + find(box.planted, bytes(wire.heard))  # last words, and what a stop leaves behind
        return report(day, wire, [str(hit) for hit in hits])


def report(day: Day, wire: Wire, hits: list[str]) -> int:
    """Print; the exit status."""
    folder, planted = day.box.appliance.folder, day.box.planted
    for what, count in sorted(day.done.items()):
        print(f"  {what}: {count}")
    with closing(Store(day.box.appliance.settings.state_dir)) as store:
        results = store.results(limit=1_000_000)
        known = sum(_knows(store, stored.instance_id, planted) for stored in results)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    print(f"results: {len(results)}; in {known} of their images identifiers are found with the key")
    print(f"searched: {size / 1e6:.0f} MB of files, {len(wire.heard) / 1e6:.1f} MB to and from the broker")
    print(f"planted: {len(planted)} sets of identifiers; found where none may be: {len(hits)}")
    for hit in hits[:20]:
        print(f"FOUND {hit}")
    return 1 if hits or not known or not wire.heard else 0


def _knows(store: Store, instance_id: str, planted: list[Planted]) -> bool:
    return bool(find(planted, store.read(instance_id)))


@contextmanager
def living(folder: Path, programs: dict[str, str]) -> Iterator[tuple[Leaks, Wire, Shim | None]]:
    """The box, what stands between it and its broker, and its clock."""
    cache, below = folder / "cache", folder / "box"
    cache.mkdir()
    (below / "tmp").mkdir(parents=True)
    with Guard(Config(), cache, service="day") as guard:
        guard.await_ready()  # the choice of the engine, which a box makes once
    compiler = shutil.which("cc")
    shim = Shim(folder, compiler, below / "state") if compiler else None
    environment = {"TMPDIR": str(below / "tmp")} | (shim.environment if shim else {})
    with ExitStack() as opened:
        broker = opened.enter_context(running_broker(programs.__getitem__, folder))
        opened.enter_context(listening(broker, []))  # what nobody takes, the box keeps
        wire = Wire(broker)
        opened.callback(wire.cut)
        box: Appliance = opened.enter_context(running_appliance(below, wire.port, cache, **environment))
        yield leaks_of(box, programs.__getitem__), wire, shim


def _arguments(process: Path) -> list[str]:
    """Its command line; of one that has ended nothing."""
    try:
        return process.joinpath("cmdline").read_bytes().decode().rstrip("\0").split("\0")
    except OSError:
        return []


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


if __name__ == "__main__":
    sys.exit(main())
