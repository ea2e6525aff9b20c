"""The intake service: opens the doors, keeps them open, and says how it is doing."""

from __future__ import annotations

import gc
import signal
import sqlite3
import time

from edge import events, reasons
from edge.config import Config, Dicom
from edge.device.certificates import ExpiryWatch
from edge.device.health import HealthFile, State
from edge.device.heap import tidy
from edge.device.signals import Signals
from edge.events import emit
from edge.intake.dicom_listener import DicomListener, silence_libraries
from edge.intake.reception import Reception
from edge.intake.tls import TlsUnusable
from edge.intake.upper_layer import remember_uids
from edge.intake.watch_folder import WatchFolder
from edge.last_good import is_refused
from edge.store import Damaged, Keeper, Store, hold_lock, repaired_lately
from edge.store.audit import AuditTrail, actions, open_trail

LOOK_EVERY = 1.0
RETIRE_EVERY = 3600.0
FINISH_WITHIN = 2.0
"""Seconds that a running C-STORE has to finish when the service stops."""


def serve(config: Config) -> int:
    """Take images in until SIGTERM or SIGINT. Exit status 1 when the listener's address cannot be had.

    Raises:
        AlreadyRunning: Another intake works on this state folder.
    """
    signals = Signals(signal.SIGTERM, signal.SIGINT)
    silence_libraries()
    remember_uids()
    hold_lock(config.state_dir, "intake")
    health = HealthFile(config.state_dir, "intake")
    store = Store(config.state_dir, storage=config.storage)
    keeper = Keeper(store, config.storage)
    trail = open_trail(config, "intake")
    store.sweep()
    reception = Reception(store)
    dicom = config.intake.dicom
    listener = _listening(dicom, reception, health)
    if listener is None:
        return 1
    folder = WatchFolder(config.intake.watch_folder, reception) if config.intake.watch_folder else None
    certificate = ExpiryWatch(dicom.tls.certificate_file if dicom.tls else None, time.time)
    trail.record(actions.application(trail.source, starts=True, ae_titles=[dicom.ae_title]))
    retire_at = float("-inf")
    safe_mode = reasons.SAFE_MODE if is_refused(config.state_dir) else ""
    buffers_of, status, last_words = 0, 0, reasons.STOPPED
    gc.freeze()
    try:
        while True:
            store.check()
            trail.check()
            more = keeper.tend() | (folder.look() if folder else False)
            certificate.look()
            _record_receipts(trail, reception, dicom.ae_title)
            if time.monotonic() >= retire_at:
                retire_at = time.monotonic() + RETIRE_EVERY
                _retire(trail, config)
            troubles = (safe_mode, keeper.trouble, reception.trouble, folder.trouble if folder else "", trail.trouble)
            trouble = next(filter(None, troubles), "") or repaired_lately(config.state_dir)
            _report(health, trouble, listener, reception, keeper)
            if reception.accepted != buffers_of and not listener.associations:
                buffers_of = reception.accepted
                tidy()  # associations are circles of objects, and of stored images glibc keeps about 10 MB more
            if signals.wait(0.0 if more else LOOK_EVERY):
                break
    except Damaged as error:
        status, last_words = 1, str(error)
    listener.stop(FINISH_WITHIN)
    _record_receipts(trail, reception, dicom.ae_title, stopping=True)
    trail.record(actions.application(trail.source, starts=False, ae_titles=[dicom.ae_title]))
    trail.close()
    health.report(State.DOWN, last_words)
    store.close()
    return status


def _report(health: HealthFile, trouble: str, listener: DicomListener, reception: Reception, keeper: Keeper) -> None:
    health.report(
        State.DEGRADED if trouble else State.UP,
        trouble,
        dicom_port=listener.port,
        dicom_tls_port=listener.tls_port,
        associations=listener.associations,
        accepted=reception.accepted,
        refused=reception.refused,
        **keeper.figures,
    )


def _listening(dicom: Dicom, reception: Reception, health: HealthFile) -> DicomListener | None:
    """The listener; None, told where people look, when its address or its certificate cannot be had."""
    try:
        return DicomListener(dicom, reception)
    except OSError as error:
        emit(events.LISTEN_REFUSED, host=dicom.host, port=error.filename, error=error.strerror or error)
        health.report(State.DOWN, reasons.CANNOT_LISTEN.format(port=error.filename, error=error.strerror))
    except TlsUnusable as error:
        emit(events.TLS_UNUSABLE, file=error.file, error=error)
        health.report(State.DOWN, reasons.TLS_CANNOT_START.format(why=error))
    return None


def _record_receipts(trail: AuditTrail, reception: Reception, ae_title: str, *, stopping: bool = False) -> None:
    receipts = reception.receipts
    trail.record(*receipts.take(trail.source, ae_title, stopping=stopping))
    refused = receipts.take_refused().items()
    trail.record_once({f"node {host}": actions.node_refused(trail.source, host, why) for host, why in refused})


def _retire(trail: AuditTrail, config: Config) -> None:
    try:
        trail.retire(config.audit.days, only_forwarded=config.audit.syslog is not None)
    except (OSError, sqlite3.Error) as error:
        emit(events.AUDIT_NOT_RETIRED, error=type(error).__name__)
