"""Runs on a small file system of its own, with the real keeper: fills it, has something else fill it, says the counts.

Fails by an exception when an image is lost that is not answered, or when the box does not come back by itself.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import msgspec

from edge.config import Storage
from edge.records import Kept
from edge.store import Band, Keeper, StorageFull, Store
from tests.store.samples import SUBJECT, arrival, claimed, flagged

LIMITS = Storage(warn_below_percent=50, spare_below_percent=40, refuse_below_percent=20)
_IMAGE, _PICTURE = bytes(400_000), bytes(20_000)
_numbers = count()


def main(state: Path) -> None:
    """Three ways to run out of room."""
    store = Store(state, storage=LIMITS)
    keeper = Keeper(store, LIMITS, clock=_steady().__next__)
    waiting = _fill_with_images(store)
    assert store.band() is Band.FULL
    keeper.tend()
    assert all(len(store.read(one)) == len(_IMAGE) for one in waiting), "nothing goes that has no answer"
    _answer_all(store)
    counts = {"waited": len(waiting), "taken_after": 0, "taken_after_a_full_disk": 0, "taken_after_a_restart": 0}
    counts["taken_after"] = _taken(store, keeper, 100)
    _fill(state / "filler")
    counts["taken_after_a_full_disk"] = _taken(store, keeper, 1)
    (state / "filler").unlink()
    _taken(store, keeper, 100)
    _fill(state / "filler")
    store.close()
    store = Store(state, storage=LIMITS)
    store.sweep()
    keeper = Keeper(store, LIMITS, clock=_steady().__next__)
    counts["taken_after_a_restart"] = _taken(store, keeper, 1)
    assert len(store.results(limit=1000)) == len({result.instance_id for result in store.results(limit=1000)})
    for result in store.results(limit=1000):
        spooled = (state / "spool" / result.instance_id).exists()
        assert spooled == (result.kept is not Kept.NOTHING)
    sys.stdout.buffer.write(msgspec.json.encode(counts))


def _steady() -> Iterator[float]:
    return (float(number) for number in count())


def _fill_with_images(store: Store) -> list[str]:
    taken: list[str] = []
    try:
        while True:
            taken.append(_accept(store))
    except StorageFull:
        return taken


def _accept(store: Store) -> str:
    number = next(_numbers)
    return store.accept(number.to_bytes(8) + _IMAGE[8:], arrival(f"1.{number}")).instance.id


def _taken(store: Store, keeper: Keeper, wanted: int) -> int:
    """How many of these are taken, each at once or after the keeper has been called ten times at most."""
    for number in range(wanted):
        for _ in range(10):
            keeper.tend()
            try:
                instance_id = _accept(store)
            except StorageFull:
                continue
            _answer_all(store)
            if store.band() < Band.SPARE:
                store.write_picture(instance_id, "preview.jpg", _PICTURE)
            break
        else:
            return number
    return wanted


def _answer_all(store: Store) -> None:
    while store.queue().depth:
        store.commit(claimed(store), flagged(), SUBJECT)


def _fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        os.fsync(file.fileno())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
