"""The audit service: follows the trail and sends what is new to the syslog server, from where it stood before.

It stands apart so that neither a page nor an image waits for a server, and runs only where one is configured.
"""

from __future__ import annotations

import sqlite3
import ssl
import time
from functools import partial

from edge import events, reasons
from edge.audit.syslog import SyslogLink, frame
from edge.config import Config, Syslog
from edge.config_section import ConfigError
from edge.device.backoff import backoff
from edge.device.health import HealthFile, State
from edge.device.signals import stop_on_signals
from edge.events import emit
from edge.store import Doorbell, hold_lock, ring
from edge.store.audit import AuditTrail, open_trail

LONGEST_DELAY = 60.0
_LOOK_EVERY = 1.0
_AT_ONCE = 50


def serve(config: Config) -> int:
    """Forward until SIGTERM or SIGINT; what is not sent stays in the trail.

    Raises:
        ConfigError: The configuration names no syslog server.
        AlreadyRunning: Another audit service works on this state folder.
        ScansideError: The trail's keys do not open.
    """
    if config.audit.syslog is None:
        raise ConfigError("audit.syslog: missing: the audit service needs a server, add it or do not start the service")
    stopping = stop_on_signals(partial(ring, config.state_dir, "audit"))
    hold_lock(config.state_dir, "audit")
    bell, health = Doorbell(config.state_dir, "audit"), HealthFile(config.state_dir, "audit")
    trail = open_trail(config, "audit")
    forwarder = Forwarder(trail, config.audit.syslog)
    while not stopping.is_set():
        more = forwarder.turn(time.monotonic())
        state = State.DEGRADED if forwarder.trouble else State.UP
        health.report(state, forwarder.trouble, waiting=forwarder.waiting, forwarded=forwarder.position)
        if not more:
            bell.wait(_LOOK_EVERY)
    forwarder.close()
    health.report(State.DOWN, reasons.STOPPED)
    bell.close()
    trail.close()
    return 0


class Forwarder:
    """Sends, turn by turn, in one thread.

    Attributes:
        position: Up to which record the server has got them.
        waiting: How many wait.
        trouble: Why they do; empty when nothing is amiss.
    """

    def __init__(self, trail: AuditTrail, config: Syslog) -> None:
        """Not connected yet: the first message begins to."""
        self._trail = trail
        self._config = config
        self._link: SyslogLink | None = None
        self._failures = 0
        self._not_before = float("-inf")
        self.position = trail.forwarded()
        self.waiting = 0
        self.trouble = ""

    def turn(self, now: float) -> bool:
        """Send some of what waits, when it is time; whether more waits that can be sent at once.

        Does not raise for a server, a network or a disk that fails. `now` is of a monotonic clock, in seconds.
        """
        try:
            self.waiting = max(0, self._trail.head().number - self.position)
            if not self.waiting or now < self._not_before:
                return False
            self._send()
        except (OSError, ssl.SSLError, sqlite3.Error, ValueError) as error:
            self._failed(error, now)
            return False
        self._failures, self.trouble = 0, ""
        return self.waiting > 0

    def close(self) -> None:
        """Hang up."""
        if self._link:
            self._link.close()
            self._link = None

    def _send(self) -> None:
        records = self._trail.read(self.position, _AT_ONCE)
        for record in records:
            if record.xml is None:
                emit(events.AUDIT_UNREADABLE, number=record.number)
        readable = [(record.xml, record.at) for record in records if record.xml is not None]
        if readable:
            self._connected().send(b"".join(frame(xml, self._trail.source, at) for xml, at in readable))
        # Numbers that somebody removed from the end of the trail are not waited for.
        position = records[-1].number if records else self._trail.head().number
        self._trail.set_forwarded(position)
        self.position, self.waiting = position, max(0, self._trail.head().number - position)

    def _connected(self) -> SyslogLink:
        if self._link and not self._link.is_open():
            self.close()
        if self._link is None:
            self._link = SyslogLink(self._config)
            emit(events.SYSLOG_UP, host=self._config.host, port=self._config.port, waiting=self.waiting)
        return self._link

    def _failed(self, error: Exception, now: float) -> None:
        self.close()
        self._failures += 1
        self._not_before = now + backoff(self._failures, LONGEST_DELAY)
        words = _words(error)
        if self.trouble != (trouble := reasons.NOT_FORWARDED.format(why=words)):
            config = self._config
            emit(events.SYSLOG_DOWN, host=config.host, port=config.port, error=words, waiting=self.waiting)
        self.trouble = trouble


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLEOFError):
        return reasons.HUNG_UP
    if isinstance(error, ssl.SSLError):
        return getattr(error, "verify_message", "") or (error.reason or error.strerror or "no TLS").lower().replace(
            "_", " "
        )
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
