"""The link: one MQTT connection at a time, driven by one thread. What happens on it becomes values; it decides nothing.

A new paho client serves each connection: its queue in memory must not survive (the outbox is the only one), and packet
identifiers then belong to one connection. Only what blocks in connecting (names, TCP, TLS) runs in a thread of its own.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Callable
from threading import Thread
from typing import Any, NamedTuple

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge.config import Mqtt
from edge.device.client_tls import client_context
from edge.sync.retry import Ending, Protocol

WINDOW = 20
"""Messages that may wait for their PUBACK at once."""

WILL_DELAY = 30
"""Seconds that the broker waits for the box to come back before it says `lost` (MQTT 5, 3.1.3.2.2)."""

ANSWER_WITHIN = 5.0
"""Seconds within which a broker must answer CONNECT."""

LARGEST = 64 * 1024
"""Bytes of the largest packet that the broker may send (MQTT 5, 3.1.2.11.4)."""

_JSON = "application/json"


class Outgoing(NamedTuple):
    """A message to publish with QoS 1.

    Attributes:
        topic: Where to.
        payload: JSON.
        retain: The broker keeps it for those who subscribe later.
        expiry: Seconds after which the broker need not hand it on any more; None for never.
        row: Its number in the outbox; None when it comes from elsewhere.
    """

    topic: str
    payload: bytes
    retain: bool = False
    expiry: int | None = None
    row: int | None = None


class Opened(NamedTuple):
    """The broker accepted the connection."""

    protocol: Protocol


class Acknowledged(NamedTuple):
    """A PUBACK on this connection: what it is for, its reason code and that code's name."""

    message: Outgoing
    code: int
    reason: str


class Received(NamedTuple):
    """A message from the broker, not acknowledged yet (`Link.acknowledge`)."""

    topic: str
    payload: bytes
    packet: int


class NotSubscribed(NamedTuple):
    """The broker does not let the box hear what it asked for: the reason code's name."""

    reason: str


Happened = Opened | Acknowledged | Received | NotSubscribed | Ending


class Link:
    """The connection to one broker. Not for use by several threads."""

    def __init__(
        self, mqtt: Mqtt, client_id: str, wake: Callable[[], None], *, subscription: str | None = None
    ) -> None:
        """Unconnected. `wake` is called, from another thread, when a connection attempt has come to something.

        Args:
            mqtt: The broker.
            client_id: The same for ever: the broker's session belongs to it.
            wake: See above.
            subscription: What to hear, with QoS 1; nothing when None.
        """
        self._subscription = subscription
        self._mqtt = mqtt
        self._client_id = client_id
        self._wake = wake
        self._arrived: deque[paho.Client | Exception] = deque()
        self._happened: deque[Happened] = deque()
        self._client: paho.Client | None = None
        self._unacknowledged: dict[int, Outgoing] = {}
        self._begin(Protocol.MQTT_5)

    def open(self, protocol: Protocol, will: Outgoing) -> None:
        """Begin to connect: ends in `Opened` or in an `Ending`. Only when there is no connection and no attempt."""
        self._begin(protocol)
        Thread(target=self._connect, args=(protocol, will), name="connect", daemon=True).start()

    @property
    def room(self) -> int:
        """How many more messages may be published now."""
        return self._window - len(self._unacknowledged) if self._opened_at is not None else 0

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for their PUBACK."""
        return len(self._unacknowledged)

    def publish(self, message: Outgoing) -> None:
        """Send with QoS 1, when there is room. The only evidence of its delivery is its `Acknowledged`."""
        if self._client is None:
            return
        info = self._client.publish(
            message.topic, message.payload, qos=1, retain=message.retain, properties=self._properties(message)
        )
        self._unacknowledged[info.mid] = message

    def waits_for(self) -> tuple[list[Any], list[Any]]:
        """The sockets to `select` on, for reading and for writing."""
        sock = self._client.socket() if self._client else None
        if self._client is None or sock is None:
            return [], []
        return [sock], [sock] if self._client.want_write() else []

    def acknowledge(self, packet: int) -> None:
        """Tell the broker that a message of this connection is kept: it need not bring it again."""
        if self._client and packet:
            self._client.ack(packet, 1)

    def poll(self) -> list[Happened]:
        """Read and write what is possible now, and tell what has happened since."""
        if self._arrived:
            self._take(self._arrived.popleft())
        if self._client:
            self._exchange(self._client)
        happened = list(self._happened)
        self._happened.clear()
        return happened

    def close(self) -> None:
        """End the connection in good order: the broker forgets the will."""
        if self._client:
            self._client.disconnect()
            self._client = None

    def _begin(self, protocol: Protocol) -> None:
        self._protocol = protocol
        self._unacknowledged.clear()
        self._window = WINDOW
        self._reached_at = 0.0
        self._opened_at: float | None = None
        self._answered = False
        self._code: int | None = None
        self._error = ""

    def _connect(self, protocol: Protocol, will: Outgoing) -> None:
        try:
            client = self._new_client(protocol, will)
            arguments: dict[str, Any] = {}
            if protocol is Protocol.MQTT_5:
                properties = _properties(PacketTypes.CONNECT)
                properties.SessionExpiryInterval = self._mqtt.session_expiry_hours * 3600
                properties.ReceiveMaximum = WINDOW
                properties.MaximumPacketSize = LARGEST
                arguments = {"clean_start": False, "properties": properties}
            client.connect(self._mqtt.host, self._mqtt.port, self._mqtt.keepalive_seconds, **arguments)
            self._arrived.append(client)
        except Exception as error:  # whatever it is, the attempt ended: it must be told, or no other would follow
            self._arrived.append(error)
        self._wake()

    def _new_client(self, protocol: Protocol, will: Outgoing) -> paho.Client:
        mqtt, five = self._mqtt, protocol is Protocol.MQTT_5
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if five else False,
            protocol=MQTTProtocolVersion.MQTTv5 if five else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_inflight_messages_set(WINDOW)
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        client.on_subscribe = self._on_subscribe
        client.on_log = self._on_log
        if mqtt.username is not None:
            password = mqtt.password_file.read_text("utf-8").partition("\n")[0] if mqtt.password_file else None
            client.username_pw_set(mqtt.username, password)
        if mqtt.tls:
            client.tls_set_context(client_context(mqtt.ca_file, mqtt.certificate_file, mqtt.key_file))
        properties = None
        if five:
            properties = _json_properties(PacketTypes.WILLMESSAGE)
            # A session that ends sooner ends the delay (3.1.3.2.2); Mosquitto 2.0.11 must be told.
            properties.WillDelayInterval = min(WILL_DELAY, mqtt.session_expiry_hours * 3600)
        client.will_set(will.topic, will.payload, qos=1, retain=will.retain, properties=properties)
        return client

    def _properties(self, message: Outgoing) -> Any:
        if self._protocol is not Protocol.MQTT_5:
            return None
        properties = _json_properties(PacketTypes.PUBLISH)
        if message.expiry is not None:
            properties.MessageExpiryInterval = message.expiry
        return properties

    def _take(self, arrived: paho.Client | Exception) -> None:
        if isinstance(arrived, Exception):
            self._happened.append(Ending(unanswered=False, code=None, lived=0.0, error=_words(arrived)))
            return
        self._client = arrived
        self._reached_at = time.monotonic()

    def _exchange(self, client: paho.Client) -> None:
        try:
            client.loop_read()
            while isinstance(sock := client.socket(), ssl.SSLSocket) and sock.pending():
                client.loop_read()
            client.loop_write()
            client.loop_misc()
        except (
            Exception
        ) as error:  # bytes of a foreign server that paho could not read: this connection ends, the service does not
            self._end(client, _words(error))
            return
        if client.socket() is None:
            self._end(client, self._error or "closed by the broker")
        elif not self._answered and time.monotonic() - self._reached_at > ANSWER_WITHIN:
            self._end(client, f"no answer to CONNECT within {ANSWER_WITHIN:.0f} s")

    def _end(self, client: paho.Client, error: str) -> None:
        self._client = None
        sock = client.socket()
        if sock is not None:
            sock.close()
        lived = time.monotonic() - self._opened_at if self._opened_at is not None else 0.0
        self._opened_at = None
        self._happened.append(Ending(not self._answered, self._code, lived, error))

    def _on_connect(
        self,
        client: paho.Client,
        _data: object,
        _flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        self._answered = True
        if reason.is_failure:
            self._code, self._error = reason.value, f"CONNECT refused: {reason} ({reason.value:#04x})"
            return
        self._window = min(WINDOW, getattr(properties, "ReceiveMaximum", WINDOW))
        self._opened_at = time.monotonic()
        self._happened.append(Opened(self._protocol))
        if self._subscription:
            # What the box says itself does not come back (MQTT 5, 3.8.3.1).
            if self._protocol is Protocol.MQTT_5:
                client.subscribe(self._subscription, options=SubscribeOptions(qos=1, noLocal=True))
            else:
                client.subscribe(self._subscription, 1)

    def _on_disconnect(
        self, _client: paho.Client, _data: object, flags: paho.DisconnectFlags, reason: ReasonCode, _properties: object
    ) -> None:
        if flags.is_disconnect_packet_from_server:
            self._code, self._error = reason.value, f"DISCONNECT: {reason} ({reason.value:#04x})"
        elif not self._error:
            self._error = str(reason)

    def _on_publish(
        self, _client: paho.Client, _data: object, mid: int, reason: ReasonCode, _properties: object
    ) -> None:
        message = self._unacknowledged.pop(mid, None)
        if message:
            self._happened.append(Acknowledged(message, reason.value, str(reason)))

    def _on_subscribe(
        self, _client: paho.Client, _data: object, _packet: int, reasons: list[ReasonCode], _properties: object
    ) -> None:
        self._happened.extend(NotSubscribed(str(reason)) for reason in reasons if reason.is_failure)

    def _on_message(self, _client: paho.Client, _data: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""  # no topic of the contract
        self._happened.append(Received(topic, bytes(message.payload), message.mid if message.qos else 0))

    def _on_log(self, _client: paho.Client, _data: object, level: int, text: str) -> None:
        if level == paho.MQTT_LOG_ERR:
            self._error = text


def _properties(packet: int) -> Any:
    return Properties(packet)  # type: ignore[no-untyped-call]


def _json_properties(packet: int) -> Any:
    properties = _properties(packet)
    properties.ContentType = _JSON
    properties.PayloadFormatIndicator = 1
    return properties


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
