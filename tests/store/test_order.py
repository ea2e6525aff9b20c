"""Which image is taken next: a table of situations, and anything that can happen against the rule in plain words."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from edge.records import Priority
from edge.store import Store
from edge.store.order import BACKLOG_AFTER, BACKLOG_EVERY
from tests.store.conftest import Box, Clock
from tests.store.samples import arrival, claimed

URGENT, ROUTINE, LOW = Priority


@pytest.mark.parametrize(
    ("waiting", "order"),
    [
        ("|RURU", "U2 U4 R1 R3"),
        ("RU|", "U2 R1"),
        ("RR|R", "R3 R1 R2"),
        ("UU|R", "R3 U1 U2"),
        ("UR|RU", "U4 R3 U1 R2"),
        ("R|RRRRR", "R2 R3 R4 R1 R5 R6"),
        ("RU|UUUUUUU", "U3 U4 U5 R1 U6 U7 U8 U2 U9"),
        ("|LR", "R2 L1"),
        ("L|RRRR", "R2 R3 R4 L1 R5"),
    ],
)
@pytest.mark.parametrize("by", ["waiting", "a start", "a boot"])
def test_fresh_first_and_backlog_in_the_gaps(tmp_path: Path, box: Box, by: str, waiting: str, order: str) -> None:
    """What stands before the bar waits for too long, or since before the start or the boot; what is after it comes."""
    old, fresh = waiting.split("|")
    store = Store(tmp_path, box.wall, machine=box.machine)
    words = dict(zip("URL", Priority, strict=True))
    for number, word in enumerate(old, 1):
        store.accept(b"%d" % number, arrival(f"{word}{number}", words[word]))
    if by == "waiting":
        box.live(BACKLOG_AFTER + 1)
    else:
        store.close()
        if by == "a boot":
            box.off(3600.0, wall=0.0)
        store = Store(tmp_path, box.wall, machine=box.machine)
        store.recover()
    for number, word in enumerate(fresh, len(old) + 1):
        store.accept(b"%d" % number, arrival(f"{word}{number}", words[word]))
    taken = [claimed(store).arrival.sop_instance_uid for _ in old + fresh]
    assert taken == order.split()
    assert store.claim() is None
    store.close()


def test_a_clock_that_leaps_makes_no_backlog(store: Store, clock: Clock) -> None:
    store.accept(b"first", arrival("1"))
    clock.now += 10 * 365 * 86400
    store.accept(b"second", arrival("2"))
    assert [claimed(store).arrival.sop_instance_uid for _ in range(2)] == ["1", "2"]


class AnyQueue(RuleBasedStateMachine):
    """Images come, time passes, the service starts anew: what is claimed is what the rule says."""

    @initialize()
    def begin(self) -> None:
        """An empty queue."""
        self.folder = tempfile.TemporaryDirectory()
        self.box = Box(Clock())
        self.waiting: list[tuple[int, Priority, float]] = []
        self.in_work: list[tuple[int, Priority, float]] = []
        self.numbers = self.line = self.passed_over = self.claims = 0
        self.backlog_since: dict[int, tuple[int, int]] = {}
        self._open()

    def _open(self) -> None:
        self.store = Store(Path(self.folder.name), self.box.wall, machine=self.box.machine)

    def _is_backlog(self, number: int, priority: Priority, since: float) -> bool:
        return number <= self.line or priority is LOW or self.box.up - since > BACKLOG_AFTER

    @rule(priorities=st.lists(st.sampled_from(Priority), min_size=1, max_size=4))
    def images_come(self, priorities: list[Priority]) -> None:
        """Some at once."""
        for priority in priorities:
            self.numbers += 1
            self.store.accept(b"%d" % self.numbers, arrival(str(self.numbers), priority))
            self.waiting.append((self.numbers, priority, self.box.up))

    @rule(seconds=st.integers(0, 30))
    def time_passes(self, seconds: int) -> None:
        """Seconds."""
        self.box.live(seconds)

    @rule(seconds=st.integers(-(10**9), 10**9))
    def somebody_sets_the_clock(self, seconds: int) -> None:
        """Which changes nothing."""
        self.box.wall.now += seconds

    @rule()
    def the_service_starts_anew(self) -> None:
        """What waits is backlog from here on, and the turns begin anew."""
        self.store.close()
        self._open()
        self.store.recover()
        self.waiting = sorted(self.waiting + self.in_work)
        self.line, self.passed_over, self.in_work, self.backlog_since = self.numbers, 0, [], {}

    @rule(times=st.integers(1, 6))
    def images_are_taken(self, times: int) -> None:
        """As the rule says in plain words."""
        for _ in range(times):
            taken = self.store.claim()
            fresh = [image for image in self.waiting if not self._is_backlog(*image)]
            old = [image for image in self.waiting if self._is_backlog(*image)]
            if not self.waiting:
                assert taken is None
                self.passed_over = 0
                return
            assert taken is not None
            number = int(taken.arrival.sop_instance_uid or "")
            turn = self.passed_over >= BACKLOG_EVERY - 1
            if old and turn:
                expected = old[0]
            else:
                expected = min(fresh or old, key=lambda image: (list(Priority).index(image[1]), image[0]))
            assert number == expected[0]
            self.passed_over = 0 if turn or expected == self.waiting[0] else self.passed_over + 1
            self.waiting.remove(expected)
            self.in_work.append(expected)
            self.claims += 1
            self._see_what_is_backlog()

    def _see_what_is_backlog(self) -> None:
        for older, image in enumerate(self.waiting):  # fresh ones too: taking the oldest passes over none
            if self._is_backlog(*image):
                self.backlog_since.setdefault(image[0], (older, self.claims))

    @invariant()
    def nothing_starves(self) -> None:
        """Once it is backlog, with some older ones before it, an image waits a bounded number of turns."""
        self._see_what_is_backlog()
        for number in {image[0] for image in self.waiting} & self.backlog_since.keys():
            older, claims_then = self.backlog_since[number]
            assert self.claims - claims_then < BACKLOG_EVERY * (older + 1)

    def teardown(self) -> None:
        """Leave nothing."""
        self.store.close()
        self.folder.cleanup()


TestAnyQueue = AnyQueue.TestCase
TestAnyQueue.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
