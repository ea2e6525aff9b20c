"""How long to wait before something that failed is tried again."""

from __future__ import annotations

LONGEST_DELAY = 5.0
"""Of a service, whatever it ended by and however often: a sender is answered again within 10 s."""

RESET_AFTER = 60.0
"""Seconds that a service must live before its next end counts as a first one."""

_FIRST = 1.0


def backoff(failures: int, longest: float) -> float:
    """Seconds to wait after this many failures in a row: 1, 2, 4 ... up to `longest`; 0 when there was none."""
    return min(longest, _FIRST * 2.0 ** min(failures - 1, 30)) if failures else 0.0


def next_failures(failures: int, lived: float) -> int:
    """A service's ends in a row with one more, after `failures` before it and `lived` seconds."""
    return 1 if lived >= RESET_AFTER else failures + 1
