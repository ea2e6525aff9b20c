from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.imaging.resample import to_model_input
from export import datasets
from export.datasets import DatasetError, Row, split
from export.recipe import DatasetRecipe, FindingRecipe
from tests.export.conftest import SIDE, write_dataset

SHARES = (0.6, 0.2, 0.1, 0.1)
FINDING = FindingRecipe(code="233604007", scheme="SCT", meaning="Pneumonia", label="PNEUMONIA")

images = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 25), st.booleans()), min_size=1, max_size=60)


@given(images, st.sets(st.integers(0, 12)), st.integers(0, 9))
def test_no_patient_and_no_content_stands_in_two_splits(
    drawn: list[tuple[int, int, bool]], reserved: set[int], seed: int
) -> None:
    rows = [Row(path=f"{n}.png", label=str(label), patient=str(who)) for n, (who, _, label) in enumerate(drawn)]
    contents = [str(content) for _, content, _ in drawn]
    splits = split(rows, contents, {str(who) for who in reserved}, SHARES, seed)
    of_patient, of_content = defaultdict(set), defaultdict(set)
    for row, content, name in zip(rows, contents, splits, strict=True):
        of_patient[row.patient].add(name)
        of_content[content].add(name)
    assert all(len(names) == 1 for names in (*of_patient.values(), *of_content.values()))
    assert all(of_patient[str(who)] == {"test"} for who in reserved if str(who) in of_patient)


@given(st.permutations(range(30)))
def test_the_split_does_not_depend_on_the_order_of_the_file(order: list[int]) -> None:
    rows = [Row(path=f"{n}.png", label=str(n % 2), patient=str(n // 2)) for n in range(30)]
    paths = [row.path for row in rows]
    plain = dict(zip(paths, split(rows, paths, set(), SHARES, 5), strict=True))
    mixed = [rows[n] for n in order]
    assert split(mixed, [row.path for row in mixed], set(), SHARES, 5) == tuple(plain[row.path] for row in mixed)


def test_shares_are_kept_for_each_label() -> None:
    rows = [Row(path=f"{n}.png", label="rare" if n < 100 else "common", patient=str(n)) for n in range(1000)]
    splits = split(rows, [row.path for row in rows], set(), SHARES, 1)
    for label, count in (("rare", 100), ("common", 900)):
        found = [name for row, name in zip(rows, splits, strict=True) if row.label == label]
        assert [found.count(name) for name in datasets.SPLITS] == [round(count * share) for share in SHARES]


def test_loading_prepares_as_the_device_does_and_keeps_the_pixels(tmp_path: Path) -> None:
    data, cache = tmp_path / "data", tmp_path / "cache"
    data.mkdir()
    write_dataset(data, patients=40)
    recipe = DatasetRecipe(name="a", licence="b", path="data", train=0.5, validation=0.2, calibration=0.1, test=0.2)
    first = datasets.load(data, recipe, [FINDING], side=SIDE // 2, seed=1, cache=cache)
    again = datasets.load(data, recipe, [FINDING], side=SIDE // 2, seed=1, cache=cache)
    assert first.fingerprint == again.fingerprint
    assert len(list(cache.glob("*.npy"))) == 1
    device = to_model_input(datasets.read_image(data / "0.png", SIDE)[0, 0], SIDE // 2, SIDE // 2)
    assert np.abs(datasets.to_input(first.pixels[:1]) - device).max() <= 0.5 / 255 + 1e-6
    assert first.targets[:4, 0].tolist() == [0, 0, 1, 1]


def test_bad_data_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    recipe = DatasetRecipe(name="a", licence="b", path="data")

    def load() -> None:
        datasets.load(data, recipe, [FINDING], side=SIDE, seed=1, cache=tmp_path / "cache")

    with pytest.raises(DatasetError, match=r"labels\.csv"):
        load()
    (data / "labels.csv").write_text("path,label\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="'finding'"):
        load()
    write_dataset(data, patients=40)
    (data / "3.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"3\.png"):
        load()
    (data / "3.png").unlink()
    with pytest.raises(DatasetError, match=r"3\.png"):
        load()


def test_one_class_only_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path, patients=40)
    labels = (tmp_path / "labels.csv").read_text(encoding="utf-8").replace("PNEUMONIA", "NORMAL")
    (tmp_path / "labels.csv").write_text(labels, encoding="utf-8")
    recipe = DatasetRecipe(name="a", licence="b", path="data")
    with pytest.raises(DatasetError, match="both classes"):
        datasets.load(tmp_path, recipe, [FINDING], side=SIDE, seed=1, cache=tmp_path / "cache")


def test_the_shipped_split_leaks_nothing(shared: Path, tmp_path: Path) -> None:
    root = shared / "data/cxr_kermany"
    rows = datasets.read_rows(root / "labels.csv")
    assert len({row.patient for row in rows}) == 3654  # patient numbers restart between the findings
    full = {row.path for row in datasets.read_rows(shared / "data/cxr_full_size/labels.csv")}
    assert len(full) == 24
    assert full <= {Path(row.path).name for row in rows}
