"""The one durable memory of the box: what was accepted, what was answered, and what is owed to others.

What opens sealed data is loaded when it is first asked for: who needs the outbox, a lock or a doorbell alone, as `sync`
does, has no code in memory that could, and saves its 7 MB.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from edge.store.damage import Damaged
from edge.store.doorbell import Doorbell, ring
from edge.store.lock import AlreadyRunning, hold_lock
from edge.store.machine import Machine, Room
from edge.store.outbox import Outbox, OutboxMessage
from edge.store.repair import repaired_lately, repairs

if TYPE_CHECKING:
    from edge.store.answers import Owed, Queue
    from edge.store.arriving import Arriving, heard
    from edge.store.delivery import Delivery
    from edge.store.keeper import Keeper
    from edge.store.keys import VaultLocked
    from edge.store.retention import Band
    from edge.store.sealed_file import SealedFile, read_sealed
    from edge.store.store import Accepted, StorageFull, Store
    from edge.store.vault import Tampered

__all__ = [
    "Accepted",
    "AlreadyRunning",
    "Arriving",
    "Band",
    "Damaged",
    "Delivery",
    "Doorbell",
    "Keeper",
    "Machine",
    "Outbox",
    "OutboxMessage",
    "Owed",
    "Queue",
    "Room",
    "SealedFile",
    "StorageFull",
    "Store",
    "Tampered",
    "VaultLocked",
    "heard",
    "hold_lock",
    "read_sealed",
    "repaired_lately",
    "repairs",
    "ring",
]

_LATER = {
    "arriving": ("Arriving", "heard"),
    "answers": ("Owed", "Queue"),
    "delivery": ("Delivery",),
    "keeper": ("Keeper",),
    "keys": ("VaultLocked",),
    "retention": ("Band",),
    "sealed_file": ("SealedFile", "read_sealed"),
    "store": ("Accepted", "StorageFull", "Store"),
    "vault": ("Tampered",),
}


def __getattr__(name: str) -> object:
    for module, names in _LATER.items():
        if name in names:
            return getattr(import_module(f"edge.store.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
