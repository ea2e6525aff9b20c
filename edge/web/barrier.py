"""Shuts an address out of a listening socket for a moment, in the kernel: the last means against a flood of connects.

To refuse a connection costs some 80 microseconds of processor time, which at thousands a second is what images and
other visitors would have had. A socket filter (socket(7), SO_ATTACH_FILTER) sees a connection's first packet before
there is a connection, and drops it for next to nothing. Connections that are open already do not pass it.
"""

from __future__ import annotations

import ctypes
import socket
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress

from edge.web.rates import subject

MOST_REFUSED = 200
"""Within `SECONDS`, of one address."""

SECONDS = 1.0
MOST_SHUT_OUT = 64

_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_LOAD_BYTE, _LOAD_WORD, _AND, _IS, _RETURN = 0x30, 0x20, 0x54, 0x15, 0x06  # linux/bpf_common.h
_NETWORK = 0xFFF00000  # SKF_NET_OFF, linux/filter.h: from here on the offset counts from the IP header
_IPV4, _IPV6 = 0x40, 0x60
_SOURCE = {_IPV4: 12, _IPV6: 8}  # RFC 791, RFC 8200
_ALL, _NOTHING = 0xFFFFFFFF, 0


class Barrier:
    """Before a listening socket. For one thread."""

    def __init__(self, listener: socket.socket, clock: Callable[[], float]) -> None:
        """`clock` gives seconds, steadily."""
        self._listener = listener
        self._clock = clock
        self._refused: Counter[str] = Counter()
        self._begun = clock()
        self._until: dict[str, float] = {}

    def refused(self, address: str) -> None:
        """A connection of this address was refused; more than `MOST_REFUSED` within `SECONDS`, and it is shut out."""
        now, who = self._clock(), subject(address)
        if now - self._begun > SECONDS:
            self._refused.clear()
            self._begun = now
        self._refused[who] += 1
        if self._refused[who] > MOST_REFUSED and who not in self._until and len(self._until) < MOST_SHUT_OUT:
            self._until[who] = now + SECONDS
            self._put()

    def look(self) -> None:
        """Let in again those whose time is over."""
        now = self._clock()
        over = [who for who, until in self._until.items() if until <= now]
        for who in over:
            del self._until[who], self._refused[who]
        if over:
            self._put()

    def _put(self) -> None:
        program = dropping(self._until)
        kept = ctypes.create_string_buffer(program, len(program))
        head = struct.pack("HP", len(program) // 8, ctypes.addressof(kept))  # struct sock_fprog
        with suppress(OSError):  # a kernel that takes none: each connection is refused by itself, as before
            self._listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, head)


def dropping(subjects: Iterable[str]) -> bytes:
    """A program (`struct sock_filter`s) that drops packets of these (as `rates.subject` names them) and no others."""
    steps: list[tuple[int, int, int, int]] = []
    for who in subjects:
        version, source = (_IPV4, socket.inet_aton(who)) if "." in who else (_IPV6, bytes.fromhex(who))
        words = struct.unpack(f">{len(source) // 4}I", source)
        left = 2 * len(words) + 1  # steps to the next one
        steps += [(_LOAD_BYTE, 0, 0, _NETWORK), (_AND, 0, 0, 0xF0), (_IS, 0, left, version)]
        for number, word in enumerate(words):
            left -= 2
            steps += [(_LOAD_WORD, 0, 0, _NETWORK + _SOURCE[version] + 4 * number), (_IS, 0, left, word)]
        steps.append((_RETURN, 0, 0, _NOTHING))
    steps.append((_RETURN, 0, 0, _ALL))
    return b"".join(struct.pack("HBBI", *step) for step in steps)
