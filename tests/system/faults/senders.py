"""Modalities: each sends images of its own one after the other and repeats each until it is answered with success."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from threading import Event, Lock, Thread

import numpy as np
from pydicom import dcmread

from edge.errors import ScansideError
from edge.intake.sender import send_files
from edge.synthetic.appearance import Kind, radiograph
from edge.synthetic.dicom import dx_file
from tests.intake.wire import Peer, c_store

_ROWS, _COLUMNS = 200, 240
_CHESTS = 4
_TAIL = 1 << 10
_AGAIN_AFTER = 0.1


class Modalities:
    """Senders over the whole programme, and the record of what was answered with success."""

    def __init__(self, folder: Path, port: int, storescu: str) -> None:
        """`folder` is for the files to send."""
        self._folder = folder
        self._port = port
        self._storescu = storescu
        self._chests = [radiograph(list(Kind)[number % 2], number, _ROWS, _COLUMNS) for number in range(_CHESTS)]
        self._lock = Lock()
        self._threads: list[Thread] = []
        self._ended = Event()
        self._made = 0
        self.accepted: dict[str, bytes] = {}
        """By SOP Instance UID, how the bytes end of what was answered with success."""
        self.refusals = 0
        """How often one was not answered with success and was sent again."""

    def begin(self, senders: int, images: int, rng: random.Random) -> None:
        """Start sending: so many at once, each so many images."""
        for _ in range(senders):
            programs = [
                rng.choice((self._by_association, self._by_association, self._by_storescu)) for _ in range(images)
            ]
            thread = Thread(target=self._run, args=(programs,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def finish(self) -> bool:
        """Whether all that was begun is accepted."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        return not self._threads

    def end(self) -> None:
        """Give up what is not accepted yet."""
        self._ended.set()

    def new_image(self) -> bytes:
        """A DICOM file that was never sent before; small, and analysed as any."""
        with self._lock:
            self._made += 1
            number = self._made
        chest = self._chests[number % _CHESTS].copy()
        chest[-1] = np.random.default_rng(number).random(_COLUMNS)  # the same pixels twice are warned about
        return dx_file(chest, seed=number)

    def send(self, data: bytes, send: Callable[[Path], bool] | None = None) -> str | None:
        """Send a file until it is answered with success; its SOP Instance UID. None when the programme ends."""
        path = self._folder / f"{abs(hash(data)):x}.dcm"
        path.write_bytes(data)
        uid = str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)
        try:
            while not (send or self._by_association)(path):
                with self._lock:
                    self.refusals += 1
                if self._ended.wait(_AGAIN_AFTER):
                    return None
        finally:
            path.unlink()
        with self._lock:
            self.accepted[uid] = data[-_TAIL:]
        return uid

    def die_in_the_middle(self, data: bytes, part: float) -> None:
        """Send the first part (0 to 1) of an image's PDUs and vanish, as a modality that loses power does."""
        path = self._folder / "halved.dcm"
        path.write_bytes(data)
        pdus = c_store(dcmread(path), fragment_bytes=1 << 12)
        path.unlink()
        with Peer(self._port).associated() as peer:
            peer.send(*pdus[: max(1, round(len(pdus) * part))])

    def _run(self, programs: list[Callable[[Path], bool]]) -> None:
        for program in programs:
            self.send(self.new_image(), program)

    def _by_association(self, path: Path) -> bool:
        try:
            return not send_files(
                [path], "127.0.0.1", self._port, called="SCANSIDE", calling="MODALITY", output=StringIO()
            )
        except ScansideError:
            return False

    def _by_storescu(self, path: Path) -> bool:
        command = [self._storescu, "-to", "20", "-v", "-aec", "SCANSIDE", "127.0.0.1", str(self._port), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode == 0 and "Received Store Response (Success)" in done.stdout + done.stderr
