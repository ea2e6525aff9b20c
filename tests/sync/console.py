"""A fleet's console as tests need it: it signs orders, publishes them, and sees what became of them."""

from __future__ import annotations

import ssl
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import paho.mqtt.client as paho
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge.messages.commands import Command, Order, Work, sign, topic
from tests.sync.conftest import BOX, SITE, Watcher


class Console(Watcher):
    """A watcher that may order. Its public key lies in `keys`."""

    def __init__(self, port: int, keys: Path, tls: ssl.SSLContext | None = None, username: str | None = None) -> None:
        self.key = Ed25519PrivateKey.generate()
        keys.mkdir(exist_ok=True)
        pem = self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        (keys / "fleet.pub").write_bytes(pem)
        super().__init__(port, "console", username, tls)

    def order(self, work: Work, timeout: int = 60, **changed: object) -> Order:
        """A good order, but for what is changed; not published yet."""
        now = datetime.now(UTC).replace(microsecond=0)
        fields = {"id": uuid.uuid4().hex, "site": SITE, "box": BOX, "issued_at": now, "timeout_seconds": timeout}
        fields |= {"not_after": now + timedelta(minutes=10), "work": work}
        return Order(**(fields | changed))  # type: ignore[arg-type]

    def send(self, order: Order, key: Ed25519PrivateKey | None = None, to: str | None = None) -> str:
        """Sign and publish it, retained; where."""
        where = to or str(topic(order))
        self.publish(where, msgspec.json.encode(sign(order, key or self.key, time.time())))
        return where

    def publish(self, where: str, payload: bytes) -> None:
        """Publish anything, retained."""
        self._client.publish(where, payload, qos=1, retain=True).wait_for_publish(60)

    def ends(self, where: str) -> Command:
        """Wait until the box says on a topic that it has ended; what it says."""

        def ended(seen: list[paho.MQTTMessage]) -> Command | None:
            for message in reversed(seen):
                if message.topic == where and message.payload:
                    try:
                        command = msgspec.json.decode(message.payload, type=Command)
                    except msgspec.MsgspecError:
                        continue
                    if command.status in ("successful", "failed"):
                        return command
            return None

        command: Command = self.until(ended, f"the end of {where}")
        return command

    def do(self, work: Work, timeout: int = 60) -> Command:
        """Order it, and wait for its end."""
        return self.ends(self.send(self.order(work, timeout)))

    def documents(self, where: str) -> list[str]:
        """The statuses that were said on a topic so far, in order; our own are among them."""
        return [msgspec.json.decode(m.payload)["status"] for m in self.seen if m.topic == where and m.payload]
