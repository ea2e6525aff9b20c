"""Texts that other parts have written down in English, in the reader's language: the log's, the trail's, reasons.

What was written is a template with values in it. The template is found again, translated, and given the same values:
those stay as they were written, but for one that was itself made of such a template.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from edge import reasons
from edge.web.languages import gettext

_FIELD = re.compile(r"\{(\w+)[^}]*\}")
_PLACE = re.compile(r"%\\?\((\w+)\\?\)s")


def message_of(template: str) -> str:
    """A template of `str.format` as a message of the catalogues: `{seconds:.1f} s` is `%(seconds)s s`."""
    return _FIELD.sub(r"%(\1)s", template)


def retold(text: str, messages: Sequence[str]) -> str:
    """A text that was made of one of these messages; as it is when it was made of none of them."""
    for message in messages:
        found = _pattern(message).fullmatch(text)
        if found:
            return gettext(message, **{name: retold(value, messages) for name, value in found.groupdict().items()})
    return text


def reason(text: str) -> str:
    """What a service gives as its reason (`edge/reasons.py`)."""
    return reasons.joined(retold(one, _REASONS) for one in reasons.apart(text))


_REASONS = tuple(map(message_of, reasons.ALL))


@cache
def _pattern(message: str) -> re.Pattern[str]:
    return re.compile(_PLACE.sub(r"(?P<\1>.*?)", re.escape(message)), re.DOTALL)
