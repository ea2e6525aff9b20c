"""A broker for one visitor that does exactly what a test says, packet by packet, for what Mosquitto will not do.

Without TLS: it is about single packets.
"""

from __future__ import annotations

import socket
from typing import NamedTuple

from tests.system.conftest import PATIENCE

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, PINGREQ, DISCONNECT = 1, 3, 4, 8, 12, 14


class Packet(NamedTuple):
    """A control packet (MQTT 5, 2.1): its type, and what follows the remaining length."""

    kind: int
    body: bytes

    @property
    def topic(self) -> str:
        """Of a PUBLISH (3.3.2.1)."""
        length = int.from_bytes(self.body[:2], "big")
        return self.body[2 : 2 + length].decode()

    @property
    def identifier(self) -> bytes:
        """Of a PUBLISH with QoS 1 (3.3.2.2)."""
        start = 2 + int.from_bytes(self.body[:2], "big")
        return self.body[start : start + 2]


class ScriptedBroker:
    """Listens on a port of this machine; `accept` takes the visitor in."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(PATIENCE)
        self.port = int(self._server.getsockname()[1])

    def accept(self, connack: bytes) -> None:
        """Wait for a visitor's CONNECT and answer it with this CONNACK's body."""
        self._visitor, _ = self._server.accept()
        self._visitor.settimeout(PATIENCE)
        self._stream = self._visitor.makefile("rb")
        self.connect = self.read()
        assert self.connect.kind == CONNECT
        self._visitor.sendall(bytes([0x20, len(connack)]) + connack)

    def read(self) -> Packet:
        """The next packet."""
        kind = self._stream.read(1)[0] >> 4
        length, shift = 0, 0
        while True:
            byte = self._stream.read(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return Packet(kind, self._stream.read(length))

    def read_until_ping(self) -> list[Packet]:
        """Everything up to the PINGREQ that the visitor sends when it has nothing more to say."""
        packets = []
        while (packet := self.read()).kind != PINGREQ:
            packets.append(packet)
        self._visitor.sendall(b"\xd0\x00")
        return packets

    def read_publishes(self, count: int) -> list[Packet]:
        """The next so many PUBLISH packets; pings in between are answered."""
        packets: list[Packet] = []
        while len(packets) < count:
            packet = self.read()
            if packet.kind == PINGREQ:
                self._visitor.sendall(b"\xd0\x00")
            else:
                packets.append(packet)
        return packets

    def publish(self, topic: str, payload: bytes, identifier: int) -> None:
        """Send a PUBLISH with QoS 1 and without properties (MQTT 5, 3.3)."""
        name = topic.encode()
        body = len(name).to_bytes(2, "big") + name + identifier.to_bytes(2, "big") + b"\0" + payload
        length, left = bytearray(), len(body)
        while True:
            left, digit = divmod(left, 128)
            length.append(digit | (0x80 if left else 0))
            if not left:
                break
        self._visitor.sendall(b"\x32" + bytes(length) + body)

    def acknowledge(self, packet: Packet, code: int) -> None:
        """Send the PUBACK of a PUBLISH with a reason code (MQTT 5, 3.4.2)."""
        self._visitor.sendall(b"\x40\x03" + packet.identifier + bytes([code]))

    def hang_up(self) -> None:
        """Close the connection without a word."""
        self._stream.close()
        self._visitor.close()

    def close(self) -> None:
        """Stop listening."""
        self._server.close()
