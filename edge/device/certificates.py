"""TLS certificates of this box that are about to expire: told in time, as nobody gets in, or out, after that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge import events
from edge.events import emit

WARN_WITHIN_DAYS = 30
_DAY = 86400.0


def days_left(file: Path, now: float) -> float:
    """Days until the first certificate of a PEM file expires; negative when it has.

    Args:
        file: One certificate, and those between it and its authority.
        now: Seconds since the epoch.

    Raises:
        OSError, ValueError: It cannot be read, or holds no certificate.
    """
    from cryptography import x509  # noqa: PLC0415 - 8 MB that a box without TLS does not pay for

    certificates = x509.load_pem_x509_certificates(file.read_bytes())
    return (min(one.not_valid_after_utc.timestamp() for one in certificates) - now) / _DAY


class ExpiryWatch:
    """Tells of a service's certificate once a day, from 30 days before its end on."""

    def __init__(self, file: Path | None, clock: Callable[[], float]) -> None:
        """`file` is None for a service without one; `clock` gives seconds since the epoch."""
        self._file = file
        self._clock = clock
        self._looked_at: float | None = None
        self.days: float | None = None
        """Until the certificate ends, as of the last look; None without one, or when it cannot be read."""

    def look(self) -> None:
        """Look again, if it is time."""
        now = self._clock()
        if self._file is None or (self._looked_at is not None and 0 <= now - self._looked_at < _DAY):
            return
        self._looked_at = now
        try:
            self.days = days_left(self._file, now)
        except (OSError, ValueError):
            self.days = None
            return  # the service that cannot use it says so itself
        if self.days < WARN_WITHIN_DAYS:
            emit(events.CERTIFICATE_EXPIRES, file=self._file, days=self.days)
