"""What was received, as the audit trail is to tell it: a message for each association and patient, not for each image.

Nothing here touches the disk: a C-STORE waits for no audit message. The service's loop takes the messages when an
association has ended, or has gone on for `LONGEST` seconds, and writes them. When the service is killed before that,
the journal alone says what came, from whom and when.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import NamedTuple

from edge.identity import Identity
from edge.store.audit import actions
from edge.store.audit.actions import Received
from edge.store.audit.message import AuditMessage, AuditSource

LONGEST = 60.0
FOLDER = "watch folder"
_MOST_REFUSALS = 100


class Sender(NamedTuple):
    """Who sends in an association: its AE title and its address."""

    ae_title: str
    host: str


@dataclass
class _Receipt:
    """What came over one association so far, or from the folder (`sender` is None)."""

    sender: Sender | None
    since: float
    ended: bool = False
    received: Counter[Received] = field(default_factory=Counter)


class Receipts:
    """Shared by the network's threads, which add, and the service's loop, which takes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._lock = Lock()
        self._open: dict[Hashable, _Receipt] = {}
        self._refused: dict[str, str] = {}

    def add(self, association: Hashable, sender: Sender | None, identity: Identity, *, new: bool) -> None:
        """An object was accepted; `new` unless the store had it already. `association` tells apart those open now."""
        with self._lock:
            receipt = self._open.setdefault(association, _Receipt(sender, self._clock()))
            receipt.received[Received.of(identity, new=new)] += 1

    def ended(self, association: Hashable) -> None:
        """No more comes over it."""
        with self._lock:
            if association in self._open:
                self._open[association].ended = True

    def refused(self, host: str, why: str) -> None:
        """A sender may not associate, or there is no TLS with it."""
        with self._lock:
            if len(self._refused) < _MOST_REFUSALS:
                self._refused.setdefault(host, why)

    def take(self, source: AuditSource, ae_title: str, *, stopping: bool = False) -> list[AuditMessage]:
        """The messages about what is over; about all when the service stops."""
        now = self._clock()
        with self._lock:
            over = [key for key, one in self._open.items() if one.ended or stopping or now - one.since >= LONGEST]
            receipts = [self._open.pop(key) for key in over]
        return [message for receipt in receipts for message in _messages(receipt, source, ae_title)]

    def take_refused(self) -> dict[str, str]:
        """The hosts that were refused, each with its first reason."""
        with self._lock:
            refused, self._refused = self._refused, {}
        return refused


def _messages(receipt: _Receipt, source: AuditSource, ae_title: str) -> list[AuditMessage]:
    if receipt.sender is None:
        return [actions.imported(source, None, receipt.received, FOLDER)]
    return actions.transferred(source, actions.modality(*receipt.sender), receipt.received, ae_title)
