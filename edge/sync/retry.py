"""When to try again, and how: pure decisions about connections and refusals. The numbers are MQTT 5's reason codes."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

FIRST_DELAY = 1.0
LONGEST_DELAY = 60.0
LONGEST_DELAY_REFUSED = 300.0
STABLE_AFTER = 30.0
"""Seconds that a connection must live before the next failure counts as a first one."""

FAILURE = 0x80
"""Reason codes from here on say that something was refused (MQTT 5, 2.4)."""

NO_MATCHING_SUBSCRIBERS = 0x10
UNSUPPORTED_PROTOCOL_VERSION = 0x84

# Refusals that only a person can end: client id, credentials, rights, ban, taken-over session, another server.
_FOR_A_PERSON = {0x85, 0x86, 0x87, 0x8A, 0x8C, 0x8E, 0x9C, 0x9D}


class Protocol(StrEnum):
    """The MQTT versions that the box can speak."""

    MQTT_5 = "5"
    MQTT_3_1_1 = "3.1.1"


class Ending(NamedTuple):
    """How an attempt or a connection ended.

    Attributes:
        unanswered: The broker could be reached, but hung up on CONNECT or kept silent.
        code: The reason code of its CONNACK or DISCONNECT; None when it sent none.
        lived: Seconds from CONNACK to the end.
        error: What happened, in words, for the log.
    """

    unanswered: bool
    code: int | None
    lived: float
    error: str


class Attempt(NamedTuple):
    """What to do next: connect with this protocol after `delay` seconds; `failures` so far, for the next decision."""

    protocol: Protocol
    delay: float
    failures: int


def next_attempt(protocol: Protocol, ending: Ending, failures: int, jitter: float) -> Attempt:
    """Decide the next attempt.

    A broker that refuses MQTT 5, or does not answer its CONNECT (amqtt 0.12.1 takes the properties for the client id
    and waits for the rest of it), is asked with MQTT 3.1.1 at once. Every other attempt begins with MQTT 5, so that a
    broker that was replaced by a better one is found out.

    Args:
        protocol: What the attempt or connection that ended had spoken.
        ending: How it ended.
        failures: Failures in a row before it.
        jitter: Uniform in [0, 1): full jitter spreads the boxes of a fleet over the whole delay.
    """
    if protocol is Protocol.MQTT_5 and (ending.unanswered or ending.code == UNSUPPORTED_PROTOCOL_VERSION):
        return Attempt(Protocol.MQTT_3_1_1, 0.0, failures)
    failures = 0 if ending.lived >= STABLE_AFTER else failures
    if ending.code in _FOR_A_PERSON:
        delay = LONGEST_DELAY_REFUSED * jitter
    else:
        delay = back_off(failures, jitter, LONGEST_DELAY)
    return Attempt(Protocol.MQTT_5, delay, failures + 1)


def is_taken(code: int) -> bool:
    """Whether a PUBACK with this reason code says that somebody will have the summary.

    0x10 is success to MQTT, and nobody has the message: so answers a broker that forgot the manager's subscription.
    """
    return code < FAILURE and code != NO_MATCHING_SUBSCRIBERS


def back_off(failures: int, jitter: float, longest: float) -> float:
    """Full jitter (Brooker, "Exponential Backoff And Jitter", 2015): uniform up to 1, 2, 4 ... `longest` seconds."""
    return jitter * min(longest, FIRST_DELAY * 2.0 ** min(failures, 30))
