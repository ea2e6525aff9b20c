"""The one durable memory of the box: what was accepted, what was answered, and what is owed to others."""

from edge.store.delivery import Delivery
from edge.store.doorbell import Doorbell, ring
from edge.store.keys import VaultLocked
from edge.store.lock import AlreadyRunning, hold_lock
from edge.store.outbox import Outbox, OutboxMessage
from edge.store.sealed_file import SealedFile, read_sealed
from edge.store.store import Accepted, Owed, Queue, StorageFull, Store
from edge.store.vault import Tampered

__all__ = [
    "Accepted",
    "AlreadyRunning",
    "Delivery",
    "Doorbell",
    "Outbox",
    "OutboxMessage",
    "Owed",
    "Queue",
    "SealedFile",
    "StorageFull",
    "Store",
    "Tampered",
    "VaultLocked",
    "hold_lock",
    "read_sealed",
    "ring",
]
