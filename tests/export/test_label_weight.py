from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml

from export.fitting import Place
from export.label_weight import WEIGHTS, weigh
from export.recipe import RecipeError
from tests.export.conftest import is_present, tiny_recipe, write_model

REFERENCE = {"column": "better", "positive": ["Opacity"], "negative": ["Normal"], "train": 0.6}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A model that begins with another's weights; half of the patients have a better label, the others' are wrong."""
    write_model(tmp_path / "first", tiny_recipe(epochs=3, quantized_epochs=0) | {"id": "first"})
    second = tiny_recipe(members=[{"name": "grey", "start": "../first/recipe.yaml"}], balance_within=None)
    second["dataset"]["reference"] = REFERENCE
    path = write_model(tmp_path / "second", second | {"id": "second", "seed": 5})
    table = path.parent / "data/labels.csv"
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    for number, line in enumerate(lines):
        line["better"] = ("Opacity" if is_present(number) else "Normal") if number % 8 < 4 else ""
        if not line["better"]:
            line["label"] = "NORMAL" if is_present(number) else "PNEUMONIA"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def test_labels_that_are_wrong_are_worth_nothing(recipe: Path, tmp_path: Path) -> None:
    said: list[str] = []
    judged = weigh(Place(recipe=recipe, cache=tmp_path / "cache"), said.append)
    assert tuple(each.weight for each in judged) == WEIGHTS
    assert judged[0].auroc > judged[-1].auroc + 0.1
    assert all(each.deviation >= 0.0 for each in judged)
    assert any("with better labels, which judge" in line for line in said)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dataset": {"reference": None}}, "no dataset.reference"),
        ({"training": {"members": [{"name": "grey"}]}}, "begins with no other recipe"),
    ],
)
def test_what_cannot_be_weighed_is_said(
    recipe: Path, tmp_path: Path, change: dict[str, dict[str, object]], words: str
) -> None:
    tree = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    for section, values in change.items():
        tree[section] |= values
    recipe.write_text(yaml.safe_dump(tree), encoding="utf-8")
    with pytest.raises(RecipeError, match=words) as refused:
        weigh(Place(recipe=recipe, cache=tmp_path / "cache"), lambda _: None)
    assert "\n" not in str(refused.value)
