"""Texts that other parts have written down in English, in the reader's language: the log's, the trail's, reasons.

What was written is a template with values in it. The template is found again, translated, and given the same values:
those stay as they were written, but for one that was itself made of such a template, or is what the system says of an
error that can happen here (errno(3)).
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Sequence
from functools import cache

from edge import reasons
from edge.web.languages import gettext, mark

_ERRORS: dict[int, str] = {
    errno.EACCES: mark("Permission denied"),
    errno.EADDRINUSE: mark("Address already in use"),
    errno.EADDRNOTAVAIL: mark("Cannot assign requested address"),
    errno.ECONNREFUSED: mark("Connection refused"),
    errno.ECONNRESET: mark("Connection reset by peer"),
    errno.EDQUOT: mark("Disk quota exceeded"),
    errno.EHOSTUNREACH: mark("No route to host"),
    errno.EIO: mark("Input/output error"),
    errno.EISDIR: mark("Is a directory"),
    errno.EMFILE: mark("Too many open files"),
    errno.ENETUNREACH: mark("Network is unreachable"),
    errno.ENOENT: mark("No such file or directory"),
    errno.ENOMEM: mark("Cannot allocate memory"),
    errno.ENOSPC: mark("No space left on device"),
    errno.ENOTDIR: mark("Not a directory"),
    errno.EPERM: mark("Operation not permitted"),
    errno.EPIPE: mark("Broken pipe"),
    errno.EROFS: mark("Read-only file system"),
    errno.ETIMEDOUT: mark("Connection timed out"),
}
_RESOLVER = (mark("Name or service not known"), mark("Temporary failure in name resolution"))
"""glibc's words for EAI_NONAME and EAI_AGAIN: a name on the network that is not found, or nobody who would find it."""

_BY_THE_SYSTEM = {os.strerror(number): said for number, said in _ERRORS.items()} | {said: said for said in _RESOLVER}

_FIELD = re.compile(r"\{(\w+)[^}]*\}")
_PLACE = re.compile(r"%\\?\((\w+)\\?\)s")


def message_of(template: str) -> str:
    """A template of `str.format` as a message of the catalogues: `{seconds:.1f} s` is `%(seconds)s s`."""
    return _FIELD.sub(r"%(\1)s", template)


def retold(text: str, messages: Sequence[str]) -> str:
    """A text that was made of one of these messages, or the system's; as it is when it was made of none of them."""
    for message in messages:
        found = _pattern(message).fullmatch(text)
        if found:
            return gettext(message, **{name: retold(value, messages) for name, value in found.groupdict().items()})
    return gettext(_BY_THE_SYSTEM.get(text, "")) or text


def reason(text: str) -> str:
    """What a service gives as its reason (`edge/reasons.py`)."""
    return reasons.joined(retold(one, _REASONS) for one in reasons.apart(text))


_REASONS = tuple(map(message_of, reasons.ALL))


@cache
def _pattern(message: str) -> re.Pattern[str]:
    return re.compile(_PLACE.sub(r"(?P<\1>.*?)", re.escape(message)), re.DOTALL)
