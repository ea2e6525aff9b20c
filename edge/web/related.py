"""`multipart/related` (RFC 2387, RFC 2046 5.1) as it comes in: one part in memory at a time, as much as is allowed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

logging.getLogger("python_multipart").setLevel(logging.CRITICAL + 1)  # its warnings quote what came in

_MOST_HEADERS, _LONGEST_HEADER = 8, 1024


class Malformed(ValueError):  # noqa: N818 - an answer about the body, not a defect
    """The body is no multipart body with this boundary, or it breaks off."""


@dataclass
class Part:
    """One part.

    Attributes:
        media_type: Its Content-Type without parameters, in lower case; empty when it has none.
        data: Its bytes; when it is too large, as many of them as are allowed.
        too_large: It had more.
    """

    media_type: str = ""
    data: bytearray = field(default_factory=bytearray)
    too_large: bool = False


class RelatedParser:
    """Takes a body in pieces and hands each part on as soon as it is complete."""

    def __init__(self, boundary: str, max_part_bytes: int, take: Callable[[Part], None]) -> None:
        """Raises `Malformed` when nobody may use such a boundary (RFC 2046 5.1.1)."""
        self._max_part_bytes = max_part_bytes
        self._take = take
        self._part = Part()
        self._header, self._value = bytearray(), bytearray()
        self._parts = 0
        self._ended = False
        try:
            self._parser = MultipartParser(
                boundary.encode("ascii"),
                {
                    "on_part_begin": self._begin,
                    "on_header_begin": self._begin_header,
                    "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_part_data": self._add,
                    "on_part_end": self._end,
                    "on_end": self._end_body,
                },
                max_header_count=_MOST_HEADERS,
                max_header_size=_LONGEST_HEADER,
            )
        except (FormParserError, UnicodeEncodeError) as error:
            raise Malformed("no boundary that may be used") from error

    def feed(self, data: bytes) -> None:
        """The next piece. Raises `Malformed`, and what `take` raises."""
        try:
            self._parser.write(data)
        except FormParserError as error:
            raise Malformed("delimiters or headers of the parts are not as RFC 2046 has them") from error

    def finish(self) -> None:
        """The body is over. Raises `Malformed` when it broke off before its last delimiter, or held no part."""
        if not self._ended:
            raise Malformed("the body breaks off before its last delimiter")
        if not self._parts:
            raise Malformed("no part")

    def _begin(self) -> None:
        self._part = Part()

    def _begin_header(self) -> None:
        self._header.clear()
        self._value.clear()

    def _end_header(self) -> None:
        if self._header.strip().lower() == b"content-type":
            self._part.media_type = self._value.decode("latin-1").partition(";")[0].strip().lower()

    def _add(self, data: bytes, start: int, end: int) -> None:
        room = self._max_part_bytes - len(self._part.data)
        self._part.data += memoryview(data)[start : min(end, start + room)]
        self._part.too_large |= end - start > room

    def _end(self) -> None:
        self._parts += 1
        self._take(self._part)
        self._part = Part()

    def _end_body(self) -> None:
        self._ended = True
