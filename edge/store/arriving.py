"""An object that is whole while the disk still takes it: told to a service, which may begin to work on it.

It is not accepted yet, and may never be: nothing may be said of it before the journal has it under its id. A hint, as a
ring of the doorbell is: who misses it finds the object when it is accepted.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec

from edge.records import Instance, Record
from edge.store.doorbell import Doorbell, Note, ring
from edge.store.sealed_file import SealedFile


class Arriving(NamedTuple):
    """An object on its way to the disk: the instance that it becomes, and its file; who hears of it closes that."""

    instance: Instance
    file: SealedFile


class _Told(Record, frozen=True):
    """What a note says; the file's key opens no other, and goes where the ring's owner alone may listen."""

    instance: Instance
    secret: bytes


def announce(state_dir: Path, service: str, instance: Instance, open_file: Callable[[], SealedFile]) -> None:
    """Tell a service, if it is there and not awake already, what an object is to become. Never fails."""
    with suppress(OSError):
        file = open_file()
        try:
            ring(state_dir, service, Note(msgspec.msgpack.encode(_Told(instance, file.secret)), file.descriptor))
        finally:
            os.close(file.descriptor)


def heard(bell: Doorbell) -> Arriving | None:
    """The last object that was announced since the last call, if one was."""
    note = bell.note()
    if note is None:
        return None
    told = msgspec.msgpack.decode(note.text, type=_Told)
    return Arriving(told.instance, SealedFile(note.descriptor, told.secret))
