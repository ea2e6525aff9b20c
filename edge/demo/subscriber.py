"""A subscriber for the demo: hands on everything that boxes publish."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from edge.errors import ScansideError
from edge.messages.topics import ROOT, VERSION

TOPICS = f"{ROOT}/{VERSION}/#"
SUBSCRIBED_WITHIN = 10.0


@contextmanager
def subscribe(host: str, port: int, receive: Callable[[str, bytes], None]) -> Iterator[None]:
    """Call `receive(topic, payload)`, from another thread, for each message while the context lasts.

    MQTT 5, and 3.1.1 with a broker that does not speak it. Inside the context the subscription stands.

    Raises:
        OSError: The broker cannot be reached.
        ScansideError: It does not grant the subscription.
    """
    client = _subscribed(host, port, receive, MQTTProtocolVersion.MQTTv5)
    client = client or _subscribed(host, port, receive, MQTTProtocolVersion.MQTTv311)
    if client is None:
        raise ScansideError(f"the broker at {host}:{port} does not grant a subscription to {TOPICS}: see its log")
    try:
        yield
    finally:
        client.disconnect()
        client.loop_stop()


def _subscribed(
    host: str, port: int, receive: Callable[[str, bytes], None], protocol: MQTTProtocolVersion
) -> paho.Client | None:
    """A client whose subscription was granted, or None."""
    granted: queue.SimpleQueue[bool] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol, reconnect_on_failure=False)
    client.on_connect = lambda connected, *_: connected.subscribe(TOPICS, qos=1)
    client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: granted.put(not reasons[0].is_failure)
    client.on_disconnect = lambda *_: granted.put(False)
    client.on_message = lambda _client, _data, message: receive(message.topic, bytes(message.payload))
    client.connect(host, port)
    client.loop_start()
    try:
        if granted.get(timeout=SUBSCRIBED_WITHIN):
            return client
    except queue.Empty:
        pass
    client.disconnect()
    client.loop_stop()
    return None
