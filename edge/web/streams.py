"""Live updates: one thread watches the store for the whole process and hands each change to the open streams."""

from __future__ import annotations

import queue
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from threading import Event, Lock, Thread

import msgspec

from edge import events, reasons
from edge.device.drift import alarms
from edge.device.health import Figure, HealthFile, State
from edge.events import emit
from edge.store import Damaged, Doorbell, Store, ring
from edge.web.condition import Condition, glance
from edge.web.recorder import Recorder
from edge.web.views import view_of

MAX_STREAMS = 20
BEAT_SECONDS = 2.0
"""Every stream says at least this often that it is alive, so that a page notices within 5 s when it is not."""

MAX_BACKLOG = 100
_QUEUE_LENGTH = 256
_LOOK_EVERY = 1.0
_CONDITION_EVERY = 5.0
_END = b""


def message(event: str, data: bytes, seq: int | None = None) -> bytes:
    """One server-sent event (WHATWG HTML, 9.2); `seq` becomes the id from which a page resumes. `data` is one line."""
    head = f"id: {seq}\n" if seq is not None else ""
    return f"{head}event: {event}\ndata: ".encode() + data + b"\n\n"


_REPLACED = message("replaced", b"{}")


class Stream:
    """What one open page still has to be told."""

    def __init__(self) -> None:
        self._queue: queue.Queue[bytes] = queue.Queue(_QUEUE_LENGTH)

    def put(self, message: bytes) -> None:
        """Add a message; a page that is far behind loses its stream instead, and comes back with where it stands."""
        try:
            self._queue.put_nowait(message)
        except queue.Full:
            while not self._queue.empty():
                self._queue.get_nowait()
            self._queue.put_nowait(_END)

    def messages(self) -> Iterator[bytes | None]:
        """Messages as they come, None for each `BEAT_SECONDS` without one, until the stream is ended."""
        while True:
            try:
                message = self._queue.get(timeout=BEAT_SECONDS)
            except queue.Empty:
                yield None
                continue
            if message == _END:
                return
            yield message


class Streams:
    """The open streams, `MAX_STREAMS` at most. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[str, Stream] = {}
        self._ended = False

    def open(self, owner: str) -> Stream | None:
        """A new stream, in place of the same owner's earlier one. None when there are too many, or at the end."""
        stream = Stream()
        with self._lock:
            earlier = self._open.pop(owner, None)
            if earlier:
                earlier.put(_REPLACED)
                earlier.put(_END)
            if self._ended or len(self._open) >= MAX_STREAMS:
                return None
            self._open[owner] = stream
        return stream

    def close(self, owner: str, stream: Stream) -> None:
        """Forget a stream, if it is still its owner's."""
        with self._lock:
            if self._open.get(owner) is stream:
                del self._open[owner]

    def publish(self, message: bytes) -> None:
        """Hand a message to every open stream."""
        with self._lock:
            for stream in self._open.values():
                stream.put(message)

    def count(self) -> int:
        """How many are open."""
        with self._lock:
            return len(self._open)

    def end(self) -> None:
        """End all of them, and let none open any more."""
        with self._lock:
            self._ended = True
            for stream in self._open.values():
                stream.put(_END)


class Watcher(Thread):
    """Sleeps on the doorbell, looks once a second all the same, publishes what changed, renews the health file."""

    def __init__(
        self,
        store: Store,
        streams: Streams,
        condition: Callable[[], Condition],
        bell: Doorbell,
        health: HealthFile,
        *,
        recorder: Recorder,
        give_up: Callable[[], None],
        figures: Callable[[], dict[str, Figure]],
    ) -> None:
        """`give_up` ends the service when a file must be repaired; `figures` are asked for the health file."""
        super().__init__(name="watcher", daemon=True)
        self._store = store
        self._streams = streams
        self._condition = condition
        self._bell = bell
        self._health = health
        self._recorder = recorder
        self._give_up = give_up
        self._figures = figures
        self._known: dict[str, Figure] = {}
        self._stopping = Event()
        self._seq = store.last_seq()
        self._seen: tuple[object, ...] = ()
        self._next_condition = 0.0

    def run(self) -> None:
        """Until `stop`."""
        failed = False
        while not self._stopping.is_set():
            self._bell.wait(_LOOK_EVERY)
            try:
                self._look()
                self._report(State.UP)
            except Damaged as error:
                with suppress(OSError):
                    self._report(State.DOWN, str(error))
                self._give_up()
                return
            except (sqlite3.Error, OSError) as error:
                if not failed:
                    emit(events.WEB_STORE_FAILED, error=type(error).__name__)
                failed = True
                with suppress(OSError):  # the disk itself may be what fails: an account that goes stale says the same
                    self._report(State.DEGRADED, reasons.STORE_UNREADABLE)
                self._stopping.wait(_LOOK_EVERY)
                continue
            if failed:
                emit(events.WEB_STORE_BACK)
            failed = False
        with suppress(OSError):
            self._report(State.DOWN, reasons.STOPPED)

    def stop(self) -> None:
        """Let the thread end, whose last act is to say so in the health file; `join` waits for that."""
        self._stopping.set()
        ring(self._store.state_dir, "web")

    def _look(self) -> None:
        self._known = self._figures()
        while changed := self._store.changed_since(self._seq, MAX_BACKLOG):
            for stored in changed:
                self._streams.publish(message("result", msgspec.json.encode(view_of(stored)), stored.seq))
            self._seq = changed[-1].seq
        self._recorder.look(self._condition)
        if time.monotonic() >= self._next_condition:
            self._next_condition = time.monotonic() + _CONDITION_EVERY
            condition = self._condition()
            if glance(condition) != self._seen:
                self._seen = glance(condition)
                self._streams.publish(message("device", msgspec.json.encode(condition)))

    def _report(self, state: State, reason: str = "") -> None:
        self._health.list_drift(alarms(self._recorder.drift()))
        self._health.report(state, reason, streams=self._streams.count(), **self._known)
