"""When the box tries again, and how."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sync.retry import (
    LONGEST_DELAY,
    LONGEST_DELAY_REFUSED,
    STABLE_AFTER,
    Attempt,
    Ending,
    Protocol,
    back_off,
    next_attempt,
)

FIVE, THREE = Protocol.MQTT_5, Protocol.MQTT_3_1_1
UNREACHABLE = Ending(unanswered=False, code=None, lived=0.0, error="ConnectionRefusedError")
UNANSWERED = Ending(unanswered=True, code=None, lived=0.0, error="closed by the broker")
DROPPED = Ending(unanswered=False, code=None, lived=5.0, error="closed by the broker")
DROPPED_LATE = Ending(unanswered=False, code=None, lived=STABLE_AFTER, error="closed by the broker")


def _refused(code: int, lived: float = 0.0) -> Ending:
    return Ending(unanswered=False, code=code, lived=lived, error="refused")


@pytest.mark.parametrize(
    ("protocol", "ending", "failures", "expected"),
    [
        (FIVE, UNREACHABLE, 0, Attempt(FIVE, 0.5, 1)),
        (FIVE, UNREACHABLE, 3, Attempt(FIVE, 4.0, 4)),
        (FIVE, UNREACHABLE, 1000, Attempt(FIVE, LONGEST_DELAY / 2, 1001)),
        (FIVE, DROPPED, 3, Attempt(FIVE, 4.0, 4)),
        (FIVE, DROPPED_LATE, 3, Attempt(FIVE, 0.5, 1)),
        # Does not speak MQTT 5: says so, hangs up or keeps silent. 3.1.1 at once; when that fails too, 5 after a while.
        (FIVE, UNANSWERED, 2, Attempt(THREE, 0.0, 2)),
        (FIVE, _refused(0x84), 2, Attempt(THREE, 0.0, 2)),
        (THREE, UNANSWERED, 2, Attempt(FIVE, 2.0, 3)),
        (THREE, _refused(0x84), 2, Attempt(FIVE, 2.0, 3)),
        (THREE, DROPPED_LATE, 0, Attempt(FIVE, 0.5, 1)),
        # Passing troubles of the broker: unavailable, busy, shutting down, quota, connection rate.
        (FIVE, _refused(0x88), 1, Attempt(FIVE, 1.0, 2)),
        (FIVE, _refused(0x89), 1, Attempt(FIVE, 1.0, 2)),
        (FIVE, _refused(0x8B, lived=STABLE_AFTER), 9, Attempt(FIVE, 0.5, 1)),
        (FIVE, _refused(0x97), 1, Attempt(FIVE, 1.0, 2)),
        (FIVE, _refused(0x9F), 1, Attempt(FIVE, 1.0, 2)),
        # What only a person can mend: client id, password, rights, ban, method, taken over, other server, moved.
        *(
            (FIVE, _refused(code), 0, Attempt(FIVE, LONGEST_DELAY_REFUSED / 2, 1))
            for code in (0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8E, 0x9C, 0x9D)
        ),
        (THREE, _refused(0x86), 0, Attempt(FIVE, LONGEST_DELAY_REFUSED / 2, 1)),
    ],
)
def test_the_next_attempt(protocol: Protocol, ending: Ending, failures: int, expected: Attempt) -> None:
    """LINK-RETRY-01"""
    assert next_attempt(protocol, ending, failures, jitter=0.5) == expected


@given(st.integers(0, 10**6), st.floats(0, 1, exclude_max=True), st.floats(0.1, 1000))
def test_the_delay_is_spread_over_all_of_it_and_bounded(failures: int, jitter: float, longest: float) -> None:
    """LINK-RETRY-01"""
    delay = back_off(failures, jitter, longest)
    assert 0 <= delay <= longest
    assert back_off(failures, 0.0, longest) == 0
    assert back_off(failures + 1, jitter, longest) >= delay
