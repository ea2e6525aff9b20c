"""Records as JSON responses."""

from __future__ import annotations

import msgspec
from flask import Response


def json_response(record: object, status: int = 200, mimetype: str = "application/json") -> Response:
    """Anything that msgspec can encode, as a response."""
    return Response(msgspec.json.encode(record), status, mimetype=mimetype)
