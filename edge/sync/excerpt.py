"""The newest errors of a box as they may leave it: the catalogue's words and plain numbers. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from edge import events
from edge.device.troubles import Trouble
from edge.messages.commands import Line
from edge.messages.topics import is_identifier

_CATALOGUE = {event.number: event for event in vars(events).values() if isinstance(event, events.Event)}
_FIELD = re.compile(r"\{(\w+)(:[^}]*)?\}")
_NUMBER = r"(-?[0-9]{1,12}(?:\.[0-9]{1,3})?)"
_NUMERIC = re.compile(r":[+]?\.[0-9]f")


def excerpt(troubles: Iterable[Trouble], most: int) -> tuple[Line, ...]:
    """The first so many of these, each in the words of the catalogue; values are left out, but numbers of our own.

    What somebody brought (names of files, of senders, errors of libraries) is a text in a template and never a number
    with a format: `*` stands in its place.
    """
    lines = []
    for trouble in list(troubles)[:most]:
        service = trouble.service if is_identifier(trouble.service) else "unlisted"
        text = _scrubbed(trouble.number, trouble.text)
        lines.append(Line(name=f"{service} SC{trouble.number:03d}"[:80], well=False, text=text, count=trouble.count))
    return tuple(lines)


def _scrubbed(number: int, text: str) -> str:
    event = _CATALOGUE.get(number)
    if event is None:
        return "unlisted"
    said = _pattern(event.template).fullmatch(text)
    values = iter(said.groups() if said else ())

    def shown(field: re.Match[str]) -> str:
        return next(values, "*") if _is_numeric(field) else "*"

    return _FIELD.sub(shown, event.template)[:400]


def _pattern(template: str) -> re.Pattern[str]:
    """Matches what the template gives, with a group for each number."""
    parts, end = [], 0
    for field in _FIELD.finditer(template):
        parts += [re.escape(template[end : field.start()]), _NUMBER if _is_numeric(field) else ".*?"]
        end = field.end()
    return re.compile("".join([*parts, re.escape(template[end:])]), re.DOTALL)


def _is_numeric(field: re.Match[str]) -> bool:
    return bool(field[2] and _NUMERIC.fullmatch(field[2]))
