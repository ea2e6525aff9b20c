"""Each requirement of the contract has a test over a real Mosquitto with TLS, and each test names one that is there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from edge.messages.schemas import FOLDER
from tests.conftest import ROOT

_ID = re.compile(r"\b(?:OUTBOX|LINK|MSG|CMD)-[A-Z]+-[0-9]{2}\b")
_ROW = re.compile(rf"^\| ({_ID.pattern}) \| .+\. \|$", re.MULTILINE)
CONTRACT = (FOLDER.parent / "CONTRACT.md").read_text(encoding="utf-8")
_BROKER = (ROOT / "tests" / "sync" / "conftest.py", "mosquitto")
"""The fixture that all real brokers over TLS come from, but those that are about a shipped configuration."""


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def _found(file: Path, name: str) -> tuple[Path, ast.FunctionDef] | None:
    """The fixture that a name means in a file, as pytest finds it: its own, imported, or of a conftest.py above."""
    for node in _tree(file).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return file, node
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            return _found(ROOT.joinpath(*str(node.module).split(".")).with_suffix(".py"), name)
    above = (folder / "conftest.py" for folder in file.parents if folder.is_relative_to(ROOT / "tests"))
    found = (_found(conftest, name) for conftest in above if conftest.exists() and conftest != file)
    return next(filter(None, found), None)


def _has_broker(file: Path, function: ast.FunctionDef) -> bool:
    """Whether one of its fixtures, or of theirs, is the broker."""
    arguments = (*function.args.args, *function.args.kwonlyargs)
    fixtures = filter(None, (_found(file, argument.arg) for argument in arguments))
    return any((there, one.name) == _BROKER or _has_broker(there, one) for there, one in fixtures)


def _named() -> Iterator[tuple[str, str, bool]]:
    """Each id that a test's docstring names, that test, and whether it has the broker."""
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in _tree(file).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test"):
                for found in _ID.findall(ast.get_docstring(node) or ""):
                    yield found, f"{file.relative_to(ROOT)}::{node.name}", _has_broker(file, node)


def test_each_requirement_is_covered_by_a_test_over_tls_and_each_test_by_a_requirement() -> None:
    required = _ROW.findall(CONTRACT)
    assert len(required) == len(set(required)), "an id stands there twice"
    assert sorted(_ID.findall(CONTRACT)) == sorted(required), "each id stands once, in a row with one sentence"
    named = list(_named())
    assert [(name, test) for name, test, _ in named if name not in required] == []
    for_real = {name for name, _, has_broker in named if has_broker}
    assert [name for name in required if name not in for_real] == [], "named by no test that has the broker"


def test_what_has_the_broker_is_told_from_what_has_not() -> None:
    has_broker = {test: has for _, test, has in _named()}
    assert has_broker["tests/sync/test_service.py::test_birth_health_and_summaries"]
    assert has_broker["tests/steward/test_steward.py::test_a_service_is_restarted_and_the_others_stay"], "imported"
    assert not has_broker["tests/sync/test_link.py::test_what_connect_asks_for_is_the_same_each_time"], (
        "one without TLS"
    )
    assert not has_broker["tests/store/test_outbox.py::test_messages_wait_in_the_order_in_which_they_were_put"]
