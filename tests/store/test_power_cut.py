"""Power cuts at every operation, and every kind of torn file after one: what was accepted is there, exactly once."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.store import Damaged, Store
from tests.store.power import PowerCut, Unflushed
from tests.store.samples import SUBJECT, arrival, claimed, flagged, spooled, summary
from tests.store.test_durability import end_of, forked

SECTOR, PAGE = 512, 4096


def work(state: Path, report: Callable[[str], None]) -> None:
    """What a box does with an image: each step is reported once it counts."""
    with closing(Store(state)) as store:
        store.sweep()
        store.recover()
        data = b"x" * 300_000
        instance = store.accept(data, arrival("1.2.3")).instance
        report(f"accepted {instance.id} {hashlib.sha256(data).hexdigest()}")
        result = store.commit(claimed(store), flagged(), SUBJECT, summary=summary)
        report(f"answered {result.id}")
        store.write_picture(result.instance_id, "preview.jpg", b"picture")
        store.acknowledge(result.id, "ada", "agree")
        report(f"acknowledged {result.id}")


def check(state: Path, promises: list[str]) -> None:
    """What was reported is so, and all that is there is answered once."""
    said = [promise.split() for promise in promises]
    with closing(Store(state)) as store:
        store.sweep()
        store.recover()
        for _, instance_id, digest in (words for words in said if words[0] == "accepted"):
            assert hashlib.sha256(store.read(instance_id)).hexdigest() == digest
        before = {result.id: result for result in store.changed_since(0)}
        assert {words[1] for words in said if words[0] == "answered"} <= set(before)
        for _, result_id in (words for words in said if words[0] == "acknowledged"):
            assert before[result_id].acknowledged_by == "ada"
        answer_all(store)


def answer_all(store: Store) -> None:
    """Afterwards each file has one row, and each row one result."""
    while instance := store.claim():
        store.commit(instance, flagged(), SUBJECT)
    results = store.changed_since(0, 1000)
    assert sorted(result.instance_id for result in results) == sorted(spooled(store.state_dir))


@pytest.mark.parametrize("unflushed", Unflushed)
def test_the_power_goes_at_every_operation_on_the_disk(memory: Path, unflushed: Unflushed) -> None:
    """From the very first start on; what survives is then the next start's."""
    cuts, done = 0, False
    while not done:
        state = memory / str(cuts)
        promises, status = _cut(state, cuts, unflushed)
        done = os.WIFEXITED(status)
        assert done or os.WTERMSIG(status) == signal.SIGKILL
        check(state, promises)
        shutil.rmtree(state)
        cuts += 1
    assert len(promises) == 3
    assert cuts > 30, "the layer sees the operations"


def _cut(state: Path, at: int, unflushed: Unflushed) -> tuple[list[str], int]:
    def until_the_cut(report: Callable[[str], None]) -> None:
        PowerCut(at, unflushed)
        work(state, report)

    child, reports = forked(until_the_cut)
    with os.fdopen(reports, "rb") as pipe:
        lines = pipe.read().decode().splitlines()
    _, status = os.waitpid(child, 0)
    return lines, status


class Left:
    """A state folder as a cut has left it, and what had been promised by then."""

    def __init__(self, folder: Path, *, checkpointed: bool) -> None:
        self.state = folder / "state"
        child, reports = forked(lambda report: _fill(self.state, report, checkpointed=checkpointed))
        with os.fdopen(reports, "rb") as pipe:
            self.promises = pipe.read().decode().splitlines()
        os.waitpid(child, 0)

    def copy(self, folder: Path) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.state, folder, ignore=shutil.ignore_patterns("doorbells*"))
        return folder


def _fill(state: Path, report: Callable[[str], None], *, checkpointed: bool) -> None:
    store = Store(state)
    for number in range(12):
        data = bytes([number]) * 10
        instance = store.accept(data, arrival(f"1.2.{number}")).instance
        report(f"accepted {instance.id} {hashlib.sha256(data).hexdigest()}")
        if number % 3:
            store.commit(claimed(store), flagged(), SUBJECT, explanation="x" * 6000, summary=summary)
    if checkpointed:
        with store._journal.reading() as sql:
            sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.accept(b"in the log", arrival("1.3"))
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A folder whose `fsync` costs nothing, where there is one: here the layer says what was flushed."""
    shared = Path("/dev/shm")
    with TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)


@pytest.fixture(scope="module", params=[False, True], ids=["all in the log", "checkpointed"])
def left(request: pytest.FixtureRequest, memory: Path) -> Left:
    return Left(memory / str(request.param), checkpointed=request.param)


class Kind(Enum):
    """What a file's end, or a part of it, is after a power cut."""

    CUT = "cut"
    ZEROS = "zeros"
    ZERO_TAIL = "zero tail"
    NOISE = "noise"


class Tear(NamedTuple):
    """Where a file is torn, as a share of it, and over how many sectors."""

    kind: Kind
    share: float
    sectors: int
    seed: int

    def of(self, whole: bytes) -> bytes:
        """The file torn."""
        if self.kind is Kind.CUT:
            return whole[: int(self.share * len(whole))]
        start = int(self.share * len(whole)) // SECTOR * SECTOR
        end = len(whole) if self.kind is Kind.ZERO_TAIL else min(len(whole), start + self.sectors * SECTOR)
        torn = random.Random(self.seed).randbytes(end - start) if self.kind is Kind.NOISE else bytes(end - start)
        return whole[:start] + torn + whole[end:]


@pytest.mark.parametrize("name", ["journal.sqlite", "journal.sqlite-wal"])
@settings(max_examples=25, deadline=None)
@given(tear=st.builds(Tear, st.sampled_from(Kind), st.floats(0, 1), st.integers(1, 40), st.integers(0, 1 << 32)))
def test_a_torn_journal_or_log_costs_no_accepted_image(left: Left, memory: Path, name: str, tear: Tear) -> None:
    state = left.copy(memory / "copy")
    (state / name).write_bytes(tear.of((state / name).read_bytes()))
    check(state, left.promises)


@settings(max_examples=25, deadline=None)
@given(page=st.integers(0, 40), seed=st.one_of(st.none(), st.integers(0, 1 << 32)))
def test_what_rots_in_a_closed_journal_is_found_when_it_is_used_and_then_repaired(
    left: Left, memory: Path, page: int, seed: int | None
) -> None:
    """Nothing says at the start that something is wrong."""
    state = left.copy(memory / "copy")
    Store(state).close()
    file = state / "journal.sqlite"
    data = bytearray(file.read_bytes())
    start = page * PAGE % len(data)
    data[start : start + PAGE] = bytes(PAGE) if seed is None else random.Random(seed).randbytes(PAGE)
    file.write_bytes(data)
    for _ in range(3):
        try:
            check(state, left.promises)
            break
        except Damaged:
            continue
    check(state, left.promises)


def test_the_power_goes_at_every_operation_of_a_repair(memory: Path) -> None:
    left = Left(memory / "repaired", checkpointed=True)
    state = left.copy(memory / "copy")
    damaged = (state / "journal.sqlite").read_bytes()
    damaged = damaged[: len(damaged) // 2].ljust(len(damaged), b"\0")
    (state / "journal.sqlite").write_bytes(damaged)
    cuts, done = 0, False
    while not done:
        folder = memory / str(cuts)
        shutil.copytree(state, folder)
        done = os.WIFEXITED(end_of(lambda _report, folder=folder, at=cuts: _open_until(folder, at)))  # type: ignore[misc]
        check(folder, left.promises)
        kept = list((folder / "broken").glob("*-journal*/journal.sqlite"))
        assert [path.read_bytes() for path in kept] == [damaged]
        shutil.rmtree(folder)
        cuts += 1
    assert cuts > 5


def _open_until(folder: Path, at: int) -> None:
    PowerCut(at, Unflushed.LOST)
    Store(folder).close()


def test_the_journals_own_files_hold_up_what_the_tests_say(left: Left) -> None:
    """The log is there and not empty, or nothing above would test what it says."""
    assert (left.state / "journal.sqlite-wal").stat().st_size > 0
    with closing(sqlite3.connect(left.copy(left.state.parent / "look") / "journal.sqlite")) as sql:
        assert sql.execute("PRAGMA integrity_check").fetchone() == ("ok",)
