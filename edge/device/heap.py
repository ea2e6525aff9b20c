"""glibc's heap, told what a small box wants. Another C library has its own ways, and is left alone."""

from __future__ import annotations

import ctypes
import gc

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # malloc.h


def share_heaps() -> None:
    """Two heaps for all threads of this process (mallopt(3)); else each has its own, and leaves what it freed there."""
    _mallopt(_M_ARENA_MAX, 2)


def give_back_from(size: int) -> None:
    """Memory that was taken in pieces of `size` bytes or more goes back to the system when freed (mallopt(3))."""
    _mallopt(_M_MMAP_THRESHOLD, size)


def tidy() -> None:
    """Drop objects that only refer to each other, as a closed association does, and give back all that is free.

    Quick where the service has frozen what it started with (`gc.freeze`).
    """
    gc.collect()
    trim()


def trim(keeping: int = 0) -> None:
    """Give back to the system what is free, but for so many bytes at the heap's end (malloc_trim(3))."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim:
        malloc_trim(keeping)


def _mallopt(parameter: int, value: int) -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(parameter, value)
