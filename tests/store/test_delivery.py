"""Objects that come in pieces: whole and accepted, or nothing of them left."""

from __future__ import annotations

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.store import Delivery, Store
from tests.store.samples import arrival, spooled

PIECES = [bytes([number]) * 1000 for number in range(20)]


def test_pieces_are_the_same_object_as_the_whole(store: Store) -> None:
    whole = store.accept(b"".join(PIECES), arrival("1.2.3"))
    in_pieces = store.keep(_delivered(store), arrival("1.2.3"))
    assert (in_pieces.new, in_pieces.instance) == (False, whole.instance)
    other = store.keep(_delivered(store), arrival("1.2.4"))
    assert other.new
    assert store.read(other.instance.id) == b"".join(PIECES)
    assert _incoming(store) == []


def test_nothing_is_accepted_before_it_is_kept_and_nothing_stays_of_what_is_not(store: Store) -> None:
    delivery = _delivered(store)
    assert (store.queue().depth, spooled(store.state_dir)) == (0, set())
    assert len(_incoming(store)) == 1
    delivery.discard()
    assert _incoming(store) == []


def test_to_discard_what_was_kept_changes_nothing(store: Store) -> None:
    delivery = _delivered(store)
    instance = store.keep(delivery, arrival("1.2.3")).instance
    delivery.discard()
    assert store.read(instance.id) == b"".join(PIECES)


def test_a_disk_that_fails_in_between_is_told_at_the_end(store: Store) -> None:
    with _small_files(), pytest.raises(OSError, match="too large"):
        store.keep(_delivered(store), arrival("1.2.3"))
    assert store.queue().depth == 0
    assert _incoming(store) == []


def test_what_is_stored_already_needs_no_disk(store: Store) -> None:
    first = store.accept(b"".join(PIECES), arrival("1.2.3"))
    with _small_files():
        assert store.keep(_delivered(store), arrival("1.2.3")).instance == first.instance


def test_a_folder_that_is_gone_is_told_at_the_end(store: Store) -> None:
    (store.state_dir / "spool" / "incoming").rmdir()
    with pytest.raises(FileNotFoundError):
        store.keep(_delivered(store), arrival("1.2.3"))
    assert store.queue().depth == 0


@contextmanager
def _small_files() -> Iterator[None]:
    """The kernel lets no file grow beyond half an object: a write that fails in the middle of it (setrlimit(2)).

    Only around the store's own work: the runner's log is a file, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(PIECES[0]) * 10 + 500, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def _delivered(store: Store) -> Delivery:
    delivery = store.begin()
    for piece in PIECES:
        delivery.write(piece)
    return delivery


def _incoming(store: Store) -> list[Path]:
    return list((store.state_dir / "spool" / "incoming").iterdir())
