"""Objects that are told of while the disk still takes them."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge.store import Doorbell, StorageFull, Store, heard, read_sealed
from edge.store.spool import Spool
from tests.store.samples import arrival


def test_what_is_accepted_was_told_of_with_its_bytes(store: Store) -> None:
    bell = Doorbell(store.state_dir, "inference")
    accepted = store.accept(b"image", arrival("1.2.3"))
    assert bell.wait(0.0)
    arriving = heard(bell)
    assert arriving
    assert arriving.instance == accepted.instance
    assert read_sealed(*arriving.file).data == b"image"
    os.close(arriving.file.descriptor)
    assert heard(bell) is None, "once"
    bell.close()


def test_what_the_disk_does_not_take_was_told_of_and_is_not_accepted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    bell = Doorbell(store.state_dir, "inference")
    monkeypatch.setattr(Spool, "flush_folder", _full)
    with pytest.raises(StorageFull):
        store.accept(b"image", arrival())
    assert bell.wait(0.0)
    arriving = heard(bell)
    assert arriving
    assert read_sealed(*arriving.file).data == b"image", "who reads it already is not disturbed"
    assert store.instance(arriving.instance.id) is None
    os.close(arriving.file.descriptor)
    bell.close()


def test_what_is_stored_already_is_not_told_of(store: Store) -> None:
    store.accept(b"image", arrival("1.2.3"))
    bell = Doorbell(store.state_dir, "inference")
    store.accept(b"image", arrival("1.2.3"))
    bell.wait(0.0)
    assert heard(bell) is None
    bell.close()


def test_of_many_the_last_is_heard_and_no_file_stays_open(store: Store) -> None:
    before = _open_descriptors()
    bell = Doorbell(store.state_dir, "inference")
    for number in range(100):
        last = store.accept(b"%d" % number, arrival()).instance
        bell.wait(0.0)
    arriving = heard(bell)
    assert arriving
    assert arriving.instance == last
    os.close(arriving.file.descriptor)
    store.accept(b"another", arrival())
    bell.wait(0.0)
    bell.close()
    assert _open_descriptors() <= before


def _full(_: Spool) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _open_descriptors() -> int:
    """May become fewer by itself: what earlier tests have left is closed at any time."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
