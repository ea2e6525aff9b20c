"""How many requests one address may send: a token bucket for each, asked before anything else is done.

What is over the rate costs this service as little as possible, so that a flood holds up neither other visitors nor the
inference. Behind a front of its own all visitors have the front's address: it should limit them itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from ipaddress import IPv6Address, ip_address
from math import ceil
from threading import Lock
from typing import TYPE_CHECKING

import msgspec

from edge.web.problems import ProblemDetails

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PER_SECOND = 100.0
"""A page that is opened asks for ten things at once, and then for two at each new result."""

BURST = 400.0
MOST_ADDRESSES = 4096


class Rates:
    """How much each address has left. Safe to share between threads."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        *,
        per_second: float = PER_SECOND,
        burst: float = BURST,
        most: int = MOST_ADDRESSES,
    ) -> None:
        """`clock` gives seconds, steadily; more than `most` addresses at once are not told apart from new ones."""
        self._clock = clock
        self._per_second = per_second
        self._burst = burst
        self._most = most
        self._left: dict[str, tuple[float, float]] = {}
        self._lock = Lock()

    def wait(self, address: str) -> float:
        """Take one request of an address; 0 when it may be answered, else the seconds until one may be."""
        who, now = subject(address), self._clock()
        with self._lock:
            left, then = self._left.pop(who, (self._burst, now))
            left = min(self._burst, left + max(0.0, now - then) * self._per_second)
            allowed = left >= 1
            self._left[who] = (left - 1 if allowed else left, now)
            if len(self._left) > self._most:  # the one that has been silent for longest
                del self._left[next(iter(self._left))]
        return 0.0 if allowed else (1 - left) / self._per_second


def subject(address: str) -> str:
    """What counts as one client: an IPv4 address, or the network of an IPv6 one (a /64 is given to one customer)."""
    if ":" not in address:
        return address
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped) if parsed.ipv4_mapped else parsed.packed[:8].hex()


def limited(app: WSGIApplication, rates: Rates) -> WSGIApplication:
    """The app behind the rates: what is over them gets 429 and its connection closed."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        wait = rates.wait(environ.get("REMOTE_ADDR") or "")
        if not wait:
            return app(environ, start_response)
        headers = [
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(_TOO_MANY))),
            ("Retry-After", str(ceil(wait))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Connection", "close"),
        ]
        start_response("429 Too Many Requests", headers)
        return [_TOO_MANY]

    return answer


_TOO_MANY = msgspec.json.encode(
    ProblemDetails(
        title="Too Many Requests",
        status=429,
        detail=f"more than {PER_SECOND:.0f} requests a second from this address: ask again after Retry-After",
    )
)
