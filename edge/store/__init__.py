"""The one durable memory of the box: what was accepted, what was answered, and what is owed to others."""

from edge.store.delivery import Delivery
from edge.store.doorbell import Doorbell, ring
from edge.store.keeper import Keeper
from edge.store.lock import AlreadyRunning, hold_lock
from edge.store.machine import Machine, Room
from edge.store.outbox import Outbox, OutboxMessage
from edge.store.retention import Band
from edge.store.store import Accepted, Owed, Queue, StorageFull, Store

__all__ = [
    "Accepted",
    "AlreadyRunning",
    "Band",
    "Delivery",
    "Doorbell",
    "Keeper",
    "Machine",
    "Outbox",
    "OutboxMessage",
    "Owed",
    "Queue",
    "Room",
    "StorageFull",
    "Store",
    "hold_lock",
    "ring",
]
