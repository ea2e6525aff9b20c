"""What was acknowledged is sent once more when the connection breaks soon after, and never later."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.sync.settling import SETTLED_AFTER, Settling


def test_what_was_acknowledged_just_before_the_connection_broke_is_sent_again_once() -> None:
    settling: Settling[str] = Settling()
    settling.add("old", 0.0)
    settling.add("first", 1.0)
    settling.add("second", SETTLED_AFTER)
    assert settling.broken() == ["first", "second"]
    assert settling.broken() == []


@given(st.lists(st.floats(0, 20), min_size=1, max_size=200))
def test_whatever_happens_when_exactly_the_unsettled_are_kept(steps: list[float]) -> None:
    settling: Settling[int] = Settling()
    now, at = 0.0, []
    for number, step in enumerate(steps):
        now += step
        settling.add(number, now)
        at.append(now)
    assert settling.broken() == [number for number, then in enumerate(at) if now - then < SETTLED_AFTER]
