"""The policy alone: bands with hysteresis, and what may go, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config import Storage
from edge.records import Kept
from edge.store import Band, Room
from edge.store.retention import LEAVE_AT, Held, Removal, by_age, for_room, hours_until, limit, next_band, room_wanted

GIB = 1 << 30
DAY = 86400.0
SMALL_DISK, LARGE_DISK = 32 * GIB, 1024 * GIB
ROOM, WARN, SPARE, FULL = Band


@pytest.mark.parametrize(
    ("band", "total", "bytes_free"),
    [
        (WARN, SMALL_DISK, 0.15 * SMALL_DISK),
        (SPARE, SMALL_DISK, 0.10 * SMALL_DISK),
        (FULL, SMALL_DISK, 0.05 * SMALL_DISK),
        (WARN, LARGE_DISK, 10 * GIB),
        (SPARE, LARGE_DISK, 5 * GIB),
        (FULL, LARGE_DISK, 2 * GIB),
    ],
)
def test_a_limit_is_a_share_of_a_small_disk_and_bytes_of_a_large_one(band: Band, total: int, bytes_free: float) -> None:
    assert limit(band, total, Storage()) == pytest.approx(bytes_free)


@pytest.mark.parametrize(
    ("free_gib", "previous", "band"),
    [
        (100, ROOM, ROOM),
        (10, ROOM, ROOM),
        (9.99, ROOM, WARN),
        (5, ROOM, WARN),
        (4.99, ROOM, SPARE),
        (2, ROOM, SPARE),
        (1.99, ROOM, FULL),
        (0, ROOM, FULL),
        (12.49, WARN, WARN),
        (12.5, WARN, ROOM),
        (6.24, SPARE, SPARE),
        (6.25, SPARE, WARN),
        (2.49, FULL, FULL),
        (2.5, FULL, SPARE),
        (6.24, FULL, SPARE),
        (6.25, FULL, WARN),
        (12.49, FULL, WARN),
        (12.5, FULL, ROOM),
        (5.5, WARN, WARN),
    ],
)
def test_a_band_is_left_a_quarter_above_where_it_was_entered(free_gib: float, previous: Band, band: Band) -> None:
    assert next_band(Room(int(free_gib * GIB), LARGE_DISK), previous, Storage()) is band


_DISKS = st.integers(min_value=0, max_value=LARGE_DISK)


@given(total=_DISKS, free=_DISKS, previous=st.sampled_from(Band))
def test_no_more_room_makes_a_band_worse_and_none_flickers(total: int, free: int, previous: Band) -> None:
    now = next_band(Room(free, total), previous, Storage())
    assert next_band(Room(free, total), now, Storage()) is now, "the same room stays the same band"
    assert next_band(Room(free * 2, total), previous, Storage()) <= now
    assert next_band(Room(free, total), ROOM, Storage()) <= now
    if now < previous:
        worse = limit(Band(now + 1), total, Storage())
        assert free >= worse * LEAVE_AT, "left with room to spare"


def held(kept: Kept, *days: float) -> list[Held]:
    return [Held(f"{kept} {age:g}", age * DAY, kept, GIB) for age in days]


@pytest.mark.parametrize(
    ("rows", "goes"),
    [
        (held(Kept.ALL, 91), [Removal("all 91", Kept.NOTHING)]),
        (held(Kept.IMAGE, 91), [Removal("image 91", Kept.NOTHING)]),
        (held(Kept.NOTHING, 91), []),
        (held(Kept.NOTHING, 731), [Removal("nothing 731", None)]),
        (held(Kept.ALL, 731), [Removal("all 731", None)]),
        (held(Kept.ALL, 90) + held(Kept.NOTHING, 730), []),
        ([one._replace(undelivered=True) for one in held(Kept.ALL, 1000)], []),
        ([], []),
    ],
)
def test_what_is_too_old(rows: list[Held], goes: list[Removal]) -> None:
    assert by_age(rows, Storage()) == goes


def test_without_days_nothing_is_too_old() -> None:
    for_ever = Storage(image_days=None, result_days=None)
    assert by_age(held(Kept.ALL, 1e6) + held(Kept.NOTHING, 1e6), for_ever) == []


def unanswered(rows: list[Held]) -> list[Held]:
    """Flagged, and acknowledged by nobody."""
    return [one._replace(id=f"flagged {one.id}", unanswered=True) for one in rows]


def test_what_a_pacs_lacks_goes_last_for_room_but_goes() -> None:
    lacking = [one._replace(id="lacking", undelivered=True) for one in held(Kept.IMAGE, 60)]
    assert for_room(lacking + held(Kept.IMAGE, 50), GIB) == [Removal("image 50", Kept.NOTHING)]
    assert for_room(lacking, GIB) == [Removal("lacking", Kept.NOTHING)]


OLD = held(Kept.ALL, 80, 70) + held(Kept.IMAGE, 60, 50) + held(Kept.NOTHING, 40) + held(Kept.ALL, 0.9, 0.1)


@pytest.mark.parametrize(
    ("rows", "need", "goes"),
    [
        (OLD, 1, [Removal("all 80", Kept.IMAGE), Removal("all 70", Kept.IMAGE)]),
        (OLD[2:], 1, [Removal("image 60", Kept.NOTHING)]),
        (OLD[2:], GIB, [Removal("image 60", Kept.NOTHING)]),
        (OLD[2:], GIB + 1, [Removal("image 60", Kept.NOTHING), Removal("image 50", Kept.NOTHING)]),
        (OLD[4:], 2 * GIB, [Removal("all 0.9", Kept.NOTHING), Removal("all 0.1", Kept.NOTHING)]),
        (OLD[2:], 0, []),
        (held(Kept.NOTHING, 80), GIB, []),
        ([], GIB, []),
        # What is flagged and acknowledged by nobody goes last, however old it is and whatever goes in its place.
        (unanswered(OLD[:2]) + OLD[1:2], 1, [Removal("all 70", Kept.IMAGE)]),
        (unanswered(OLD[:2]) + OLD[3:4], 1, [Removal("image 50", Kept.NOTHING)]),
        (unanswered(OLD[2:3]) + OLD[5:], GIB, [Removal("all 0.9", Kept.NOTHING)]),
        (unanswered(OLD[2:3]) + OLD[6:], 5 * GIB, [Removal("all 0.1", Kept.NOTHING)]),
        (unanswered(OLD[1:3]) + OLD[4:5], 1, [Removal("flagged all 70", Kept.IMAGE)]),
        (unanswered(OLD[2:4]), GIB, [Removal("flagged image 60", Kept.NOTHING)]),
    ],
)
def test_for_room_old_pictures_go_first_and_then_as_many_images_as_it_takes(
    rows: list[Held], need: float, goes: list[Removal]
) -> None:
    assert for_room(rows, need) == goes


@pytest.mark.parametrize(
    ("free_gib", "band", "gib"), [(100, ROOM, 0), (6, WARN, 0), (6, SPARE, 0.25), (1, FULL, 5.25), (7, SPARE, 0)]
)
def test_room_is_made_until_pictures_are_made_again(free_gib: float, band: Band, gib: float) -> None:
    assert room_wanted(Room(int(free_gib * GIB), LARGE_DISK), band, Storage()) == gib * GIB


@pytest.mark.parametrize(
    ("then", "now", "hours"),
    [
        ((0, 11 * GIB), (3600, 10 * GIB), 8.0),
        ((0, 11 * GIB), (1800, 10 * GIB), 4.0),
        ((0, 10 * GIB), (3600, 10 * GIB), None),
        ((0, 10 * GIB), (3600, 11 * GIB), None),
        ((0, 11 * GIB), (0, 10 * GIB), None),
        ((0, 2 * GIB), (3600, 1 * GIB), 0.0),
    ],
)
def test_hours_until_full(then: tuple[float, int], now: tuple[float, int], hours: float | None) -> None:
    assert hours_until(2 * GIB, then, now) == hours
