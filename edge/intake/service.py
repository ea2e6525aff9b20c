"""The intake service: opens the doors, keeps them open, and says how it is doing."""

from __future__ import annotations

import ctypes
import signal
import threading

from edge import events
from edge.config import Config
from edge.device.health import HealthFile, State
from edge.device.signals import Signals
from edge.events import emit
from edge.intake.dicom_listener import DicomListener, report_thread_failure, silence_libraries
from edge.intake.reception import Reception
from edge.intake.tls import TlsUnusable
from edge.intake.watch_folder import WatchFolder
from edge.store import Damaged, Store, hold_lock, repaired_lately

LOOK_EVERY = 1.0
FINISH_WITHIN = 2.0
"""Seconds that a running C-STORE has to finish when the service stops."""


def serve(config: Config) -> int:
    """Take images in until SIGTERM or SIGINT. Exit status 1 when the listener's address cannot be had.

    Raises:
        AlreadyRunning: Another intake works on this state folder.
    """
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    silence_libraries()
    threading.excepthook = report_thread_failure
    hold_lock(config.state_dir, "intake")
    health = HealthFile(config.state_dir, "intake")
    store = Store(config.state_dir, storage=config.storage)
    store.sweep()
    reception = Reception(store)
    dicom = config.intake.dicom
    try:
        listener = DicomListener(dicom, reception)
    except OSError as error:
        emit(events.LISTEN_REFUSED, host=dicom.host, port=error.filename, error=error.strerror or error)
        health.report(State.DOWN, f"the DICOM listener cannot listen on port {error.filename}: {error.strerror}")
        return 1
    except TlsUnusable as error:
        emit(events.TLS_UNUSABLE, file=error.file, error=error)
        health.report(State.DOWN, f"DICOM over TLS cannot start: {error}")
        return 1
    folder = WatchFolder(config.intake.watch_folder, reception) if config.intake.watch_folder else None
    buffers_of, status, last_words = 0, 0, "stopped"
    try:
        while True:
            store.check()
            more = folder.look() if folder else False
            trouble = reception.trouble or (folder.trouble if folder else "") or repaired_lately(config.state_dir)
            health.report(
                State.DEGRADED if trouble else State.UP,
                trouble,
                dicom_port=listener.port,
                dicom_tls_port=listener.tls_port,
                associations=listener.associations,
                accepted=reception.accepted,
                refused=reception.refused,
            )
            if reception.accepted != buffers_of and not listener.associations:
                buffers_of = reception.accepted
                _give_buffers_back()
            if signals.wait(0.0 if more else LOOK_EVERY):
                break
    except Damaged as error:
        status, last_words = 1, str(error)
    listener.stop(FINISH_WITHIN)
    health.report(State.DOWN, last_words)
    store.close()
    return status


def _give_buffers_back() -> None:
    """Return the memory of images that are stored to the system: glibc keeps about 10 MB more (malloc_trim(3))."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
