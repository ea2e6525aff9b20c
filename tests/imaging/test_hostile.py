"""Hostile files get an answer and harm nobody: the named ones their own, and a short seeded run of the fuzzer's."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import msgspec
import pytest

from edge.config import Config
from edge.inference.guard import Guard
from tests.imaging.fuzz import LIMITS, run
from tests.imaging.hostile import NAMED, endless

CASES, SEED = 120, 7


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guard]:
    """One analyst for all files here, under the fuzzer's limits, but for the time that a busy machine takes."""
    config = Config(inference=msgspec.structs.replace(LIMITS, engine="onnxruntime", image_seconds=120))
    with Guard(config, tmp_path_factory.mktemp("cache"), service="test") as guard:
        yield guard


@pytest.mark.parametrize("name", NAMED)
def test_a_named_one_gets_its_answer(guard: Guard, name: str) -> None:
    make, reason = NAMED[name]
    (case,) = run(guard, [(name, make())])
    assert case.finding is None
    assert reason is None or case.answer == reason


def test_a_short_run_of_the_fuzzer_finds_nothing(guard: Guard, shared: Path) -> None:
    """The long one: python -m tests.imaging.fuzz."""
    cases = list(run(guard, islice(endless(SEED, shared / "data/dicom/files"), CASES)))
    assert [f"{case.done}: {case.finding}" for case in cases if case.finding] == []
    assert len(cases) == CASES
    assert len({case.answer for case in cases}) >= 5
