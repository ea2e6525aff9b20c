"""Prints the software bill of materials of the package: CycloneDX 1.6 as JSON, out of the lock file.

`sbom.py LOCK VERSION`: licences are those that the installed distributions state, looked for on PYTHONPATH first.
Exits with 1 when a component states none, or one that is not in `TAKEN`.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

TAKEN = re.compile(
    r"Apache|\bMIT\b|\bBSD|0BSD|\bPSF|Python Software Foundation|Python-2\.0|HPND|\bMPL|Mozilla Public|\bEPL"
    r"|Eclipse Public|Unlicense|Zlib|CC0"
)
"""Licences under which parts may be passed on within a closed box, their texts beside them."""

_PINNED = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>\S+)", re.MULTILINE)


def components(lock: str) -> list[dict[str, Any]]:
    """Each pinned distribution with the SHA-256 of all its archives, one of which is installed."""
    found = []
    starts = [*_PINNED.finditer(lock)]
    ends = [*(start.start() for start in starts[1:]), len(lock)]
    for start, end in zip(starts, ends, strict=True):
        name, version = start["name"], start["version"]
        hashes = re.findall(r"sha256:([0-9a-f]{64})", lock[start.start() : end])
        found.append(
            {
                "type": "library",
                "bom-ref": f"pkg:pypi/{name}@{version}",
                "name": name,
                "version": version,
                "purl": f"pkg:pypi/{name}@{version}",
                "hashes": [{"alg": "SHA-256", "content": each} for each in hashes],
                "licenses": [{"license": {"name": _licence(name)}}],
            }
        )
    return found


def bill(lock: str, version: str) -> dict[str, Any]:
    """The whole document; the same for the same lock file and version."""
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": "scanside",
                "name": "scanside",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": components(lock),
    }


def _licence(name: str) -> str:
    """As the distribution states it: by SPDX where it does, else by classifier, else the first line of its field."""
    about = metadata.metadata(name)
    classifiers = [each.rpartition(" :: ")[2] for each in about.get_all("Classifier", []) if each.startswith("License")]
    stated = [about[field] for field in ("License-Expression", "License") if field in about]
    text = stated[0] if "License-Expression" in about else ", ".join(classifiers) or "".join(stated)
    return text.strip().partition("\n")[0]


if __name__ == "__main__":
    document = bill(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2])
    print(json.dumps(document, indent=1, sort_keys=True))
    refused = [
        f"{each['name']}: {each['licenses'][0]['license']['name'] or 'states no licence'}"
        for each in document["components"]
        if not TAKEN.search(each["licenses"][0]["license"]["name"])
    ]
    if refused:
        sys.exit("sbom: not to be passed on: " + "; ".join(refused))
