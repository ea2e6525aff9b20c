"""The schemas in the folder are those of the code, and as strict as they say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from jsonschema import Draft202012Validator, ValidationError

from edge.device.health import State as ServiceWord
from edge.messages.catalogue import MESSAGES, schema_ids
from edge.messages.schemas import FOLDER, write_schemas
from edge.messages.types import ServiceState, State
from tests.messages.schemas import check, document
from tests.messages.test_summary import FLAGGED, _summary


def test_the_files_are_what_the_code_gives(tmp_path: Path) -> None:
    write_schemas(tmp_path)
    # As JSON, not as text: whether a limit prints as 0 or 0.0 depends on which equal annotation Python cached first.
    fresh = {path.name: msgspec.json.decode(path.read_bytes()) for path in tmp_path.iterdir()}
    lying = {path.name: msgspec.json.decode(path.read_bytes()) for path in FOLDER.iterdir()}
    assert lying == fresh, "run: python -m edge.messages.schemas"


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if node.get("type") == "object":
            yield node
        for value in node.values():
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)


@pytest.mark.parametrize("name", MESSAGES)
def test_a_schema_is_valid_and_allows_nothing_else(name: str) -> None:
    """MSG-SCHEMA-01"""
    schema = document(name)
    Draft202012Validator.check_schema(schema)
    objects = list(_objects(schema))
    assert objects
    for described in objects:
        assert described["additionalProperties"] is False
        assert set(described["required"]) == set(described["properties"])


def test_one_key_more_is_refused() -> None:
    message = json.loads(msgspec.json.encode(_summary(FLAGGED)))
    check("summary", json.dumps(message).encode())
    message["patient_name"] = "x"
    with pytest.raises(ValidationError, match="patient_name"):
        check("summary", json.dumps(message).encode())


@pytest.mark.parametrize("key", ["schema", "session", "ts"])
def test_one_key_less_is_refused(key: str) -> None:
    message = {"schema": "scanside.state/1", "state": "ready", "session": "0" * 32, "ts": "2026-11-20T23:42:11Z"}
    check("state", json.dumps(message).encode())
    del message[key]
    with pytest.raises(ValidationError, match=key):
        check("state", json.dumps(message).encode())


def test_the_words_for_a_service_are_those_of_the_box() -> None:
    words = msgspec.structs.fields(ServiceState)[2].type
    assert set(get_args(words)) == set(ServiceWord)


def test_each_message_names_its_version() -> None:
    """MSG-SCHEMA-01"""
    versions = {schema_id.partition("/")[0]: int(schema_id.partition("/")[2]) for schema_id in schema_ids()}
    assert set(versions) == {f"scanside.{name}" for name in MESSAGES}
    for name in MESSAGES:
        assert document(name)["$id"] == f"urn:scanside:{name}:{versions[f'scanside.{name}']}"
    assert State.__struct_fields__[0] == "schema"
