"""Syslog over TLS: RFC 5424 messages with RFC 5425's octet counting, as PS3.15 A.6 asks."""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import struct
import termios
import time
from contextlib import suppress

from edge.config import Syslog
from edge.device.client_tls import client_context
from edge.store.audit.message import AuditSource, utc

SECONDS = 5.0
"""What each step of a connection may take, and how long the server may be silent about what was sent."""

_PRIORITY = 85  # facility 10, security/authorization; severity 5, normal but significant (A.6)
_MESSAGE_ID = "DICOM+RFC3881"
_BOM = "\ufeff"
_ACKNOWLEDGED_EVERY = 0.01
_SETTLING = 0.5
"""With TLS 1.3 a server that refuses our certificate says so after the first messages have reached its system."""


def frame(xml: str, source: AuditSource, at: float) -> bytes:
    """One message as it goes over the wire: its length in octets, a space, and RFC 5424's SYSLOG-MSG."""
    header = f"<{_PRIORITY}>1 {utc(at)} {source.box}.{source.site} scanside - {_MESSAGE_ID} -"
    message = f"{header} {_BOM}{xml}".encode()
    return b"%d %s" % (len(message), message)


class SyslogLink:
    """A connection to a syslog server. Any failure is an `OSError`: then it is of no more use."""

    def __init__(self, config: Syslog) -> None:
        """Connect, and verify the server by name and authority."""
        context = client_context(config.ca_file, config.certificate_file, config.key_file)
        self._settling = _SETTLING
        plain = socket.create_connection((config.host, config.port), SECONDS)
        try:
            self._socket = context.wrap_socket(plain, server_hostname=config.host)
        except BaseException:
            plain.close()
            raise

    def is_open(self) -> bool:
        """Whether the server has not hung up."""
        try:
            self._listen(0.0)
        except OSError:
            return False
        return True

    def send(self, frames: bytes) -> None:
        """Send, and wait until the server's system has all of it: syslog itself has no acknowledgement.

        What the server had received and not yet kept when it crashed is not sent again.
        """
        self._socket.sendall(frames)
        deadline = time.monotonic() + SECONDS
        while self._unacknowledged():
            if time.monotonic() > deadline:
                raise TimeoutError("what was sent is not acknowledged")
            self._listen(_ACKNOWLEDGED_EVERY)  # the kernel has no event for it
        self._listen(self._settling)
        self._settling = 0.0

    def _listen(self, seconds: float) -> None:
        """For so long, let the server say that it hangs up, and why: else it never says anything (RFC 5425 4.4)."""
        deadline = time.monotonic() + seconds
        try:
            while select.select([self._socket], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self._socket.settimeout(0)
                try:
                    if not self._socket.recv(1024):
                        raise ConnectionResetError("the server has hung up")
                except ssl.SSLWantReadError:
                    continue  # TLS's own: a session ticket
        finally:
            self._socket.settimeout(SECONDS)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._socket.unwrap()
        self._socket.close()

    def _unacknowledged(self) -> int:
        """Bytes in the send queue that the server's TCP has not acknowledged (tcp(7), SIOCOUTQ)."""
        size = struct.calcsize("i")
        return int(struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(size)))[0])
