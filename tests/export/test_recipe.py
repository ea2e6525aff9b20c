from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from export.recipe import Recipe, RecipeError, read_recipe
from export.training import key
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
        (("training", "members", 0), "architectur", "architecture"),
        (("quantization", "onnxruntime"), "calibrator", "calibrators"),
        (("operating_points", "points", 0), "minimum_sensitivity", "min_sensitivity"),
        (("familiarity",), "refused_shares", "refused_share"),
        (("gate",), "auroc_drops", "auroc_drop"),
    ],
)
def test_an_unknown_key_names_the_nearest_valid_one(
    tmp_path: Path, where: tuple[str | int, ...], key: str, nearest: str
) -> None:
    recipe = tiny_recipe()
    section: Any = recipe
    for part in where:
        section = section[part]
    section[key] = 1
    with pytest.raises(RecipeError) as caught:
        read_recipe(_written(tmp_path, recipe))
    message = str(caught.value)
    assert repr(key) in message
    assert repr(nearest) in message
    assert all(part in message for part in where if isinstance(part, str))
    assert "\n" not in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": "many"}, "seed"),
        ({"training": {"members": [{"name": "grey"}], "epochs": 0}}, "epochs"),
        ({"training": {"members": [{"name": "grey", "architecture": "vgg"}]}}, "architecture"),
        ({"training": {"epochs": 1}}, "members"),
        ({"dataset": {"name": "a", "licence": "b", "path": "c", "train": 0.9}}, "add up to"),
        ({"quantization": {"onnxruntime": {"calibrators": ["magic"]}}}, "calibrators"),
        ({"operating_points": {"default": "none"}}, "'none' is not among the points; add or rename"),
        ({"operating_points": {"default": "a", "points": [{"name": "a"}]}}, "either min_sensitivity or"),
        (
            {"operating_points": {"points": [{"name": "balanced", "min_sensitivity": 0.9, "min_specificity": 0.9}]}},
            "either min_sensitivity or",
        ),
        ({"gate": {"min_auroc": 1.1}}, "min_auroc"),
        ({"findings": []}, "needs at least one; correct task or findings"),
        ({"task": "segmentation"}, "correct task or findings"),
        ({"task": "segmentation", "findings": []}, "correct task or structure"),
        ({"familiarity": None}, "correct task or familiarity"),
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
    def named(recipe: Recipe, fingerprint: str = "data", start: str = "random") -> str:
        return key(recipe, recipe.training.members[0], fingerprint, start)

    def read(**changed: Any) -> Recipe:
        return read_recipe(_written(tmp_path, tiny_recipe() | changed))

    recipe = read()
    training = tiny_recipe()["training"]
    more = {"training": training | {"members": [*training["members"], {"name": "relief", "view": "relief"}]}}
    same = [
        read(title="Another title"),
        read(gate={"min_auroc": 0.9}),
        read(familiarity={"refused_share": 0.5}),
        read(**more),
    ]
    assert {named(each) for each in same} == {named(recipe)}
    others = [
        named(read(training=training | {"learning_rate": 1e-3})),
        named(read(seed=1)),
        named(read(side=32)),
        named(recipe, fingerprint="other data"),
        named(recipe, start="other weights"),
        key(recipe, msgspec.structs.replace(recipe.training.members[0], view="relief"), "data", "random"),
    ]
    assert len({named(recipe), *others}) == 1 + len(others)
