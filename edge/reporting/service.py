"""The reporting service: makes the objects of what was answered, and has a courier bring them to each destination.

It stands apart and gives way to everything else: neither an image nor a page waits for a PACS.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from threading import Event, Lock, Thread

from edge import events, reasons
from edge.config import Config
from edge.config_reporting import Destination
from edge.config_section import ConfigError
from edge.device.health import Figure, HealthFile, State
from edge.device.signals import stop_on_signals
from edge.events import emit
from edge.reporting.courier import Courier
from edge.reporting.maker import QUIET, Maker
from edge.reporting.objects import ORU
from edge.reporting.pacs import listen_for_commitment, silence_libraries
from edge.reporting.worklist import Orders
from edge.store import Damaged, Doorbell, Store, hold_lock, ring
from edge.store.audit import AuditTrail, actions, open_trail
from edge.store.deliveries import Row, Standing
from edge.store.outbox import oldest_news

LOOK_EVERY = 1.0
ORDERS_EVERY = 30.0
STOP_WITHIN = 2.0
_COURTESY = 5
"""nice(2): little, as whoever waits for the journal's lock waits for its holder, however little that is let run."""


def serve(config: Config) -> int:
    """Make and send until SIGTERM or SIGINT; what is not delivered stays in the journal.

    Raises:
        ConfigError: The configuration names no destination.
        AlreadyRunning: Another reporting service works on this state folder.
    """
    if not config.reporting.destinations:
        raise ConfigError("reporting.destinations: empty: add one, or do not start the service")
    with suppress(OSError):  # under systemd its unit has said so already, and nobody may say it again
        os.nice(_COURTESY)
    stopping = stop_on_signals(partial(ring, config.state_dir, "reporting"))
    silence_libraries()
    hold_lock(config.state_dir, "reporting")
    bell, health = Doorbell(config.state_dir, "reporting"), HealthFile(config.state_dir, "reporting")
    store = Store(config.state_dir, storage=config.storage)
    trail = open_trail(config, "reporting")
    status, last_words = 0, reasons.STOPPED
    reporting = Reporting(config, store, trail, stopping)
    try:
        reporting.start()
        while not stopping.is_set():
            store.check()
            trail.check()
            made = reporting.make()
            state, reason = condition(reporting.couriers, reporting.standing(), reporting.trouble)
            health.report(state, reason, **reporting.figures())
            if not made:
                bell.wait(QUIET / 2 if reporting.waits else LOOK_EVERY)
    except Damaged as error:
        status, last_words = 1, str(error)
    except OSError as error:
        emit(events.REPORTING_FAILED, error=error.strerror or type(error).__name__)
        status, last_words = 1, reasons.NO_COMMITMENT_ADDRESS
    stopping.set()
    reporting.stop()
    health.report(State.DOWN, last_words)
    bell.close()
    trail.close()
    store.close()
    return status


class Reporting:
    """The maker and the couriers over one store.

    Attributes:
        couriers: One for each destination.
        trouble: Why nothing can be made; empty when it can.
    """

    def __init__(self, config: Config, store: Store, trail: AuditTrail, stopping: Event) -> None:
        self._config = config
        self._store = store
        self._trail = trail
        self._stopping = stopping
        self._maker = Maker(store, config)
        self._wake = Event()
        self._lock = Lock()
        self._transfers: dict[str, Counter[actions.Received]] = {}
        self._standing: dict[str, Standing] = {}
        self._listener: object | None = None
        self._threads: list[Thread] = []
        self.trouble = ""
        self.couriers = [Courier(store, destination, self._sent) for destination in config.reporting.destinations]

    def start(self) -> None:
        """See to what a crash or a repair has left, then begin to send. Raises `OSError`, `sqlite3.Error`."""
        deliveries = self._store.deliveries
        names = [courier.destination.name for courier in self.couriers]
        deliveries.sweep(names)
        if deliveries.must_owe_again():
            count = deliveries.owe_since(oldest_news(self._store.lifetime.now().lifetime))
            emit(events.REPORTS_OWED_AGAIN, count=count)
        for courier in self.couriers:
            if not courier.destination.storage_commitment:
                rows = deliveries.uncommitted(courier.destination.name, 1 << 30)
                deliveries.delivered([row.number for row in rows])
        host, port = self._config.reporting.commitment_host, self._config.reporting.commitment_port
        if port is not None:
            self._listener = listen_for_commitment(host, port, self._committed)
        waiting = sum(each.waiting for each in self.standing().values())
        emit(events.REPORTING_READY, destinations=", ".join(names), waiting=waiting)
        self._threads = [Thread(target=self._run, args=(courier,), daemon=True) for courier in self.couriers]
        for thread in self._threads:
            thread.start()
        if self._config.reporting.worklist:
            Thread(target=self._watch, args=(Orders(self._config.reporting.worklist),), daemon=True).start()

    def make(self) -> bool:
        """Make what is owed; whether something was made. Raises `Damaged` alone."""
        try:
            made = self._maker.turn()
            self._standing = self._store.deliveries.standing()
            self._tell_transfers()
        except Damaged:
            raise
        except (OSError, sqlite3.Error) as error:
            said = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
            if not self.trouble:
                emit(events.REPORTING_FAILED, error=said)
            self.trouble = reasons.NO_REPORTS
            return False
        self.trouble = ""
        if made:
            self._wake.set()
        return made

    @property
    def waits(self) -> bool:
        """Whether something is to be made as soon as it is quiet."""
        return self._maker.waits

    def standing(self) -> dict[str, Standing]:
        """How each destination stands, as of the last look."""
        return self._standing

    def figures(self) -> dict[str, Figure]:
        """For the health file: what waits for whom."""
        figures: dict[str, Figure] = {}
        for courier in self.couriers:
            name = courier.destination.name
            standing = self._standing.get(name, Standing())
            figures |= {f"{name}_waiting": standing.waiting, f"{name}_parked": standing.parked}
            figures |= {f"{name}_uncommitted": standing.stored, f"{name}_trouble": courier.trouble}
        return figures

    def stop(self) -> None:
        """Let the couriers end the object in hand."""
        self._wake.set()
        deadline = time.monotonic() + STOP_WITHIN
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._listener is not None:
            self._listener.shutdown()  # type: ignore[attr-defined]
        with suppress(sqlite3.Error, OSError):
            self._tell_transfers()

    def _run(self, courier: Courier) -> None:
        failed = False
        while not self._stopping.is_set():
            more = False
            try:
                more = courier.turn(self._stopping)
                failed = False
            except Damaged:
                return  # the service's loop ends for it
            except (OSError, sqlite3.Error) as error:
                if not failed:
                    emit(events.REPORTING_FAILED, error=type(error).__name__)
                failed = True
            except Exception as error:  # a defect costs a turn, not the destination
                emit(events.DEFECT, error=type(error).__name__, where=events.place(error))
            if not more:
                self._wake.wait(LOOK_EVERY)
                self._wake.clear()

    def _watch(self, orders: Orders) -> None:
        """Keep the list of urgent orders as the worklist has it."""
        failed = False
        while not self._stopping.is_set():
            try:
                names = orders.urgent(date.today())
                if names is not None and self._store.urgent_orders.write(names):
                    emit(events.URGENT_ORDERS, count=len(names))
                failed = False
            except OSError as error:  # the disk: the next look tries again
                if not failed:
                    emit(events.REPORTING_FAILED, error=error.strerror or type(error).__name__)
                failed = True
            except Exception as error:  # a defect costs a look
                emit(events.DEFECT, error=type(error).__name__, where=events.place(error))
            self._stopping.wait(ORDERS_EVERY)

    def _committed(self, transaction: str, kept: Sequence[str], failed: Sequence[str]) -> None:
        for courier in self.couriers:
            courier.committed(transaction, kept, failed)

    def _sent(self, destination: Destination, row: Row) -> None:
        """Note a transfer for the audit trail."""
        stored = self._store.result(row.result_id)
        if stored is None:
            return
        subject = stored.subject
        sop_class = "" if row.object == ORU else row.form
        one = actions.Received(subject.patient_id or "", True, subject.study_instance_uid or "", sop_class)
        with self._lock:
            self._transfers.setdefault(destination.name, Counter())[one] += 1

    def _tell_transfers(self) -> None:
        with self._lock:
            transfers, self._transfers = self._transfers, {}
        for courier in self.couriers:
            to = courier.destination
            for message in actions.delivered(self._trail.source, transfers.get(to.name, Counter()), to):
                self._trail.record(message)


def condition(couriers: Sequence[Courier], standing: dict[str, Standing], trouble: str) -> tuple[State, str]:
    """The service's state, and for each destination that is not as it should be what waits and why.

    In words that may leave the box over MQTT as well (`edge/sync/telemetry.py`).
    """
    amiss = [trouble] if trouble else []
    for courier in couriers:
        name = courier.destination.name
        how = standing.get(name, Standing())
        if courier.trouble and (how.waiting or how.stored):
            count = how.waiting + how.stored
            amiss.append(reasons.RESULTS_WAIT.format(count=count, destination=name, why=courier.trouble))
        if how.parked:
            amiss.append(reasons.RESULTS_PARKED.format(count=how.parked, destination=name))
    return (State.DEGRADED if amiss else State.UP, reasons.joined(amiss))
