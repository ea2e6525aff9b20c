"""A short, seeded run of the fuzzer; the long one is `python -m tests.intake.fuzz`."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.intake.fuzz import ListenerUnderTest, fuzz_identity, fuzz_listener

SEED = 20261125


def test_mutated_conversations_are_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)  # put back after the test
    under_test = ListenerUnderTest(tmp_path)
    fuzz_listener(under_test, examples=60, number=SEED)
    under_test.stop()


def test_mutated_data_sets_are_named_or_refused() -> None:
    fuzz_identity(examples=500, number=SEED)
