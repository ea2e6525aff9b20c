"""What requests that carry images may take: how much, how slowly, and how many at once."""

from __future__ import annotations

from threading import BoundedSemaphore

GRACE_SECONDS = 20.0
SLOWEST = 16 * 1024
"""Bytes a second: less than the slowest line that anybody sends images over."""


def too_slow(received: int, seconds: float) -> bool:
    """Whether a body that has brought this many bytes in this time takes a place for too long."""
    return seconds > GRACE_SECONDS + received / SLOWEST


class Limits:
    """Sizes in bytes, and the places for those who bring images at one moment: each may hold an image in memory."""

    def __init__(self, *, max_instance_bytes: int, max_request_bytes: int, places: int = 2) -> None:
        self.max_instance_bytes = max_instance_bytes
        self.max_request_bytes = max_request_bytes
        self._places = BoundedSemaphore(places)

    def enter(self) -> bool:
        """Take a place; False when there is none."""
        return self._places.acquire(blocking=False)

    def leave(self) -> None:
        """Give a place back."""
        self._places.release()
