"""Each requirement of the contract has a test that names it, and no test names one that is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from edge.messages.schemas import FOLDER
from tests.conftest import ROOT

_ID = re.compile(r"\b(?:OUTBOX|LINK|MSG|CMD)-[A-Z]+-[0-9]{2}\b")
_ROW = re.compile(rf"^\| ({_ID.pattern}) \| .+\. \|$", re.MULTILINE)
CONTRACT = (FOLDER.parent / "CONTRACT.md").read_text(encoding="utf-8")


def _named() -> Iterator[tuple[str, str]]:
    """Each id that a test's docstring names, and that test."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name.lower().startswith("test"):
                for found in _ID.findall(ast.get_docstring(node) or ""):
                    yield found, f"{file.relative_to(ROOT)}::{node.name}"


def test_each_requirement_is_covered_by_a_test_and_each_test_by_a_requirement() -> None:
    required = _ROW.findall(CONTRACT)
    assert len(required) == len(set(required)), "an id stands there twice"
    assert sorted(_ID.findall(CONTRACT)) == sorted(required), "each id stands once, in a row with one sentence"
    named = dict(_named())
    assert {name: test for name, test in named.items() if name not in required} == {}
    assert [name for name in required if name not in named] == []
