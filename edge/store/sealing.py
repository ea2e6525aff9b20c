"""Seals and writes an object in a thread of its own, while its next piece is received and hashed.

Receiving and hashing an object takes about as long as sealing and writing it, and they take two cores.
"""

from __future__ import annotations

from queue import SimpleQueue
from threading import Thread

from edge.store.sealed_file import FRAME_BYTES, SealedWriter

_BUFFERS = 4


class Sealing:
    """A sealed file whose frames are written behind: what the disk says to one of them, the next call raises."""

    def __init__(self, sealed: SealedWriter) -> None:
        """Start nothing yet: an object of less than a frame needs no thread. `sealed` is nobody else's from here on."""
        self._sealed = sealed
        self._buffer = bytearray(FRAME_BYTES)
        self._filled = 0
        self._free: SimpleQueue[bytearray] = SimpleQueue()
        self._full: SimpleQueue[bytearray | None] = SimpleQueue()
        self._thread: Thread | None = None
        self._error: Exception | None = None

    def write(self, data: bytes | memoryview) -> None:
        """Append to the object. Raises `OSError`, perhaps that of an earlier piece."""
        view = memoryview(data)
        while view:
            part = view[: FRAME_BYTES - self._filled]
            self._buffer[self._filled : self._filled + len(part)] = part
            self._filled += len(part)
            view = view[len(part) :]
            if self._filled == FRAME_BYTES:
                self._hand_over()
        self._raise()

    def finish(self, record: bytes) -> None:
        """Complete the file with the object's record. Raises `OSError`."""
        self.stop()
        self._raise()
        self._sealed.write(memoryview(self._buffer)[: self._filled])
        self._sealed.finish(record)

    def stop(self) -> None:
        """Wait until what was handed over is written, or has failed; nothing is appended after this."""
        thread, self._thread = self._thread, None
        if thread:
            self._full.put(None)
            thread.join()

    def _hand_over(self) -> None:
        """Give the full buffer to the thread, and go on with another one; waits while all of them are full."""
        if self._thread is None:
            for _ in range(_BUFFERS - 1):
                self._free.put(bytearray(FRAME_BYTES))
            self._thread = Thread(target=self._run, name="sealing", daemon=True)
            self._thread.start()
        self._full.put(self._buffer)
        self._buffer, self._filled = self._free.get(), 0

    def _run(self) -> None:
        while (frame := self._full.get()) is not None:
            try:
                if self._error is None:
                    self._sealed.write(memoryview(frame))
            except Exception as error:  # any type: it is raised in the thread that brings the object
                self._error = error
            self._free.put(frame)

    def _raise(self) -> None:
        if self._error:
            raise self._error
