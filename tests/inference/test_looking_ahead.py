"""An answer found before its image is accepted: committed once it is, and never when it is not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from edge.inference.channel import Analyse, Answer, Draw, Pictures, unanswered
from edge.inference.guard import Guard, Undecided
from edge.inference.service import Worker
from edge.records import Instance, Priority, Reason
from edge.store import Arriving, SealedFile, StorageFull, Store, read_sealed
from edge.store.spool import Spool
from tests.store.samples import arrival

HANGS = b"takes too long"


class _Guard:
    """Answers without models, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def analyse(self, request: Analyse, descriptor: int, *, last: bool) -> Answer:
        assert request.secret
        self.asked.append(read_sealed(descriptor, request.secret).data)
        if self.asked[-1] == HANGS and not last:
            raise Undecided
        return unanswered(request.source, Reason.NOT_DICOM)

    def draw(self, _: Draw, __: int) -> Pictures:
        return Pictures()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    with closing(Store(tmp_path / "state")) as opened:
        yield opened


@pytest.fixture
def guard() -> _Guard:
    """One that was not asked yet."""
    return _Guard()


@pytest.fixture
def worker(store: Store, guard: _Guard, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker that looks at each object while the disk still takes it."""
    worker = Worker(store, cast(Guard, guard), None)

    def announce(_: Path, __: str, instance: Instance, open_file: Callable[[], SealedFile]) -> None:
        worker.look_ahead(Arriving(instance, open_file()))
        assert not worker.work(), "it is not accepted yet"

    monkeypatch.setattr("edge.store.store.announce", announce)
    return worker


def test_the_answer_is_committed_when_the_image_is_accepted(store: Store, worker: Worker, guard: _Guard) -> None:
    instance = store.accept(b"image", arrival()).instance
    assert store.result_of(instance.id) is None
    assert worker.work()
    stored = store.result_of(instance.id)
    assert stored
    assert stored.result.reason is Reason.NOT_DICOM
    assert guard.asked == [b"image"], "once"


def test_what_is_not_accepted_has_no_answer(
    store: Store, worker: Worker, guard: _Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Spool, "flush_folder", _full)
    with pytest.raises(StorageFull):
        store.accept(b"refused", arrival())
    assert not worker.work()
    assert store.results() == []
    monkeypatch.undo()
    store.accept(b"image", arrival())
    assert worker.work()
    assert guard.asked == [b"refused", b"image"], "another object has an answer of its own"


def test_what_is_accepted_already_is_left_to_its_turn(store: Store, guard: _Guard) -> None:
    worker = Worker(store, cast(Guard, guard), None)
    instance = store.accept(b"image", arrival()).instance
    worker.look_ahead(Arriving(instance, store.open(instance.id)))
    assert guard.asked == []
    assert worker.work()
    assert guard.asked == [b"image"]


@pytest.mark.parametrize("priority", Priority)
def test_one_that_took_too_long_while_it_came_has_its_second_try_after_the_others(
    priority: Priority, store: Store, worker: Worker, guard: _Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.accept(HANGS, arrival("1", priority))
    monkeypatch.undo()  # the others find the worker busy
    store.accept(b"image", arrival("2", Priority.BACKLOG))
    while worker.work():
        pass
    assert guard.asked == [HANGS, b"image", HANGS]
    assert [stored.result.reason for stored in store.results()] == [Reason.NOT_DICOM] * 2


def _full(_: Spool) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
