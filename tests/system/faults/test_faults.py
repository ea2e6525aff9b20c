"""The programme in short: each kind of fault once, then some by chance. The long one is `benchmarks/faults.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.faults.programme import Programme, print_line

pytestmark = pytest.mark.system
SEED = 20261125


@pytest.mark.timeout(900)
def test_whatever_fails_nothing_accepted_is_lost_or_answered_twice(
    program: Callable[[str], str], tmp_path: Path, model_cache: Path
) -> None:
    programs = {name: program(name) for name in ("mosquitto", "storescu")}
    with Programme(tmp_path, model_cache, SEED, programs) as programme:
        programme.run(list(programme.kinds), print_line)
        print_line(str(programme.counts))
    assert programme.counts.good
