"""Tells systemd how a service is (sd_notify(3)): a datagram to `$NOTIFY_SOCKET`, nothing where there is none."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """The words of one service to the systemd that has started it."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """Find the socket; a name that begins with @ is not in the file system (unix(7))."""
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._ready = False

    def progress(self, status: str, *, ready: bool) -> None:
        """Say that the main loop has come round: what feeds the watchdog. `ready` counts from its first time on."""
        words = ["WATCHDOG=1", f"STATUS={status}"]
        if ready and not self._ready:
            self._ready = True
            words.append("READY=1")
        if not self._address:
            return
        try:
            with socket.socket(
                socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
            ) as sender:
                sender.sendto("\n".join(words).encode(), self._address)
        except OSError:
            return  # the next report says it again, and who is never heard is ended by the watchdog
