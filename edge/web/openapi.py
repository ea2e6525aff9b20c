"""The API's description: paths kept by hand in openapi.json, schemas from the records that the routes answer with."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from edge.web.condition import Condition
from edge.web.dicom_json import StoreResponse
from edge.web.probes import Alert, Liveness, Readiness
from edge.web.problems import ProblemDetails
from edge.web.views import (
    AcknowledgeRequest,
    Errors,
    FindRequest,
    HistoryPage,
    Models,
    ResultPage,
    ResultView,
    StudyView,
    Trends,
)

_RECORDS = (
    ResultPage,
    ResultView,
    StudyView,
    FindRequest,
    AcknowledgeRequest,
    Condition,
    HistoryPage,
    Trends,
    Errors,
    Models,
    Alert,
    Liveness,
    Readiness,
    ProblemDetails,
    StoreResponse,
)


@cache
def openapi_document() -> bytes:
    """The OpenAPI 3.1 document as JSON."""
    document = msgspec.json.decode(files("edge.web").joinpath("openapi.json").read_bytes())
    _, schemas = msgspec.json.schema_components(_RECORDS, ref_template="#/components/schemas/{name}")
    document["components"]["schemas"] = schemas
    return msgspec.json.encode(document)
