"""Whatever a client sends, the API answers as its OpenAPI document says (schemathesis, in process)."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from edge.device.health import HealthFile, State
from edge.web.accounts import Role
from edge.web.tokens import Scope
from tests.web import samples
from tests.web.conftest import Box
from tests.web.test_api import DOCUMENT

EXAMPLES = 12
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class _Shared:
    box: Box
    token: str
    known: str


@pytest.fixture(scope="module", autouse=True)
def shared(tmp_path_factory: pytest.TempPathFactory) -> object:
    """One box for all examples: what one of them does is part of what the next one meets."""
    box = Box(tmp_path_factory.mktemp("openapi") / "state")
    box.services_up()
    account = HealthFile(box.state_dir, "inference", box.clock)
    account.list_models(samples.IN_SERVICE)
    account.report(State.UP)
    _Shared.box = box
    _Shared.known = samples.commit(box.store, samples.flagged()).id
    samples.commit(box.store, samples.not_analysed())
    _Shared.token = box.tokens.make(box.account(Role.CLINICIAN).name, list(Scope), "test", "ada")
    yield box
    box.close()


@schemathesis.serializer("multipart/related")
def _parts(_context: object, value: object) -> bytes:
    """Anything but instances: those are sent by real peers in other tests."""
    return repr(value).encode(errors="replace")


# The event stream never ends: it has tests of its own.
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT, config=SchemathesisConfig()).exclude(operation_id="events")


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.parametrize("known", [False, True])
def test_every_operation_answers_as_documented(case: schemathesis.Case[Any], known: bool) -> None:
    if known and "result_id" in case.path_parameters:
        case.path_parameters["result_id"] = _Shared.known
    headers = {"Authorization": f"Bearer {_Shared.token}"}
    response = case.call(app=_Shared.box.app, base_url="http://127.0.0.1", headers=headers)
    case.validate_response(response, checks=CHECKS)
