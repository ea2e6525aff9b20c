"""The keeper over a real store: on a disk and by clocks that are played, killed in the middle, on a real small disk."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.config import Storage
from edge.records import Kept, Result
from edge.store import Band, Keeper, StorageFull, Store
from edge.store.holdings import PICTURES, Holdings
from edge.store.keeper import BATCH, WORDS
from edge.store.retention import Removal
from edge.store.spool import Spool
from tests.running import ROOT, with_tmpfs
from tests.store.conftest import Box, Clock
from tests.store.samples import SUBJECT, arrival, claimed, flagged, refused, spooled, summary

GIB, DAY = 1 << 30, 86400.0
STORAGE = Storage(image_days=30, result_days=60)


def derived(state_dir: Path) -> set[str]:
    """The names of the pictures' files."""
    return {path.name for path in (state_dir / "derived").iterdir() if path.is_file()}


class AnyDay(RuleBasedStateMachine):
    """What can happen to a box. A file takes a GiB of the played disk of 64; what else lies there comes and goes."""

    @initialize()
    def begin(self) -> None:
        """A new box."""
        self.folder = tempfile.TemporaryDirectory()
        self.state_dir = Path(self.folder.name)
        self.box = Box(Clock())
        self.box.total = 64 * GIB
        self.others = 0
        self.numbers = 0
        self.accepted: dict[str, float] = {}
        self.answered: dict[str, str] = {}
        self.lacked_room: set[str] = set()
        self._open()

    def _open(self) -> None:
        self.store = Store(self.state_dir, self.box.wall, storage=STORAGE, machine=self.box.machine)
        self.store.sweep()
        self.store.recover()
        self.keeper = Keeper(self.store, STORAGE, clock=lambda: self.box.up)
        self._look()

    def _look(self) -> None:
        files = len(spooled(self.state_dir)) + len(derived(self.state_dir)) / 10
        self.box.free = max(0, self.box.total - int(files * GIB) - self.others)

    @rule()
    def an_image_comes(self) -> None:
        """It is taken, unless the disk is full."""
        self.numbers += 1
        self._look()
        refuse_below = 0.05 * self.box.total
        try:
            instance = self.store.accept(b"%d" % self.numbers, arrival(f"1.{self.numbers}")).instance
        except StorageFull:
            assert self.box.free < refuse_below * 1.25
        else:
            assert self.box.free >= min(refuse_below, 2 * GIB)
            self.accepted[instance.id] = self.store.lifetime.now().lifetime
        self._look()

    @rule(delivered=st.booleans())
    def an_image_is_answered(self, delivered: bool) -> None:
        """And its summary handed on, or still owed."""
        instance = self.store.claim()
        if instance is None:
            return
        result = self.store.commit(instance, flagged(), SUBJECT, summary=summary)
        self.answered[instance.id] = result.id
        if self.store.band() < Band.SPARE:
            for name in PICTURES:
                self.store.write_picture(instance.id, name, b"picture")
            self._settle("preview", instance.id)
        if delivered:
            self._settle("summary", instance.id)
        self._look()

    @rule()
    def all_is_delivered(self) -> None:
        """The relay ran."""
        self.store.settle([debt.number for debt in self.store.owed("summary")])

    def _settle(self, kind: str, instance_id: str) -> None:
        self.store.settle([debt.number for debt in self.store.owed(kind, instance_id=instance_id)])

    @rule(days=st.floats(0.01, 20))
    def days_pass(self, days: float) -> None:
        """With the box on."""
        self.box.live(days * DAY)

    @rule(years=st.floats(-50, 50))
    def somebody_sets_the_clock(self, years: float) -> None:
        """Or a GPS receiver does."""
        self.box.wall.now += years * 365 * DAY

    @rule(days=st.floats(0, 400), clock_survives=st.booleans())
    def power_cut(self, days: float, clock_survives: bool) -> None:
        """Off for a while; the hardware clock may forget everything."""
        self.store.close()
        self.box.off(days * DAY, wall=None if clock_survives else 0.0)
        self._open()

    @rule(gib=st.integers(0, 64))
    def something_else_fills_the_disk(self, gib: int) -> None:
        """Or frees it."""
        self.others = gib * GIB
        self._look()

    @rule()
    def the_keeper_comes(self) -> None:
        """A few times."""
        for _ in range(3):
            self._look()
            room_was_short = self.box.free < 0.10 * self.box.total * 1.25
            before = spooled(self.state_dir)
            self.keeper.tend()
            assert self.keeper.trouble in WORDS.values()
            if room_was_short:
                self.lacked_room |= before - spooled(self.state_dir)
        self.box.up += 61
        self.box.wall.now += 61
        self._look()

    @invariant()
    def nothing_goes_that_has_no_result_or_is_owed(self) -> None:
        """The promise of the whole module."""
        on_disk = spooled(self.state_dir)
        assert set(self.accepted) - set(self.answered) <= on_disk
        assert {debt.instance_id for debt in self.store.owed("summary", limit=1000)} <= on_disk

    @invariant()
    def nothing_goes_before_its_time_but_for_room(self) -> None:
        """By the box's lifetime, which may hold at most what it believes of each time that it was off."""
        now = self.store.lifetime.now().lifetime
        for instance_id, since in self.accepted.items():
            if instance_id not in spooled(self.state_dir) and instance_id not in self.lacked_room:
                assert now - since > 30 * DAY
            result = self.answered.get(instance_id)
            if result and self.store.result(result) is None:
                assert now - since > 60 * DAY

    @invariant()
    def the_journal_says_what_is_there(self) -> None:
        """And pictures do not outlive their images."""
        for result_id in self.answered.values():
            result = self.store.result(result_id)
            if result:
                there = result.instance_id in spooled(self.state_dir)
                assert there == (result.kept is not Kept.NOTHING)
                if result.kept is not Kept.ALL:
                    assert self.store.picture(result.instance_id, "preview.jpg") is None

    def teardown(self) -> None:
        """Leave nothing."""
        self.store.close()
        self.folder.cleanup()


TestAnyDay = AnyDay.TestCase
TestAnyDay.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def answered(store: Store, number: int = 1, result: Result | None = None) -> str:
    """An image with its answer and its pictures, owed to nobody; its instance's id."""
    instance = store.accept(b"%d" % number, arrival(f"1.{number}")).instance
    store.commit(claimed(store), result or flagged(), SUBJECT)
    for name in PICTURES:
        store.write_picture(instance.id, name, b"picture")
    store.settle([debt.number for debt in store.owed("preview", instance_id=instance.id)])
    return instance.id


@pytest.mark.parametrize("leaves", [Kept.IMAGE, Kept.NOTHING, None])
@pytest.mark.parametrize("step", range(7))
def test_killed_in_the_middle_of_a_removal_it_is_finished_at_the_next_start(
    tmp_path: Path, leaves: Kept | None, step: int
) -> None:
    """SIGKILL before the first file goes, before the second, ...: never an image that is promised and not there."""
    store = Store(tmp_path)
    instance_id, other = answered(store, 1), answered(store, 2)
    result = store.result_of(instance_id)
    store.close()
    child = os.fork()
    if not child:
        _remove_until_killed(tmp_path, Removal(instance_id, leaves), step)
    os.waitpid(child, 0)
    again = Store(tmp_path)
    again.sweep()
    kept = again.holdings.kept(instance_id)
    assert kept in (Kept.ALL, leaves or Kept.NOTHING)
    assert (instance_id in spooled(tmp_path)) == (kept is not Kept.NOTHING)
    again.holdings.remove([Removal(instance_id, leaves)])
    assert again.picture(instance_id, "preview.jpg") is None
    assert (again.result_of(instance_id) is None) == (leaves is None)
    assert {name.partition(".")[0] for name in derived(tmp_path)} == {other}
    assert spooled(tmp_path) == ({other, instance_id} if leaves is Kept.IMAGE else {other})
    assert result is not None
    again.close()


def _remove_until_killed(state_dir: Path, removal: Removal, step: int) -> None:
    """In a child of its own: SIGKILL instead of the removal of file number `step`; it does not return."""
    remove, steps = Spool.remove, iter(range(100))

    def remove_or_die(spool: Spool, name: str) -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        remove(spool, name)

    Spool.remove = remove_or_die  # type: ignore[method-assign, assignment]
    try:
        Store(state_dir).holdings.remove([removal])
    finally:
        os._exit(0)


def test_a_picture_that_is_drawn_while_its_image_is_removed_does_not_stay(store: Store) -> None:
    instance_id = answered(store)
    store.holdings.remove([Removal(instance_id, Kept.NOTHING)])
    store.write_picture(instance_id, "preview.jpg", b"late")
    assert derived(store.state_dir) == set()


def test_what_is_owed_or_waits_is_not_removed_even_when_asked(store: Store) -> None:
    in_work = store.accept(b"in work", arrival("1.1")).instance.id
    claimed(store)
    owes = store.accept(b"owes", arrival("1.2")).instance.id
    store.commit(claimed(store), flagged(), SUBJECT, summary=summary)
    waits = store.accept(b"waits", arrival("1.3")).instance.id
    assert store.holdings.oldest(1e9, 10) == []
    assert store.holdings.remove([Removal(one, None) for one in (in_work, owes, waits)]) == []
    assert spooled(store.state_dir) == {in_work, owes, waits}
    store.settle([debt.number for debt in store.owed("summary")])
    assert [one.id for one in store.holdings.oldest(1e9, 10)] == [owes]


def test_what_is_flagged_and_acknowledged_by_nobody_goes_last(store: Store, box: Box) -> None:
    """Also where more of it is older than a look for the oldest finds."""
    each = BATCH + 5
    flags = [answered(store, number) for number in range(each)]
    others = [answered(store, number, refused()) for number in range(each, 2 * each)]
    acknowledged = store.result_of(flags[3])
    assert acknowledged
    store.acknowledge(acknowledged.id, "ada", "agree")
    box.live(2 * DAY)
    box.free = 1 * GIB
    keeper = Keeper(store, Storage(), clock=lambda: box.up)
    gone: list[str] = []
    while len(gone) < each + 1:
        keeper.tend()
        gone += [one for one in flags + others if one not in gone and one not in spooled(store.state_dir)]
    assert set(gone) == {flags[3], *others}
    for _ in range(10):
        keeper.tend()
    assert spooled(store.state_dir) == set(), "in the end it goes, too: the box takes images"


def test_a_look_for_the_oldest_passes_over_none_of_the_flags_that_nobody_acknowledges(store: Store) -> None:
    """By SQLite's own count of its work: a clinic that never answers a flag must not slow its box down."""
    works = []
    for numbers in (range(4 * BATCH), range(4 * BATCH, 12 * BATCH)):
        flags = [answered(store, number) for number in numbers]
        store.holdings.remove([Removal(each, Kept.NOTHING) for each in flags[: len(flags) // 2]])
        works.append(_work_of_a_look(store))
    assert works[1] < 1.5 * works[0]


def _work_of_a_look(store: Store) -> int:
    """Hundreds of SQLite's steps."""
    steps = count(1)
    with store.holdings._journal.reading() as sql:
        sql.set_progress_handler(lambda: next(steps) < 0, 100)
        assert len(store.holdings.oldest(1e9, BATCH)) == 2 * BATCH
        sql.set_progress_handler(None, 0)
    return next(steps)


def test_an_image_that_comes_again_after_it_was_removed_is_kept_again(store: Store) -> None:
    """Success is only said of what is on the disk."""
    instance_id = answered(store)
    store.holdings.remove([Removal(instance_id, Kept.NOTHING)])
    again = store.accept(b"1", arrival("1.1"))
    assert (again.new, again.conflicts_with) == (True, None)
    assert store.read(again.instance.id) == b"1"
    assert not store.accept(b"1", arrival("1.1")).new


def test_a_full_disk_takes_nothing_new_and_knows_what_it_has(store: Store, box: Box) -> None:
    first = store.accept(b"image", arrival("1.2.3")).instance
    box.free = 0
    assert store.accept(b"image", arrival("1.2.3")).instance == first
    with pytest.raises(StorageFull):
        store.accept(b"other", arrival("1.2.4"))
    assert spooled(store.state_dir) == {first.id}
    assert list((store.state_dir / "spool" / "incoming").iterdir()) == []


def test_an_object_that_would_reach_into_the_reserve_is_stopped_in_the_middle(store: Store, box: Box) -> None:
    delivery = store.begin()
    delivery.write(b"first")
    box.free = 1 * GIB
    delivery.write(b"second")
    assert list((store.state_dir / "spool" / "incoming").iterdir()) == [], "its part makes room at once"
    with pytest.raises(StorageFull):
        store.keep(delivery, arrival("1.2.3"))


def test_it_says_how_long_the_room_lasts(store: Store, box: Box) -> None:
    box.total, box.free = 1000 * GIB, 102 * GIB
    keeper = Keeper(store, Storage(), clock=lambda: box.up)
    for _ in range(15):
        keeper.tend()
        box.live(60)
        box.free -= GIB
    assert keeper.figures["disk"] == "room"
    assert keeper.figures["hours_until_full"] == pytest.approx((88 - 2) / 60, abs=0.1)
    box.free = 4 * GIB
    keeper.tend()
    assert (keeper.figures["disk"], keeper.trouble) == ("spare", WORDS[Band.SPARE])


def test_a_disk_that_fails_is_said_once_and_does_not_stop_it(
    store: Store, box: Box, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = Keeper(store, Storage(), clock=lambda: box.up)
    with monkeypatch.context() as broken:

        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        broken.setattr(Holdings, "oldest", fail)
        for _ in range(3):
            box.live(60)
            assert not keeper.tend()
    assert caplog.text.count("SC314") == 1
    assert keeper.trouble == "the disk cannot be kept in order"
    box.live(60)
    keeper.tend()
    assert keeper.trouble == ""


def test_a_clock_that_leaps_by_decades_removes_nothing(store: Store, box: Box) -> None:
    answered(store)
    keeper = Keeper(store, Storage(), clock=lambda: box.up)
    box.wall.now += 30 * 365 * DAY
    box.live(61)
    keeper.tend()
    assert len(spooled(store.state_dir)) == 1
    box.live(90 * DAY)
    keeper.tend()
    assert spooled(store.state_dir) == set()


def test_on_a_real_small_disk_it_makes_room_until_images_are_taken_again(tmp_path: Path) -> None:
    """Filled with images, filled to the last byte by something else, and started anew on the full disk."""
    state = tmp_path / "state"
    state.mkdir()
    script = ROOT / "tests" / "store" / "kept_disk.py"
    command = [*with_tmpfs(state, megabytes=24), sys.executable, str(script), str(state)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    said = msgspec.json.decode(done.stdout)
    assert said.pop("waited") > 40
    assert said == {"taken_after": 100, "taken_after_a_full_disk": 1, "taken_after_a_restart": 1}
