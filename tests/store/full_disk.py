"""Runs on a small file system of its own: accepts and commits while it is full to the last page, says what happened.

Fails by an exception when anything but "all or nothing" is seen.
"""

from __future__ import annotations

import errno
import os
import sqlite3
import sys
from pathlib import Path

import msgspec

from edge.config import Storage
from edge.records import Subject
from edge.store import StorageFull, Store
from tests.store.samples import arrival, claimed, flagged, spooled

NO_RESERVE = Storage(warn_below_mb=0, spare_below_mb=0, refuse_below_mb=0)
"""As if something else had filled the disk in one moment."""

_PAGE = 4096


def main(state: Path) -> None:
    """Try every amount of room from 0 to 12 pages."""
    store = Store(state, storage=NO_RESERVE)
    store.accept(b"the first", arrival())
    counts = {"accepted": 1, "refused": 0, "commits_refused": 0}
    for pages in range(13):
        _fill(state / "filler", pages)
        for size in (1, _PAGE + 1):
            before = spooled(state)
            try:
                accepted = store.accept(bytes([pages]) * size, arrival(f"1.{pages}.{size}"))
                assert accepted.new
                assert spooled(state) == before | {accepted.instance.id}
                counts["accepted"] += 1
            except StorageFull:
                assert spooled(state) == before
                counts["refused"] += 1
            assert not list((state / "spool" / "incoming").iterdir())
        assert store.queue().depth == counts["accepted"], "reading goes on"
        (state / "filler").unlink()
    counts["commits_refused"] = _commit_on_a_full_disk(store, state)
    assert len(store.results(limit=100)) == counts["accepted"] == len(spooled(state))
    sys.stdout.buffer.write(msgspec.json.encode(counts))


def _commit_on_a_full_disk(store: Store, state: Path) -> int:
    refused = 0
    while store.queue().depth:
        _fill(state / "filler", 0)
        try:
            instance = claimed(store)
            store.commit(instance, flagged(), Subject(), explanation="x" * 100_000)
        except sqlite3.OperationalError as error:
            assert error.sqlite_errorcode == sqlite3.SQLITE_FULL, error
            refused += 1
        (state / "filler").unlink()
        store.recover()
        store.commit(claimed(store), flagged(), Subject(), explanation="x" * 100)
    return refused


def _fill(filler: Path, leave_pages: int) -> None:
    """Take all room but some pages."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(_PAGE))
        except OSError as error:
            assert error.errno == errno.ENOSPC
        os.ftruncate(file.fileno(), max(0, file.tell() - leave_pages * _PAGE))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
