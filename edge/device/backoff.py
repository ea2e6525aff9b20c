"""How long to wait before something that failed is tried again."""

from __future__ import annotations

_FIRST = 1.0


def backoff(failures: int, longest: float) -> float:
    """Seconds to wait after this many failures in a row: 1, 2, 4 ... up to `longest`; 0 when there was none."""
    return min(longest, _FIRST * 2.0 ** min(failures - 1, 30)) if failures else 0.0
