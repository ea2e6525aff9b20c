"""What was promised, what is there, and the difference: pure, so that a table can show that it finds each fault."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import NamedTuple

_OF_ITS_MOMENT = frozenset({"hour", "latency_ms", "quality"})
"""What of a summary depends on when the image was analysed: some checks of quality compare it with those before."""


class Held(NamedTuple):
    """A result as somebody shows it: its id, and the image that it answers."""

    id: str
    sop_instance_uid: str


class Seen(NamedTuple):
    """Everything that is known after a round.

    Attributes:
        accepted: UIDs of the images that were answered with success.
        store: The results in the store.
        api: The results over HTTP.
        messages: By message id, every different body that came over MQTT under it.
        other_messages: Ids of messages that are no result's: those that were put into the outbox by hand.
        repeated: Ids of results that may have been lost with a torn journal and were given again: their messages must
            give the same answer, but not the same times.
        unreadable: UIDs whose spool file does not hold what was sent.
    """

    accepted: Set[str]
    store: tuple[Held, ...]
    api: tuple[Held, ...]
    messages: Mapping[str, Set[bytes]]
    other_messages: Set[str] = frozenset()
    repeated: Set[str] = frozenset()
    unreadable: Set[str] = frozenset()


class Verdict(NamedTuple):
    """What is wrong, in words with the ids; both empty when nothing is."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]


def judge(seen: Seen) -> Verdict:
    """Hold what is there against what was promised.

    Lost is what was accepted or committed and cannot be found in one of the places where it must be. Doubled is what is
    there more than once, in two versions, or without anything that it could come from.
    """
    return Verdict(tuple(_lost(seen)), tuple(_doubled(seen)))


def _lost(seen: Seen) -> Iterator[str]:
    for place, results in (("store", seen.store), ("HTTP API", seen.api)):
        yield from _say(seen.accepted - {held.sop_instance_uid for held in results}, f"no result in the {place}")
    yield from _say({held.id for held in seen.store} - seen.messages.keys(), "no message about the result")
    yield from _say(seen.other_messages - seen.messages.keys(), "the message never came")
    yield from _say(seen.unreadable, "the spool does not hold what was sent")


def _doubled(seen: Seen) -> Iterator[str]:
    for place, results in (("store", seen.store), ("HTTP API", seen.api)):
        for attribute in Held._fields:
            counts = Counter(getattr(held, attribute) for held in results)
            yield from _say(
                (value for value in counts if counts[value] > 1), f"twice in the {place} by its {attribute}"
            )
        yield from _say(
            {held.sop_instance_uid for held in results} - seen.accepted, f"in the {place}, though never accepted"
        )
    yield from _say({held.id for held in seen.store} ^ {held.id for held in seen.api}, "in one of store and API alone")
    known = {held.id for held in seen.store} | seen.other_messages
    yield from _say(seen.messages.keys() - known, "a message without a result")
    for key, bodies in seen.messages.items():
        if differing := _differing(bodies) - (_OF_ITS_MOMENT if key in seen.repeated else set()):
            names = ", ".join(sorted(differing))
            yield f"{key}: messages of one id that differ in {names}: {_shown(bodies, differing)}"


def _differing(bodies: Set[bytes]) -> set[str]:
    """In which members some JSON objects differ; `bytes` where only their writing does."""
    if len(bodies) < 2:
        return set()
    first, *others = map(json.loads, bodies)
    return {key for other in others for key in first | other if first.get(key) != other.get(key)} or {"bytes"}


def _shown(bodies: Set[bytes], members: Set[str]) -> str:
    """The members in which they differ; summaries say nothing about a patient."""
    parts = ({key: value for key, value in json.loads(body).items() if key in members} for body in sorted(bodies))
    return " and ".join(json.dumps(part, sort_keys=True) for part in parts)


def _say(ids: Iterable[str], what: str) -> Iterator[str]:
    yield from (f"{identifier}: {what}" for identifier in sorted(ids))
