"""A week of minutes in a file of one size, whatever happens to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from edge.device.history import FIGURES, MINUTES_KEPT, History, Sample

NOW = 29_900_000
FIGURE = some.none() | some.floats(allow_nan=False, allow_infinity=False)
SAMPLES = some.builds(
    lambda minute, values: Sample(minute=minute, **dict(zip(FIGURES, values, strict=True))),
    some.integers(NOW, NOW + MINUTES_KEPT - 1),
    some.tuples(*[FIGURE] * len(FIGURES)),
)


@settings(max_examples=30, deadline=None)
@given(some.lists(SAMPLES, max_size=20, unique_by=lambda sample: sample.minute))
def test_what_is_kept_is_read_back_in_order(tmp_path_factory: pytest.TempPathFactory, kept: list[Sample]) -> None:
    history = History(tmp_path_factory.mktemp("state"))
    for sample in kept:
        history.keep(sample)
    assert history.since(NOW, NOW + MINUTES_KEPT) == sorted(kept, key=lambda sample: sample.minute)
    history.close()


def test_a_new_week_takes_the_place_of_the_last_and_the_file_does_not_grow(tmp_path: Path) -> None:
    history = History(tmp_path)
    for minute in range(NOW, NOW + MINUTES_KEPT + 10):
        history.keep(Sample(minute=minute, queue_depth=minute % 7))
    file = tmp_path / "history" / "minutes"
    assert file.stat().st_size < 1_100_000
    assert file.stat().st_mode & 0o077 == 0
    kept = history.since(0, NOW + 2 * MINUTES_KEPT)
    assert (kept[0].minute, kept[-1].minute, len(kept)) == (NOW + 10, NOW + MINUTES_KEPT + 9, MINUTES_KEPT)
    history.close()
    again = History(tmp_path)
    assert again.since(NOW + MINUTES_KEPT, NOW + MINUTES_KEPT + 10) == kept[-10:]
    again.close()


@pytest.mark.parametrize("damage", [b"", b"\0" * 200, b"\xff" * 5000, b"x" * 104 * 3])
def test_damage_reads_as_nothing_known(tmp_path: Path, damage: bytes) -> None:
    history = History(tmp_path)
    for minute in range(NOW, NOW + 100):
        history.keep(Sample(minute=minute, load_1min=0.5))
    before = history.since(NOW, NOW + 100)
    file = tmp_path / "history" / "minutes"
    with file.open("r+b") as stream:
        stream.seek(NOW % MINUTES_KEPT * 104)
        stream.write(damage)
    after = history.since(NOW, NOW + 100)
    assert all(sample in before for sample in after)
    assert len(after) >= 100 - len(damage) // 104 - 2
    history.keep(Sample(minute=NOW, load_1min=0.7))
    assert history.since(NOW, NOW + 1) == [Sample(minute=NOW, load_1min=0.7)]
    history.close()
