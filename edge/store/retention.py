"""Which band the disk is in, and what may go. Pure: free bytes and rows in, decisions out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from edge.config import Storage
from edge.records import Kept
from edge.store.machine import Room

LEAVE_AT = 1.25
"""A band is left when this many times its limit is free: one that is entered and left with each image helps nobody."""

_DAY = 86400.0


class Band(IntEnum):
    """How the disk is, and what the box does about it."""

    ROOM = 0
    WARN = 1
    """A person is told."""
    SPARE = 2
    """No derived pictures are made, and what may go makes room, oldest first."""
    FULL = 3
    """No image is taken: the rest is for database and logs."""


class Held(NamedTuple):
    """An answered object that is owed to nobody.

    Attributes:
        id: Its id.
        age: Seconds since it came.
        kept: What is still kept of it.
        size: Bytes of the image.
        unanswered: It was flagged, and nobody has acknowledged that.
        undelivered: Something of its result must still reach a PACS.
    """

    id: str
    age: float
    kept: Kept
    size: int
    unanswered: bool = False
    undelivered: bool = False


class Removal(NamedTuple):
    """What becomes of one object: what is kept of it; None when its result goes, too."""

    id: str
    leaves: Kept | None


def limit(band: Band, total: int, storage: Storage) -> float:
    """Below how many free bytes a band begins: its share of the disk or its bytes, whichever is less."""
    percent, megabytes = {
        Band.ROOM: (0, 0),
        Band.WARN: (storage.warn_below_percent, storage.warn_below_mb),
        Band.SPARE: (storage.spare_below_percent, storage.spare_below_mb),
        Band.FULL: (storage.refuse_below_percent, storage.refuse_below_mb),
    }[band]
    return min(total * percent / 100, megabytes << 20)


def next_band(room: Room, previous: Band, storage: Storage) -> Band:
    """The band that the disk is in now, having been in `previous`."""
    for band in (Band.FULL, Band.SPARE, Band.WARN):
        if room.free < limit(band, room.total, storage) * (LEAVE_AT if band <= previous else 1.0):
            return band
    return Band.ROOM


def by_age(held: Sequence[Held], storage: Storage) -> list[Removal]:
    """What goes because it is too old.

    Args:
        held: Oldest first.
        storage: For how long what is kept.
    """
    return [removal for one in held if (removal := _by_age(one, storage))]


def for_room(held: Sequence[Held], need: float) -> list[Removal]:
    """What goes to make room: derived pictures that are older than a day; when there are none, the oldest images.

    Pictures of today's images are what people look at, and a hundred of them need the room of one old image. Of what is
    flagged and acknowledged by nobody, whom somebody must still look at, or of what a PACS still lacks, nothing goes
    while anything else can.

    Args:
        held: The oldest of each kind of `Kept`, oldest first, both of those that are unanswered and of the others.
        need: How many bytes of room are wanted.
    """
    spared = [one for one in held if one.unanswered or one.undelivered]
    others = _for_room([one for one in held if one not in spared], need)
    return others or _for_room(spared, need)


def room_wanted(room: Room, band: Band, storage: Storage) -> float:
    """How many bytes must become free until pictures are made again; 0 where they are."""
    return max(0.0, limit(Band.SPARE, room.total, storage) * LEAVE_AT - room.free) if band >= Band.SPARE else 0.0


def hours_until(free_below: float, then: tuple[float, int], now: tuple[float, int]) -> float | None:
    """Hours until less than `free_below` bytes are free, if it goes on as between two looks; None when it does not.

    Args:
        free_below: Bytes.
        then: An earlier look: seconds by any steady clock, and free bytes.
        now: The present one.
    """
    seconds, used = now[0] - then[0], then[1] - now[1]
    if seconds <= 0 or used <= 0:
        return None
    return max(0.0, now[1] - free_below) / used * seconds / 3600


def _by_age(one: Held, storage: Storage) -> Removal | None:
    if one.undelivered:
        return None
    days = one.age / _DAY
    if storage.result_days is not None and days > storage.result_days:
        return Removal(one.id, None)
    if one.kept is not Kept.NOTHING and storage.image_days is not None and days > storage.image_days:
        return Removal(one.id, Kept.NOTHING)
    return None


def _for_room(held: Sequence[Held], need: float) -> list[Removal]:
    pictures = [Removal(one.id, Kept.IMAGE) for one in held if one.kept is Kept.ALL and one.age > _DAY]
    if pictures:
        return pictures
    chosen = []
    for one in held:
        if need <= 0:
            break
        if one.kept is not Kept.NOTHING:
            chosen.append(Removal(one.id, Kept.NOTHING))
            need -= one.size
    return chosen
