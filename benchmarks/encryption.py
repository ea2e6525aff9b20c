"""Claim: encryption at rest costs less than 10 % of the hot path.

`python -m benchmarks.encryption`. The peer is the same without encryption: the same digest and fsyncs, a journal row of
the same columns. Both take the same 10 MB radiograph in turn, in one run, on one disk; which begins changes.
"""

from __future__ import annotations

import os
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from hashlib import sha256
from pathlib import Path
from statistics import median, quantiles

import msgspec

from benchmarks.report import heading, spread
from edge.config import Config
from edge.inference.channel import Analyse
from edge.inference.guard import Guard
from edge.records import Arrival
from edge.store import Store, ring
from edge.store.database import Database
from edge.store.keys import KeyRing, new_key
from edge.store.lock import folder_lock
from edge.store.sealed_file import FRAME_BYTES, SealedWriter, read_sealed
from edge.store.spool import Spool
from edge.store.vault import Vault
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file

ROUNDS = 60
_FRAMES_KIB = (16, 64, 256, 1024)
_JOURNAL = (
    "CREATE TABLE instances (number INTEGER PRIMARY KEY, id TEXT UNIQUE, sop_instance_uid TEXT, sha256 TEXT,"
    " size INTEGER, arrival TEXT, priority INTEGER, received_at REAL);\n"
    "CREATE UNIQUE INDEX same_object ON instances (sha256);\n"
    "CREATE INDEX same_uid ON instances (sop_instance_uid)"
)


def main() -> None:
    """Measure and print."""
    image = dx_file(radiograph(Kind.OPACITY, 1, 2048, 2500), seed=1)
    with tempfile.TemporaryDirectory() as folder, Guard(Config(), Path(folder) / "cache", service="benchmark") as guard:
        guard.await_ready()
        heading(f"Encryption at rest: {len(image) / 1e6:.1f} MB, {ROUNDS} rounds, AES-256-GCM beside the same in clear")
        vault = Vault(KeyRing(Path("ring"), (new_key(),)))
        _compare_frames(Path(folder), vault, image)
        with (
            closing(Sealed(Path(folder) / "sealed", guard)) as ours,
            closing(Plain(Path(folder) / "plain", guard)) as peer,
        ):
            _compare("accept() to bytes in memory", ours.accept_and_read, peer.accept_and_read, image)
            _compare("accept() to the answer", ours.accept_and_analyse, peer.accept_and_analyse, image)


class Sealed:
    """The store as it is."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self._store = Store(folder)
        self._guard = guard

    def accept_and_read(self, data: bytes) -> None:
        """Durably in, and back."""
        descriptor, secret = self._store.open(self._accept(data))
        read_sealed(descriptor, secret)
        os.close(descriptor)

    def accept_and_analyse(self, data: bytes) -> None:
        """Durably in, and the analyst's answer."""
        descriptor, secret = self._store.open(self._accept(data))
        self._guard.analyse(Analyse(key="1", source="file", secret=secret), descriptor)
        os.close(descriptor)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _accept(self, data: bytes) -> str:
        return self._store.accept(data, Arrival(source="file", peer="", sop_instance_uid=uuid.uuid4().hex)).instance.id


class Plain:
    """The same without encryption."""

    def __init__(self, folder: Path, guard: Guard) -> None:
        self._folder = folder
        self._spool = Spool(folder / "spool")
        self._journal = Database(folder / "journal.sqlite", _JOURNAL)
        self._guard = guard

    def accept_and_read(self, data: bytes) -> None:
        """Durably in, and back."""
        self._spool.read(self._accept(data))

    def accept_and_analyse(self, data: bytes) -> None:
        """Durably in, and the analyst's answer."""
        descriptor = self._spool.open(self._accept(data))
        self._guard.analyse(Analyse(key="1", source="file"), descriptor)
        os.close(descriptor)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _accept(self, data: bytes) -> str:
        name = uuid.uuid4().hex
        with folder_lock(self._spool.folder, shared=True):
            incoming, view = self._spool.begin(name), memoryview(data)
            digest = sha256(view).hexdigest()
            for start in range(0, len(data), FRAME_BYTES):  # in one piece, the kernel takes twice as long
                incoming.write(view[start : start + FRAME_BYTES])
            with self._journal.reading() as sql:
                sql.execute("SELECT 1 FROM instances WHERE sha256 = ?", (digest + name,)).fetchone()
            with folder_lock(self._spool.folder, shared=True):
                incoming.keep()
                self._insert(name, digest, len(data))
        ring(self._folder, "inference")
        return name

    def _insert(self, name: str, digest: str, size: int) -> None:
        arrival = msgspec.json.encode(Arrival(source="file", peer="", sop_instance_uid=name)).decode()
        with self._journal.transaction() as sql:
            sql.execute("SELECT 1 FROM instances WHERE sop_instance_uid = ?", (name,)).fetchone()
            sql.execute(
                "INSERT INTO instances (id, sop_instance_uid, sha256, size, arrival, priority, received_at)"
                " VALUES (?, ?, ?, ?, ?, 1, ?)",
                (name, name, digest + name, size, arrival, time.time()),
            )


def _compare_frames(folder: Path, vault: Vault, image: bytes) -> None:
    """Sealing and writing, reading and opening, without fsync; by size of frame."""
    sealed, plain, key = folder / "object.sealed", folder / "object", vault.new_file("object")

    def seal(frame_bytes: int, data: bytes) -> None:
        with sealed.open("wb", buffering=0) as file:
            writer = SealedWriter(key, file.write, frame_bytes)
            writer.write(data)
            writer.finish(b"{}")

    def open_sealed(_: bytes) -> None:
        with sealed.open("rb", buffering=0) as file:
            read_sealed(file.fileno(), key.secret)

    for kib in _FRAMES_KIB:
        frames = f"{kib} KiB frames{' (used)' if kib << 10 == FRAME_BYTES else ''}"
        _compare(f"seal and write, {frames}", partial(seal, kib << 10), plain.write_bytes, image)
        _compare(f"read and open, {frames}", open_sealed, lambda _: plain.read_bytes(), image)


def _compare(title: str, ours: Callable[[bytes], object], peer: Callable[[bytes], object], image: bytes) -> None:
    """Wall time with its spread, pair by pair, and this process's processor time, which neighbours disturb less."""
    walls: dict[str, list[float]] = {"sealed": [], "clear": []}
    processors: dict[str, list[float]] = {"sealed": [], "clear": []}
    for number in range(ROUNDS + 5):
        pair = [("sealed", ours), ("clear", peer)]
        for name, work in pair if number % 2 else reversed(pair):
            wall, processor = time.perf_counter(), time.process_time()
            work(image)
            walls[name].append((time.perf_counter() - wall) * 1000)
            processors[name].append((time.process_time() - processor) * 1000)
    sealed, clear = walls["sealed"][5:], walls["clear"][5:]
    spent = {name: median(values[5:]) for name, values in processors.items()}
    print(f"{title}: {spread(sealed)}; in clear {spread(clear)}; {_more(clear, sealed)}")
    print(f"{title}: processor {spent['sealed']:.2f} ms; in clear {spent['clear']:.2f} ms")


def _more(clear: Sequence[float], sealed: Sequence[float]) -> str:
    """How much more it takes, pair by pair: the median and the middle half."""
    more = [ours / theirs * 100 - 100 for theirs, ours in zip(clear, sealed, strict=True)]
    low, _, high = quantiles(more, n=4)
    return f"{median(more):+.1f} % ({low:+.1f} to {high:+.1f})"


if __name__ == "__main__":
    main()
