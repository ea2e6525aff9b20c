"""How many requests one address may send, and how much work they may make: a token bucket for each address.

It is asked before anything else is done, and whoever is over it waits for half a second before each answer, in
`service.py`: so a flood holds up neither other visitors nor the inference. A request costs one, and one more for each
2 ms of processor time that it took: what is dear is had less often, and no client has more than a fifth of a core for
long. What brings images has limits of its own (`bodies.py`). Behind a front of its own all visitors have the front's
address: it should limit them.
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
SECONDS_EACH = 0.002
"""Of processor time, for which a request costs one more."""

MOST_ADDRESSES = 4096
_BRINGS_IMAGES = ("/api/v1/studies", "/upload")


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

    def is_over(self, address: str) -> bool:
        """Whether a request of an address would have to wait now. Takes nothing."""
        who, now = subject(address), self._clock()
        with self._lock:
            left, then = self._left.get(who, (self._burst, now))
            return left + max(0.0, now - then) * self._per_second < 1

    def charge(self, address: str, seconds: float) -> None:
        """Take what a request of an address has cost in processor time; it may owe some of it then."""
        who = subject(address)
        with self._lock:
            if who in self._left:
                left, then = self._left[who]
                self._left[who] = (left - seconds / SECONDS_EACH, then)


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


def limited(app: WSGIApplication, rates: Rates, work: Callable[[], float] = time.thread_time) -> WSGIApplication:
    """The app behind the rates: what is over them gets 429. Its connection stays: a new one would cost more, with TLS.

    `work` is how long the calling thread has worked, in seconds of processor time.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        address, begun = environ.get("REMOTE_ADDR") or "", work()
        wait = rates.wait(address)
        if not wait:
            try:
                return app(environ, start_response)
            finally:
                if not environ["PATH_INFO"].startswith(_BRINGS_IMAGES):
                    rates.charge(address, work() - begun)
        headers = [
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(_TOO_MANY))),
            ("Retry-After", str(ceil(wait))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        start_response("429 Too Many Requests", headers)
        return [_TOO_MANY]

    return answer


_TOO_MANY = msgspec.json.encode(
    ProblemDetails(
        title="Too Many Requests",
        status=429,
        detail="more requests, or dearer ones, than one address may send: ask again after Retry-After",
    )
)
REFUSAL = (
    b"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n"
    b"Retry-After: 1\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n%s" % (len(_TOO_MANY), _TOO_MANY)
)
"""The same as bytes, for a connection that is not worth a thread."""
