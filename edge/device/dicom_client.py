"""DICOM as a client: an association in which an answer goes to who waits for it (pynetdicom 3.0.4)."""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from typing import Any

from pynetdicom import AE

_LOOK_EVERY = 0.05


def associate(entity: AE, host: str, port: int, **options: Any) -> Any:
    """`AE.associate`: the association, established or not. Its own thread takes no answer to what we ask in it.

    Args:
        entity: Which side we are, and what it proposes.
        host: The peer's address.
        port: The peer's port.
        options: Further ones of pynetdicom's.

    Raises:
        RuntimeError, ValueError, TypeError, OSError: As `AE.associate`.
    """
    association = entity.associate(host, port, **options)
    association._reactor_checkpoint = Checkpoint(association.is_alive)
    return association


class Checkpoint:
    """Where an association's thread rests while somebody else waits for an answer.

    pynetdicom has an event and a mark here: the thread marks itself as resting, passes the event or rests, and takes
    the mark away. Between the last two it has passed already, marked all the same, and then takes from the queue the
    answer that another waits for until the time for it is over.
    """

    def __init__(self, is_alive: Callable[[], bool]) -> None:
        """Open; `is_alive` says whether there is still a thread that may come to rest."""
        self._changed = Condition()
        self._is_alive = is_alive
        self._is_open = True
        self._rests = False

    def set(self) -> None:
        """Let the thread go on."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Have the thread rest; returns when it does, or has ended. Not for that thread itself."""
        with self._changed:
            self._is_open = False
            while not self._rests and self._is_alive():
                self._changed.wait(_LOOK_EVERY)  # nobody tells of its end

    def wait(self) -> None:
        """For the thread: rest, if it is to."""
        with self._changed:
            self._rests = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open)
            self._rests = False
