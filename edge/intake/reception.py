"""The door into the store for what arrives here: accepts and counts."""

from __future__ import annotations

import sqlite3
from threading import Lock

from edge import reasons
from edge.intake.receipts import Receipts
from edge.records import Arrival
from edge.store import Accepted, Delivery, StorageFull, Store


class Reception:
    """Shared by the listener's threads and the watch folder.

    Attributes:
        accepted: How many objects were accepted since the start, those that came again included.
        refused: How many were not.
        trouble: Why the store did not take the last object that it was given; empty when it did.
        receipts: What the audit trail is to tell of it.
        priority: Where an object stands in the queue, see `UrgentOrders.priority`.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self.receipts = Receipts()
        self.priority = store.urgent_orders.priority
        self.accepted = 0
        self.refused = 0
        self.trouble = ""

    def accept(self, data: bytes, arrival: Arrival) -> Accepted:
        """Take an object durably. Raises what `Store.accept` raises."""
        delivery = self.begin()
        delivery.write(data)
        return self.keep(delivery, arrival)

    def begin(self) -> Delivery:
        """Start an object that comes in pieces, for `keep`."""
        return self._store.begin()

    def keep(self, delivery: Delivery, arrival: Arrival) -> Accepted:
        """Take durably what was delivered. Raises what `Store.accept` raises."""
        try:
            accepted = self._store.keep(delivery, arrival)
        except (StorageFull, OSError, sqlite3.Error) as error:
            full = isinstance(error, StorageFull)
            self.refuse(reasons.DISK_FULL if full else reasons.DISK_OR_JOURNAL_FAILED)
            raise
        with self._lock:
            self.accepted += 1
            self.trouble = ""
        return accepted

    def refuse(self, trouble: str = "") -> None:
        """Count an object that was not accepted; `trouble` says what is wrong with the box, empty when nothing is."""
        with self._lock:
            self.refused += 1
            self.trouble = trouble or self.trouble
