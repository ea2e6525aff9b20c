"""The JSON Schemas of every message, generated from the records: `python -m edge.messages.schemas` writes them anew."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import msgspec

from edge.messages.catalogue import MESSAGES

FOLDER = Path(__file__).parent / "schemas"
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of one message by its name in the catalogue.

    Every field is sent with every message, so every field is required, and no other is allowed.
    """
    message = MESSAGES[name]
    document = msgspec.json.schema(message)
    version = str(msgspec.structs.fields(message)[0].default).rpartition("/")[2]
    for definition in document["$defs"].values():
        definition["description"] = inspect.cleandoc(definition["description"])
        if "properties" in definition:
            definition["required"] = list(definition["properties"])
    return {"$schema": _DIALECT, "$id": f"urn:scanside:{name}:{version}", **document}


def write_schemas(folder: Path = FOLDER) -> None:
    """Write each schema to `<name>.schema.json`."""
    folder.mkdir(exist_ok=True)
    for name in MESSAGES:
        text = msgspec.json.format(msgspec.json.encode(schema(name)), indent=2)
        (folder / f"{name}.schema.json").write_bytes(text + b"\n")


if __name__ == "__main__":
    write_schemas()
