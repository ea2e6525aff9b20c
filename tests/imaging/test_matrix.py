"""The matrix of the folder's README is what the code decodes, and misses nothing that was written."""

from __future__ import annotations

import pytest

from edge.imaging.transfer_syntaxes import DECODED_SYNTAXES
from tests.imaging import matrix


@pytest.mark.parametrize("short", matrix.NAMES, ids=lambda short: short or "implicit")
def test_all_that_can_be_written_is_read_as_it_was(short: str) -> None:
    for photometric in ("MONOCHROME1", "MONOCHROME2", *matrix.COLOURS):
        for depth in matrix.COLOURS.get(photometric, matrix.DEPTHS):
            found = matrix.error(short, photometric, depth)
            assert found is None or found <= matrix.tolerance(short, photometric, depth), (photometric, depth)


def test_the_readme_shows_it() -> None:
    assert len(matrix.NAMES) == len(DECODED_SYNTAXES)
    text = matrix.README.read_text(encoding="utf-8")
    shown = text.partition(matrix.START)[2].partition(matrix.END)[0]
    assert shown == matrix.table(), "write it again: python -m tests.imaging.matrix"
