"""The one durable memory of the box: what was accepted, what was answered, and what is owed to others."""

from edge.store.delivery import Delivery
from edge.store.doorbell import Doorbell, ring
from edge.store.lock import AlreadyRunning, hold_lock
from edge.store.outbox import Outbox, OutboxMessage
from edge.store.store import Accepted, Owed, Queue, StorageFull, Store

__all__ = [
    "Accepted",
    "AlreadyRunning",
    "Delivery",
    "Doorbell",
    "Outbox",
    "OutboxMessage",
    "Owed",
    "Queue",
    "StorageFull",
    "Store",
    "hold_lock",
    "ring",
]
