"""Every reason that a service gives stands in `edge/reasons.py`, which the page retells in each of its languages."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import reasons
from tests.conftest import ROOT

FILES = [file for file in sorted((ROOT / "edge").rglob("*.py")) if "fleet" not in file.parts]

HELD_IN = {"trouble", "_trouble", "amiss", "last_words", "_replaced", "WORDS", "repaired_lately"}
"""Where services keep a reason until they report it: variables, attributes, and functions that tell it."""

GIVEN_TO = (".report", "._report", ".refuse", "._lost", "Damaged", "Unreachable")
"""What is called with one: how the name of it ends."""


def name_of(node: ast.AST) -> str:
    return getattr(node, "attr", "") or getattr(node, "id", "")


def given(node: ast.AST) -> Iterator[ast.expr]:
    """The expressions under a node that become a service's reason."""
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(GIVEN_TO):
        yield from node.args
    elif isinstance(node, ast.Call) and {"state", "reason"} <= {keyword.arg for keyword in node.keywords}:
        yield from (keyword.value for keyword in node.keywords if keyword.arg == "reason")
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "append":
        yield from node.args if name_of(node.func.value) in HELD_IN else ()
    elif isinstance(node, ast.Assign | ast.NamedExpr | ast.AnnAssign) and node.value is not None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [each for target in targets for each in getattr(target, "elts", [target])]
        if HELD_IN & set(map(name_of, names)):
            yield node.value
    elif isinstance(node, ast.Tuple) and node.elts and any(map(is_state, ast.walk(node.elts[0]))):
        yield from node.elts[1:]
    elif isinstance(node, ast.FunctionDef) and node.name in HELD_IN:
        yield from (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)


def is_state(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and name_of(node.value) == "State"


def written(node: ast.AST) -> Iterator[str]:
    """The texts that an expression has of its own: not what it compares, formats a template with or looks up."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield from filter(None, [node.value])
    elif isinstance(node, ast.JoinedStr):
        yield ast.unparse(node)
    elif isinstance(node, ast.IfExp):
        yield from (*written(node.body), *written(node.orelse))
    elif isinstance(node, ast.BoolOp | ast.Tuple | ast.List | ast.Dict):
        yield from (text for each in getattr(node, "values", getattr(node, "elts", ())) for text in written(each))
    elif isinstance(node, ast.BinOp):
        yield from (*written(node.left), *written(node.right))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        yield from written(node.func.value)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_service_gives_no_reason_of_its_own(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        for expression in given(node):
            assert list(written(expression)) == [], f"line {expression.lineno}: write it in edge/reasons.py"


@pytest.mark.parametrize(
    "code",
    [
        'health.report(State.DOWN, "gone")',
        'health.report(State.DEGRADED if trouble else State.UP, trouble or f"{count} wait")',
        'self.trouble = "it fails" if fails else ""',
        'status, last_words = 1, "gone"',
        'return State.DOWN, "gone"',
        'WORDS = {Band.FULL: "full"}',
        'amiss.append("{} wait".format(count))',
        'replace(health, state=State.DOWN, reason="gone")',
        'def trouble(self): return f"{count} wait"',
        'raise Unreachable("no answer")',
    ],
)
def test_what_a_service_may_not_do_is_seen(code: str) -> None:
    assert [text for node in ast.walk(ast.parse(code)) for each in given(node) for text in written(each)]


def test_several_reasons_come_apart_again() -> None:
    parked = reasons.RESULTS_PARKED.format(count=2, destination="main-2")
    waits = reasons.RESULTS_WAIT.format(count=3, destination="ward", why=reasons.NO_CONNECTION)
    for several in ([], [parked], [reasons.NO_REPORTS, waits, parked, waits]):
        assert reasons.apart(reasons.joined(several)) == (several or [""])
