"""The API's description: paths kept by hand in openapi.json, schemas from the records that the routes answer with."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from edge.web.condition import Condition
from edge.web.problems import ProblemDetails
from edge.web.views import AcknowledgeRequest, Liveness, Models, ResultPage, ResultView

_RECORDS = (ResultPage, ResultView, AcknowledgeRequest, Condition, Models, Liveness, ProblemDetails)


@cache
def openapi_document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    text = files("edge.web").joinpath("openapi.json").read_bytes()
    document: dict[str, Any] = msgspec.json.decode(text, type=dict[str, Any])
    _, schemas = msgspec.json.schema_components(_RECORDS, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] = schemas
    return document
