"""A broker that reads a CONNECT as it is on the wire, which Mosquitto tells nobody. Without TLS."""

from __future__ import annotations

import socket

from tests.system.conftest import PATIENCE

CONNECT = 0x10


class ScriptedBroker:
    """Listens on a port of this machine for one visitor after another."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE)
        self.port = int(self._server.getsockname()[1])

    def connect(self) -> bytes:
        """A visitor's CONNECT (MQTT 5, 3.1) behind its remaining length; it is accepted, and then hung up on."""
        visitor, _ = self._server.accept()
        visitor.settimeout(PATIENCE)
        with visitor, visitor.makefile("rb") as stream:
            assert stream.read(1)[0] == CONNECT
            length, shift = 0, 0
            while (byte := stream.read(1)[0]) >= 0x80:
                length |= (byte & 0x7F) << shift
                shift += 7
            body = stream.read(length | byte << shift)
            visitor.sendall(b"\x20\x03\x00\x00\x00")
            return body

    def close(self) -> None:
        """Stop listening."""
        self._server.close()
