"""The one durable memory of the box: what was accepted, what was answered, and what is owed to others."""

from edge.store.doorbell import Doorbell, ring
from edge.store.outbox import Outbox, OutboxMessage
from edge.store.store import Accepted, Owed, Queue, StorageFull, Store

__all__ = ["Accepted", "Doorbell", "Outbox", "OutboxMessage", "Owed", "Queue", "StorageFull", "Store", "ring"]
