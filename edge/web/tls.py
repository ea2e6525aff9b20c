"""HTTPS for the page: which certificate, how it is spoken, and where those go who come by HTTP.

Strict-Transport-Security is sent with a certificate that the clinic has installed, never with the box's own: a browser
that has once seen it lets nobody past a warning any more, and each box's own certificate begins with one.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import NamedTuple

from edge import events
from edge.config import Config, WebTls
from edge.device.certificates import ExpiryWatch
from edge.device.own_certificate import OwnCertificate, ensure_certificate, own_names
from edge.events import emit

CIPHERS_1_2 = (
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:"
    "ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256"
)
"""With forward secrecy and authenticated encryption alone (RFC 9325 4.2); those of TLS 1.3 are OpenSSL's own choice."""

HSTS = "max-age=31536000"
STALLED_AFTER_SECONDS = 10.0
_LOOK_EVERY = 86_400.0
_REQUEST_BYTES = 4096
_SLOWEST_SECONDS = 2.0
_HOST = re.compile(
    rb"\r\nhost:[ \t]*([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?[ \t]*\r\n", re.IGNORECASE
)


class TlsUnusable(Exception):  # noqa: N818 - a state of the configuration
    """A certificate or key file that cannot be used: the message says which and why."""


class Certificate:
    """The certificate in use: made or found, watched, and read again when its file has changed."""

    def __init__(self, config: Config, tls: WebTls, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since the epoch. Raises `TlsUnusable`."""
        self._clock = clock
        self._names = (config.box, *(() if config.web.host in ("0.0.0.0", "::") else (config.web.host,)))  # noqa: S104
        self._folder = config.state_dir / "tls"
        self._given = tls.certificate_file and tls.key_file and OwnCertificate(tls.certificate_file, tls.key_file)
        self._watch = ExpiryWatch(tls.certificate_file, clock)
        self._looked_at = clock()
        self._files = self._ensured()
        self._loaded = _loaded(self._files)

    @property
    def hsts(self) -> str | None:
        """The value of Strict-Transport-Security; None with the box's own certificate."""
        return HSTS if self._given else None

    @property
    def file(self) -> Path:
        """The certificate's file, PEM."""
        return self._files.certificate_file

    def look(self) -> None:
        """Once a day: renew the box's own, or tell of another one that is about to expire."""
        self._watch.look()
        now = self._clock()
        if self._given or 0 <= now - self._looked_at < _LOOK_EVERY:
            return
        self._looked_at = now
        try:
            self._ensured()
        except TlsUnusable as error:
            emit(events.WEB_TLS_UNUSABLE, error=error)

    def context(self) -> ssl.SSLContext:
        """For a new connection. A file that was replaced by one that cannot be used changes nothing."""
        if _stamp(self._files) != self._loaded.stamp:
            try:
                self._loaded = _loaded(self._files)
            except TlsUnusable as error:
                emit(events.WEB_TLS_UNUSABLE, error=error)
                self._loaded = self._loaded._replace(stamp=_stamp(self._files))
        return self._loaded.context

    def _ensured(self) -> OwnCertificate:
        if self._given:
            return self._given
        try:
            return ensure_certificate(self._folder, own_names(*self._names), self._clock())
        except OSError as error:
            raise TlsUnusable(f"{self._folder}: {error.strerror}: the box's own certificate cannot be made") from error


class Redirect(Thread):
    """Answers whoever comes by HTTP with the same host's HTTPS address, and does nothing else.

    One after the other, and each within two seconds: who holds this up holds up nothing but redirections.
    """

    def __init__(self, listener: socket.socket, port: int) -> None:
        """`listener` becomes this thread's; `port` is that of HTTPS."""
        super().__init__(name="redirect", daemon=True)
        self._listener = listener
        self._port = port

    def run(self) -> None:
        """Until the process ends."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                continue  # nobody came for as long as a connection may stall, whose limit is the listener's as well
            try:
                with connection:
                    connection.settimeout(_SLOWEST_SECONDS)
                    connection.sendall(redirection(connection.recv(_REQUEST_BYTES), self._port))
                    connection.shutdown(socket.SHUT_WR)
                    connection.recv(_REQUEST_BYTES)  # or the answer would be lost with what was not read
            except OSError:
                continue  # they hung up, or stalled


def redirection(request: bytes, port: int) -> bytes:
    """The answer to the beginning of an HTTP request: to the beginning of the page at the host that it names."""
    host = _HOST.search(request)
    if host is None:
        return b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    suffix = b"" if port == 443 else f":{port}".encode()
    location = b"https://" + host[1] + suffix + b"/"
    return (
        b"HTTP/1.1 308 Permanent Redirect\r\nLocation: "
        + location
        + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


class _Loaded(NamedTuple):
    context: ssl.SSLContext
    stamp: tuple[int, ...]


class _Connection(ssl.SSLSocket):
    """Ends when the other side stalls, in the handshake and later."""

    def setblocking(self, flag: bool) -> None:
        """Blocking never means for ever."""
        self.settimeout(STALLED_AFTER_SECONDS if flag else 0.0)

    def do_handshake(self, block: bool = False) -> None:
        """As ever, but not for ever."""
        self.settimeout(STALLED_AFTER_SECONDS)
        super().do_handshake(block)


def _loaded(files: OwnCertificate) -> _Loaded:
    stamp = _stamp(files)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_1_2)
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.sslsocket_class = _Connection
    try:
        context.load_cert_chain(files.certificate_file, files.key_file, password=lambda: "")
    except ssl.SSLError as error:
        rule = "not a certificate and key in PEM, unencrypted, that belong together"
        raise TlsUnusable(f"{files.certificate_file}: {rule}: correct web.tls or the files") from error
    except OSError as error:
        why = f"{files.certificate_file} or {files.key_file}: {error.strerror}"
        raise TlsUnusable(f"{why}: correct web.tls or the files") from error
    return _Loaded(context, stamp)


def _stamp(files: OwnCertificate) -> tuple[int, ...]:
    """What changes when a file is replaced; empty while one is missing."""
    try:
        return tuple(figure for file in files for figure in (file.stat().st_mtime_ns, file.stat().st_ino))
    except OSError:
        return ()
