"""The collector's connection to the broker: messages in, and an acknowledgement for each only when it is asked for.

Any number of collectors of one group share what boxes measure and find (shared subscriptions, MQTT 5, 4.8.2). What is
retained is sent to each, as shared subscriptions are given nothing retained: it says the same however often it comes.
"""

from __future__ import annotations

import select
import ssl
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from edge.config import Mqtt
from edge.device.client_tls import client_context
from edge.messages.topics import ROOT, VERSION
from edge.sync.retry import Ending, Protocol

WINDOW = 2000
"""Messages that the broker may send before the first of them is acknowledged (Receive Maximum, MQTT 5, 3.1.2.11.3)."""

ANSWER_WITHIN = 5.0

_ALL = f"{ROOT}/{VERSION}/+/+/+"
SHARED = (f"{_ALL}/m/+/+", f"{_ALL}/find/+/+")
RETAINED = (f"{_ALL}/status/+/+", f"{_ALL}/shadow/reported/-")


class Delivered(NamedTuple):
    """A message, and the packet identifier by which it is acknowledged on this connection.

    Attributes:
        live: False for what the broker had retained when the collector subscribed.
    """

    packet: int
    topic: str
    payload: bytes
    live: bool


class Opened(NamedTuple):
    """The broker accepted the connection and every subscription."""

    protocol: Protocol
    session_present: bool


class Subscription:
    """One connection at a time. Not for use by several threads."""

    def __init__(
        self,
        mqtt: Mqtt,
        client_id: str,
        group: str | None,
        shared: Sequence[str] = SHARED,
        own: Sequence[str] = RETAINED,
    ) -> None:
        """Unconnected; without a group nothing is shared. `shared` and `own` are topic filters."""
        self._shared = shared
        self._own = own
        self._mqtt = mqtt
        self._client_id = client_id
        self._group = group
        self._client: paho.Client | None = None

    def open(self, protocol: Protocol) -> Ending | None:
        """Connect and ask for the messages; the Ending when there is no way to the broker."""
        self._protocol = protocol
        self._happened: list[Delivered | Opened | Ending] = []
        self._answered = self._present = False
        self._code: int | None = None
        self._error = ""
        self._opened_at: float | None = None
        self._reached_at = time.monotonic()
        try:
            client = self._new_client(protocol)
            arguments: dict[str, Any] = {}
            if protocol is Protocol.MQTT_5:
                properties: Any = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
                properties.SessionExpiryInterval = self._mqtt.session_expiry_hours * 3600
                properties.ReceiveMaximum = WINDOW
                arguments = {"clean_start": False, "properties": properties}
            client.connect(self._mqtt.host, self._mqtt.port, self._mqtt.keepalive_seconds, **arguments)
        except (OSError, ValueError) as error:
            return Ending(unanswered=False, code=None, lived=0.0, error=f"{type(error).__name__}: {error}")
        self._client = client
        return None

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted connection and subscriptions."""
        return self._opened_at is not None

    def poll(self, seconds: float, most: int = 100) -> list[Delivered | Opened | Ending]:
        """What happens within this time, as soon as something does; about `most` messages of what has come by then."""
        client = self._client
        if client is None:
            return []
        sock = client.socket()
        if sock is not None and not _has_more(sock):
            select.select([sock], [sock] if client.want_write() else [], [], max(0.0, seconds))
        try:
            client.loop_read()  # one packet, whatever number it is given
            while len(self._happened) < most and (sock := client.socket()) is not None and _has_more(sock):
                client.loop_read()
            client.loop_write()
            client.loop_misc()
        except Exception as error:  # bytes of a foreign server that paho could not read: this connection ends
            self._end(f"{type(error).__name__}: {error}")
        else:
            if client.socket() is None:
                self._end(self._error or "closed by the broker")
            elif not self._answered and time.monotonic() - self._reached_at > ANSWER_WITHIN:
                self._end(f"no answer to CONNECT within {ANSWER_WITHIN:.0f} s")
        happened, self._happened = self._happened, []
        return happened

    def acknowledge(self, packets: Sequence[int]) -> None:
        """Tell the broker that these messages of this connection are kept."""
        if self._client:
            for packet in packets:
                self._client.ack(packet, 1)

    def publish(self, topic: str, payload: bytes) -> None:
        """Send a message with QoS 1, to be retained; an empty one clears. Its delivery is nobody's promise."""
        if self._client:
            self._client.publish(topic, payload, 1, retain=True)

    def close(self) -> None:
        """End the connection; the broker keeps the session, and in it what comes meanwhile."""
        if self._client:
            self._client.disconnect()
            self._client = None
        self._opened_at = None

    def _new_client(self, protocol: Protocol) -> paho.Client:
        mqtt, five = self._mqtt, protocol is Protocol.MQTT_5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        if mqtt.username is not None:
            password = mqtt.password_file.read_text("utf-8").partition("\n")[0] if mqtt.password_file else None
            client.username_pw_set(mqtt.username, password)
        if mqtt.tls:
            client.tls_set_context(client_context(mqtt.ca_file, mqtt.certificate_file, mqtt.key_file))
        return client

    def _on_connect(
        self, client: paho.Client, _data: object, flags: paho.ConnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._code, self._error = reason.value, f"CONNECT refused: {reason} ({reason.value:#04x})"
            return
        self._present = flags.session_present
        prefix = f"$share/{self._group}/" if self._group and self._protocol is Protocol.MQTT_5 else ""
        client.subscribe([(f"{prefix}{topic}", 1) for topic in self._shared] + [(topic, 1) for topic in self._own])

    def _on_subscribe(
        self, client: paho.Client, _data: object, _packet: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        refused = next((reason for reason in reasons if reason.is_failure), None)
        if refused:  # without the rights there is nothing to do here, and a person must see it
            self._code, self._error = refused.value, f"SUBSCRIBE refused: {refused} ({refused.value:#04x})"
            client.disconnect()
            return
        self._opened_at = time.monotonic()
        self._happened.append(Opened(self._protocol, self._present))

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "(a topic that is no text)"
        self._happened.append(Delivered(message.mid, topic, bytes(message.payload), not message.retain))

    def _on_disconnect(
        self, _client: paho.Client, _data: object, flags: paho.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._code, self._error = reason.value, f"DISCONNECT: {reason} ({reason.value:#04x})"
        elif not self._error:
            self._error = str(reason)

    def _end(self, error: str) -> None:
        client, self._client = self._client, None
        sock = client.socket() if client else None
        if sock is not None:
            sock.close()
        lived = time.monotonic() - self._opened_at if self._opened_at is not None else 0.0
        self._opened_at = None
        self._happened.append(Ending(not self._answered, self._code, lived, error))


def _has_more(sock: paho.SocketLike) -> bool:
    """Whether a read would find something: in the TLS layer, or on the socket."""
    return bool(isinstance(sock, ssl.SSLSocket) and sock.pending()) or bool(select.select([sock], [], [], 0.0)[0])
