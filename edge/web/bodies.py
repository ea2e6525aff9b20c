"""The bodies of requests that carry images, held to the limits. Other requests bring 64 KiB at most (`create_app`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import BinaryIO

from flask import Flask, g, request
from gunicorn.http.errors import ParseException

from edge.web.dependencies import given
from edge.web.languages import gettext
from edge.web.limits import too_slow
from edge.web.problems import Problem

_FORM_BYTES = 64 * 1024
_CHUNK = 1 << 18


def register(app: Flask) -> None:
    """Give each request's place back when it is over."""
    app.teardown_request(_leave)


def admit(*, form: bool) -> None:
    """Let this request bring images. Only once it is known that its sender may: until then nothing of it is read.

    Args:
        form: It is the page's form with one file; otherwise it brings as many instances as fit into a request.

    Raises:
        Problem: 503, others are bringing images at this moment.
    """
    limits = given().limits
    if not limits.enter():
        detail = gettext("others are sending images to this box at this moment: try again")
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, {"Retry-After": "2"})
    g.brings_images = True
    request.environ["wsgi.input"] = Watched(request.environ["wsgi.input"])
    if form:
        request.max_form_memory_size = 4 * _FORM_BYTES  # what is read of a file and not yet parsed counts, too
    request.max_content_length = limits.max_instance_bytes + _FORM_BYTES if form else limits.max_request_bytes


def drain() -> None:
    """Read and drop the rest of the body, up to the largest request: a browser that is still sending shows no answer.

    Raises:
        Problem: As `Watched.read`.
    """
    left = given().limits.max_request_bytes
    while left > 0 and (chunk := request.environ["wsgi.input"].read(_CHUNK)):
        left -= len(chunk)


class Watched:
    """A request's body that is given up when it stalls, breaks off or dawdles."""

    def __init__(self, stream: BinaryIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._began = clock()
        self._received = 0

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; none at the end.

        Raises:
            Problem: 408, nothing came for too long or too little did; 400, the connection or its framing broke.
        """
        try:
            data = self._stream.read(size)
        except (TimeoutError, BlockingIOError) as error:  # the socket's own limit: EAGAIN
            detail = gettext("the request's body stalled: send it again")
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail) from error
        except (OSError, ParseException) as error:
            detail = gettext("the request's body broke off: send it again")
            raise Problem(HTTPStatus.BAD_REQUEST, detail) from error
        self._received += len(data)
        if too_slow(self._received, self._clock() - self._began):
            detail = gettext("the request's body comes too slowly: send it over a faster link")
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, detail)
        return data


def _leave(_error: BaseException | None) -> None:
    if g.pop("brings_images", False):
        given().limits.leave()
