"""Which messages go next, and what becomes of those that the broker refuses."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge.messages.summary import summarise
from edge.store import OutboxMessage
from edge.store.lifetime import Moment
from edge.store.outbox import LIFE
from edge.sync.drain import REFUSALS_PER_PASS, Allowance, Drain, corrected, message_expiry
from tests.store.samples import refused

WINDOW = 5
NOT_AUTHORISED = 0x87


def _message(number: int) -> OutboxMessage:
    return OutboxMessage(number, f"id-{number}", "summary", b"{}", 0.0, sent=False)


class Run:
    """A drain, an outbox and a link, all in memory."""

    def __init__(self, count: int) -> None:
        self.drain = Drain()
        self.outbox = list(range(1, count + 1))
        self.in_flight: list[int] = []
        self.offered: list[int] = []
        self.now = 0.0

    def send(self) -> list[int]:
        room = WINDOW - len(self.in_flight)
        after, limit = self.drain.wanted(room, self.now)
        waiting = [_message(number) for number in self.outbox if number > after][:limit]
        chosen = [message.number for message in self.drain.choose(waiting, room)] if limit else []
        for number in chosen:
            self.drain.sent(number)
        self.in_flight += chosen
        self.offered += chosen
        return chosen

    def acknowledge(self, code: int) -> None:
        number = self.in_flight.pop(0)
        if self.drain.acknowledged(number, code, self.now, jitter=0.5):
            self.outbox.remove(number)

    def reconnect(self) -> None:
        self.in_flight.clear()
        self.drain.start_over()


def test_oldest_first_and_never_more_than_the_window() -> None:
    run = Run(12)
    assert run.send() == [1, 2, 3, 4, 5]
    assert run.send() == []
    run.acknowledge(0)
    run.acknowledge(0)
    assert run.send() == [6, 7]
    assert run.outbox[0] == 3


def test_after_a_new_connection_what_was_in_flight_is_sent_again_first() -> None:
    run = Run(8)
    run.send()
    run.acknowledge(0)
    run.reconnect()
    assert run.send() == [2, 3, 4, 5, 6]


def test_one_refused_message_holds_up_no_other_and_is_tried_again_later() -> None:
    """OUTBOX-REFUSED-01"""
    run = Run(8)
    run.send()
    run.acknowledge(NOT_AUTHORISED)
    while run.in_flight or run.send():
        run.acknowledge(0)
    assert run.outbox == [1]
    assert run.send() == []
    run.now += 1.0
    assert run.send() == [1]
    run.acknowledge(0)
    assert run.outbox == []


def test_a_broker_that_refuses_everything_is_not_hammered() -> None:
    """OUTBOX-REFUSED-01"""
    run = Run(100)
    for _ in range(3600):
        while run.send():
            while run.in_flight:
                run.acknowledge(NOT_AUTHORISED)
        run.now += 1.0
    assert len(run.outbox) == 100
    passes = len(run.offered) / REFUSALS_PER_PASS
    # Half of 2, 4, 8 ... 300 seconds from one pass to the next: 9 passes up to second 255, then one every 150 s.
    assert passes == 9 + (3600 - 255) // 150


def test_when_the_broker_changes_its_mind_the_back_off_begins_anew() -> None:
    run = Run(1)
    for _ in range(5):
        run.send()
        run.acknowledge(NOT_AUTHORISED)
        run.now += 300
    run.send()
    run.acknowledge(0)
    run.outbox = [2]
    assert run.send() == [2]
    run.acknowledge(NOT_AUTHORISED)
    run.now += 1.0
    assert run.send() == [2]


def test_a_message_that_was_skipped_comes_again_with_the_next_connection() -> None:
    run = Run(3)
    run.drain.skip(1)
    assert run.send() == [2, 3]
    run.reconnect()
    assert run.send() == [1, 2, 3]


class AnyBroker(RuleBasedStateMachine):
    """Whatever the broker does: nothing is lost, nothing is twice in flight, and at last everything is delivered."""

    def __init__(self) -> None:
        super().__init__()
        self.run = Run(0)
        self.put = 0
        self.delivered: list[int] = []

    @rule(count=st.integers(1, 30))
    def new_messages(self, count: int) -> None:
        self.run.outbox += range(self.put + 1, self.put + count + 1)
        self.put += count

    @rule()
    def send(self) -> None:
        self.run.send()

    @precondition(lambda self: self.run.in_flight)
    @rule(code=st.sampled_from([0x00, 0x10, 0x80, 0x83, NOT_AUTHORISED, 0x97]))
    def acknowledge(self, code: int) -> None:
        number = self.run.in_flight[0]
        self.run.acknowledge(code)
        assert (number in self.run.outbox) is (code != 0)

    @rule()
    def reconnect(self) -> None:
        self.run.reconnect()

    @rule(seconds=st.floats(0.1, 400))
    def time_passes(self, seconds: float) -> None:
        self.run.now += seconds

    @invariant()
    def bounded_and_single(self) -> None:
        assert len(self.run.in_flight) <= WINDOW
        assert len(set(self.run.in_flight)) == len(self.run.in_flight)

    def teardown(self) -> None:
        """A broker that takes everything gets everything, in the end."""
        for _ in range(self.put + 10):
            self.run.now += 400.0
            while self.run.send():
                while self.run.in_flight:
                    self.run.acknowledge(0)
            while self.run.in_flight:
                self.run.acknowledge(0)
            if not self.run.outbox:
                break
        assert self.run.outbox == []


AnyBroker.TestCase.settings = settings(deadline=None, max_examples=60, stateful_step_count=40)
TestAnyBroker = AnyBroker.TestCase


@pytest.mark.parametrize(
    ("age", "expected"), [(0.0, LIFE), (86400.0, LIFE - 86400), (LIFE + 1, 3600), (-5.0, LIFE), (4e9, 3600)]
)
def test_a_summary_expires_at_the_broker_when_it_is_old_news(age: float, expected: int) -> None:
    """OUTBOX-EXPIRY-01"""
    assert message_expiry(age) == expected


def test_the_allowance_is_so_many_a_second_and_no_more() -> None:
    """OUTBOX-RATE-01"""
    allowance = Allowance(10)
    sent = 0
    for tick in range(1000):  # ten seconds
        may = allowance.left(tick / 100)
        allowance.used(may)
        sent += may
    assert sent == 10 + 99, "a second's worth at once, then ten a second"
    assert allowance.wait() == pytest.approx(0.01, abs=0.02)
    assert allowance.left(1e6) == 10, "what was not used does not pile up"
    assert allowance.wait() == 0.0


UNCERTAIN = summarise(refused(), message_id="a", committed_at=5.0, synchronised=False, waited=0.1)


@pytest.mark.parametrize(
    ("put_at", "synchronised", "hour", "clock"),
    [
        (90.0, True, "2026-11-20T22", "right"),  # put 1 h 42 min 11 s ago, in this boot
        (90.0, False, "1970-01-01T00", "uncertain"),
        (49.0, True, "1970-01-01T00", "uncertain"),  # of an earlier boot
        (50.0, True, "1970-01-01T00", "uncertain"),  # its last, on a box that believes that it was never off
    ],
)
def test_an_hour_of_a_wrong_clock_is_set_right_when_that_is_known(
    put_at: float, synchronised: bool, hour: str, clock: str
) -> None:
    """OUTBOX-CLOCK-01"""
    now = Moment(wall=1_795_218_131.0, synchronised=synchronised, lifetime=90.0 + 6131.0)
    summary = corrected(UNCERTAIN, put_at, 50.0, now)
    assert (summary.hour, summary.clock) == (hour, clock)
    right = msgspec.structs.replace(UNCERTAIN, clock="right")
    assert corrected(right, put_at, 50.0, now) == right
