"""Checks messages with a validator that is not ours."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from edge.messages.schemas import FOLDER


def document(name: str) -> dict[str, Any]:
    """A schema as it lies in the folder."""
    content: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return content


def check(name: str, payload: bytes | bytearray) -> dict[str, Any]:
    """The message, after it has been found valid; raises `jsonschema.ValidationError` otherwise."""
    message: dict[str, Any] = json.loads(payload)
    _validator(name).validate(message)
    return message


@cache
def _validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(document(name), format_checker=Draft202012Validator.FORMAT_CHECKER)
