"""The API's description: paths kept by hand in openapi.json, schemas from the records that the routes answer with."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from edge.web.condition import Condition
from edge.web.dicom_json import StoreResponse
from edge.web.problems import ProblemDetails
from edge.web.views import AcknowledgeRequest, Liveness, Models, ResultPage, ResultView

_RECORDS = (ResultPage, ResultView, AcknowledgeRequest, Condition, Models, Liveness, ProblemDetails, StoreResponse)


@cache
def openapi_document() -> bytes:
    """The OpenAPI 3.1 document as JSON."""
    document = msgspec.json.decode(files("edge.web").joinpath("openapi.json").read_bytes())
    _, schemas = msgspec.json.schema_components(_RECORDS, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] = schemas
    return msgspec.json.encode(document)
