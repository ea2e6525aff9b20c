"""The programme in short: each kind of fault once, then some by chance. The long one is `benchmarks/faults.py`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.running import PATIENCE
from tests.system.faults.programme import Programme, print_line

pytestmark = pytest.mark.system
SEED = 20261125


@pytest.mark.timeout(1800)
def test_whatever_fails_nothing_accepted_is_lost_or_answered_twice(
    program: Callable[[str], str], tmp_path: Path, model_cache: Path
) -> None:
    programs = {name: program(name) for name in ("mosquitto", "storescu")}
    with Programme(tmp_path, model_cache, SEED, programs) as programme:
        programme.run(list(programme.kinds), print_line)
        print_line(str(programme.counts))
        assert programme.counts.good
        assert programme.counts.accepted >= 7 * len(programme.kinds)
        _lose_the_newest_result(programme.scene.box.state)
        programme.run(["sender dies"], print_line)
        assert (programme.counts.lost, programme.counts.stuck) == (2, 0), "one is missing in the store and on the API"


def _lose_the_newest_result(state: Path) -> None:
    """As no fault must: then the programme has to say so."""
    with closing(sqlite3.connect(state / "journal.sqlite", isolation_level=None, timeout=PATIENCE)) as journal:
        journal.execute("DELETE FROM results WHERE seq = (SELECT max(seq) FROM results)")
