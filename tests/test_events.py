"""What a process may say: events, and nothing that a library or a traceback quotes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT

SECRET = "QXJVKZWBTD"
FAILING = {
    "the main thread": "raise ValueError(secret)",
    "another thread": "import threading; t = threading.Thread(target=lambda: int(secret)); t.start(); t.join()",
    "a finaliser": "class A:\n    def __del__(self): raise KeyError(secret)\nA()",
}
TALKING = {
    "a warning": "import warnings; warnings.warn(secret)",
    "a library's log": "import logging; logging.getLogger('library').error('%s', secret)",
    "a log line that cannot be made": "import logging; logging.getLogger('scanside').error('%d', secret)",
}


def _said(program: str) -> str:
    start = (
        f"from edge import events; events.configure('test'); events.silence_everything_else(); secret = '{SECRET}'\n"
    )
    return subprocess.run(
        [sys.executable, "-c", start + program], capture_output=True, text=True, cwd=ROOT, check=False
    ).stderr


@pytest.mark.parametrize("where", FAILING)
def test_what_fails_is_one_event_without_values(where: str) -> None:
    said = _said(FAILING[where])
    assert said.count("SC107 the software failed: ") == 1 and said.count("\n") == 1
    assert SECRET not in said and "Traceback" not in said


@pytest.mark.parametrize("what", TALKING)
def test_nothing_else_speaks(what: str) -> None:
    assert _said(TALKING[what]) == ""
