from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from export.recipe import RecipeError, read_recipe, training_key
from tests.conftest import ROOT
from tests.export.conftest import scanside_export, tiny_recipe

SHIPPED = sorted((ROOT / "models").glob("*/recipe.yaml"))


def _written(folder: Path, recipe: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.parent.name)
def test_shipped_recipes_are_valid_and_named_after_their_folder(path: Path) -> None:
    assert read_recipe(path).id == path.parent.name


@pytest.mark.parametrize(
    ("where", "key", "nearest"),
    [
        ((), "sead", "seed"),
        (("training",), "learning_rat", "learning_rate"),
        (("training", "augmentation"), "rotation", "rotation_degrees"),
        (("quantization", "onnxruntime"), "calibrater", "calibrator"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(
    tmp_path: Path, where: tuple[str, ...], key: str, nearest: str
) -> None:
    recipe = tiny_recipe()
    section = recipe
    for part in where:
        section = section[part]
    section[key] = 1
    with pytest.raises(RecipeError) as caught:
        read_recipe(_written(tmp_path, recipe))
    message = str(caught.value)
    assert repr(key) in message
    assert repr(nearest) in message
    assert all(part in message for part in where)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "many"}, "seed"),
        ({"training": {"epochs": 0}}, "epochs"),
        ({"dataset": {"name": "a", "licence": "b", "path": "c", "train": 0.9}}, "add up to"),
        ({"quantization": {"onnxruntime": {"calibrator": "magic"}}}, "calibrator"),
    ],
)
def test_a_wrong_value_is_named(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        read_recipe(_written(tmp_path, tiny_recipe() | change))


def test_no_yaml_and_no_file_are_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "recipe.yaml"
    broken.write_text("id: [unclosed\n", encoding="utf-8")
    for path in (broken, tmp_path / "missing.yaml"):
        with pytest.raises(RecipeError) as caught:
            read_recipe(path)
        assert "\n" not in str(caught.value)


def test_the_command_says_it_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    path = _written(tmp_path, tiny_recipe() | {"versoin": "1"})
    done = scanside_export("train", path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "'version'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_training_key_follows_what_decides_the_weights_and_nothing_else(tmp_path: Path) -> None:
    recipe = read_recipe(_written(tmp_path, tiny_recipe()))
    same = read_recipe(_written(tmp_path, tiny_recipe() | {"title": "Another title"}))
    other = read_recipe(_written(tmp_path, tiny_recipe(learning_rate=1e-3)))
    assert training_key(recipe, "data") == training_key(same, "data")
    assert len({training_key(recipe, "data"), training_key(other, "data"), training_key(recipe, "other data")}) == 3
