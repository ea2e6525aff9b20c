"""A store on a box whose clocks a test moves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.store import Store
from tests.store.conftest import Box, Clock


@pytest.fixture
def box() -> Box:
    return Box(Clock())


@pytest.fixture
def store(tmp_path: Path, box: Box) -> Iterator[Store]:
    with closing(Store(tmp_path, box.wall, machine=box.machine)) as opened:
        yield opened
