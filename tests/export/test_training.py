from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import torch
import yaml
from torch import nn

from export.architectures import WeightsError, rounded_weights
from export.datasets import Dataset, Row, Split
from export.fitting import Place, Trained, fit
from export.objectives import Figures
from export.recipe import Recipe, RecipeError
from export.training import Data, Epoch, Task, eligible, history, is_finished, predict, train, trained, trained_in_float
from tests.export.conftest import SIDE, scanside_export, tiny_recipe, write_model

STRUCTURE = {"code": "39607008", "scheme": "SCT", "meaning": "Lung"}
SPLITS: tuple[Split, ...] = ("train", "train", "validation", "test", "calibration")
STILL = {"epochs": 1, "quantized_epochs": 0, "learning_rate": 1e-12, "weight_decay": 0.0}
"""A training that moves nothing: what comes out is what went in."""


def recipe_of(task: str = "classification", **training: Any) -> Recipe:
    recipe = tiny_recipe(**training)
    if task == "segmentation":
        recipe |= {"task": task, "findings": [], "structure": STRUCTURE, "familiarity": None}
    return msgspec.convert(recipe, Recipe)


def discs(count: int, *, masks: bool = False, views: Sequence[str] = ("PA",)) -> Dataset:
    """Discs of different places and sizes; every second one has a bright spot, which is the finding."""
    random = np.random.default_rng(3)
    pixels = random.integers(0, 40, (count, SIDE, SIDE), dtype=np.uint8)
    shapes = np.zeros_like(pixels)
    for number in range(count):
        centre = tuple(int(value) for value in random.integers(SIDE // 3, 2 * SIDE // 3, 2))
        cv2.circle(shapes[number], centre, int(random.integers(SIDE // 6, SIDE // 3)), 1, -1)
        pixels[number] += 120 * shapes[number]
        if number % 2:
            cv2.circle(pixels[number], centre, SIDE // 10, 240, -1)
    targets = (np.arange(count) % 2).astype(np.float32)[:, np.newaxis]
    return Dataset(
        rows=tuple(
            Row(path=f"{number}.png", label="", patient=str(number), view=views[number % len(views)])
            for number in range(count)
        ),
        pixels=pixels,
        targets=targets[:, :0] if masks else targets,
        masks=shapes if masks else None,
        splits=tuple(SPLITS[number // 2 % len(SPLITS)] for number in range(count)),
        fingerprint="discs",
    )


def keep(network: nn.Module) -> None:
    """Leaves the random weights."""


def fitted(recipe: Recipe, dataset: Dataset, folder: Path) -> tuple[Task, list[Epoch]]:
    task = Task(recipe, recipe.training.members[0], folder)
    return task, train(task, Data(dataset, None), keep, lambda _: None)


def off_grid(member: nn.Module) -> float:
    """How far the weights lie from the INT8 grid, at most."""
    plain = dict(member.named_parameters())
    return max(float((plain[name] - value).detach().abs().max()) for name, value in rounded_weights(member).items())


def test_a_segmentation_learns_its_masks(tmp_path: Path) -> None:
    members = [{"name": "lungs", "architecture": "unet"}]
    recipe = recipe_of("segmentation", members=members, epochs=8, learning_rate=5e-3, patience=8)
    dataset = discs(80, masks=True)
    task, epochs = fitted(recipe, dataset, tmp_path)
    dice = [epoch.validation.dice or 0.0 for epoch in epochs]
    assert dice[-1] > max(dice[0], 0.8)
    assert [epoch.validation.auroc for epoch in epochs] == [None] * len(epochs)
    chosen = dataset.indices("validation")
    masks = predict(trained(task), torch.from_numpy(dataset.pixels[chosen][:, np.newaxis] / np.float32(255)))
    assert masks.shape == (len(chosen), 1, SIDE, SIDE)
    assert 0.0 <= masks.min() <= masks.max() <= 1.0


def test_a_classification_learns_its_finding_and_tells_how(tmp_path: Path) -> None:
    recipe = recipe_of(epochs=4, learning_rate=1e-3, patience=4)
    task, epochs = fitted(recipe, discs(80), tmp_path)
    assert epochs[-1].training_loss < epochs[0].training_loss
    assert [epoch.quantized for epoch in epochs] == [False, False, False, True]
    measured = epochs[-1].validation
    assert None not in (measured.auroc, measured.accuracy, measured.precision, measured.recall, measured.f1)
    assert history(task.folder) == epochs


def test_rounded_and_float_weights_are_both_kept(tmp_path: Path) -> None:
    task, _ = fitted(recipe_of(epochs=2, quantized_epochs=1), discs(40), tmp_path)
    before = trained_in_float(task)
    assert before is not None
    assert off_grid(trained(task)) < 1e-6
    assert off_grid(before) > 1e-4


def test_without_rounding_the_kept_weights_are_the_float_ones(tmp_path: Path) -> None:
    task, _ = fitted(recipe_of(epochs=1, quantized_epochs=0), discs(40), tmp_path)
    before = trained_in_float(task)
    assert before is not None
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in trained(task).state_dict().items())


def test_rounding_from_the_first_epoch_on_leaves_no_float_weights(tmp_path: Path) -> None:
    task, _ = fitted(recipe_of(epochs=1, quantized_epochs=1), discs(40), tmp_path)
    assert trained_in_float(task) is None
    assert off_grid(trained(task)) < 1e-6


@pytest.mark.parametrize(("within", "learned"), [(None, True), ("view", False), ("sex", True)])
def test_a_view_that_foretells_the_finding_teaches_nothing_when_balanced_within(
    tmp_path: Path, within: str | None, learned: bool
) -> None:
    confounded = discs(40, views=("PA", "AP"))  # every AP image is positive, no PA image is; nobody's sex is known
    _, epochs = fitted(recipe_of(epochs=1, quantized_epochs=0, balance_within=within), confounded, tmp_path)
    assert (epochs[0].training_loss > 0.0) == learned


def epoch(number: int, stressed: float, *, quantized: bool = False) -> Epoch:
    return Epoch(
        number=number,
        seconds=1.0,
        quantized=quantized,
        training_loss=1.0,
        validation=Figures(loss=0.0),
        stressed=Figures(loss=stressed),
    )


@pytest.mark.parametrize(
    ("losses", "rounded", "how", "finished"),
    [
        ([], 0, {"epochs": 2, "quantized_epochs": 0}, False),
        ([3, 2], 0, {"epochs": 2, "quantized_epochs": 0}, True),
        ([3, 2, 1], 0, {"epochs": 9, "quantized_epochs": 0, "patience": 1}, False),
        ([1, 2], 0, {"epochs": 9, "quantized_epochs": 0, "patience": 1}, True),
        ([1, 2, 3], 0, {"epochs": 9, "quantized_epochs": 0, "patience": 3}, False),
        ([2, 3, 1, 3, 3], 0, {"epochs": 9, "quantized_epochs": 0, "patience": 2}, True),
        # Only rounded epochs are kept, so only they can be stale.
        ([1, 2, 3], 0, {"epochs": 9, "quantized_epochs": 3, "patience": 1}, False),
        ([1, 2, 3, 4], 2, {"epochs": 9, "quantized_epochs": 3, "patience": 1}, True),
        ([1, 2, 4, 3], 2, {"epochs": 9, "quantized_epochs": 3, "patience": 1}, False),
    ],
)
def test_when_a_training_is_finished(losses: list[float], rounded: int, how: dict[str, Any], finished: bool) -> None:
    first = len(losses) - rounded
    epochs = [epoch(number + 1, loss, quantized=number >= first) for number, loss in enumerate(losses)]
    recipe = recipe_of(**how).training
    assert is_finished(recipe, epochs) == finished
    assert len(eligible(recipe, epochs)) == (rounded if recipe.quantized_epochs else len(epochs))


def two_models(folder: Path, name: str = "grey") -> tuple[Path, Path]:
    """A model, and another one on the same data whose member begins with the first one's."""
    first = write_model(folder / "first", tiny_recipe())
    later = tiny_recipe(members=[{"name": name, "start": "../first/recipe.yaml"}], **STILL) | {"id": "later"}
    later["dataset"]["path"] = "../first/data"
    second = folder / "second/recipe.yaml"
    second.parent.mkdir()
    second.write_text(yaml.safe_dump(later), encoding="utf-8")
    return first, second


def test_a_member_begins_with_another_models_weights(tmp_path: Path) -> None:
    first, second = two_models(tmp_path)

    def run() -> tuple[Trained, list[str]]:
        said: list[str] = []
        return fit(Place(recipe=second, cache=tmp_path / "cache"), said.append), said

    work, said = run()
    assert "grey: begins with the weights of first" in said
    before = fit(Place(recipe=first, cache=tmp_path / "cache"), said.append)
    assert sum("trained before" in line for line in said) == 1  # only this time
    was, now = (trained(each.tasks[0]).state_dict() for each in (before, work))
    backbone = [name for name in was if name.split(".")[1] not in ("head", "bias")]
    assert len(backbone) > 100
    assert all(torch.allclose(was[name], now[name], atol=1e-6) for name in backbone)
    assert not torch.allclose(was["network.head.weight"], now["network.head.weight"], atol=1e-3)
    again, said = run()
    assert again.key == work.key
    assert sum("trained before" in line for line in said) == 2
    first.write_text(yaml.safe_dump(tiny_recipe(label_smoothing=0.2, **STILL)), encoding="utf-8")
    assert run()[0].key != work.key  # other weights to begin with are another training


def test_a_start_without_that_member_is_one_line(tmp_path: Path) -> None:
    _, second = two_models(tmp_path, name="relief")
    with pytest.raises(WeightsError, match="no member is called 'relief'; rename it to one of grey") as refused:
        fit(Place(recipe=second, cache=tmp_path / "cache"), lambda _: None)
    assert "\n" not in str(refused.value)


def test_recipes_that_need_one_another_in_a_circle_are_one_line(tmp_path: Path) -> None:
    first, second = two_models(tmp_path)
    back = tiny_recipe(members=[{"name": "grey", "start": "../second/recipe.yaml"}])
    first.write_text(yaml.safe_dump(back), encoding="utf-8")
    with pytest.raises(RecipeError, match="circle \\(second -> first -> second\\); take out one start") as refused:
        fit(Place(recipe=second, cache=tmp_path / "cache"), lambda _: None)
    assert "\n" not in str(refused.value)


def test_a_segmentation_outlines_the_lungs_of_a_data_set_without_masks(tmp_path: Path) -> None:
    how = {"epochs": 10, "quantized_epochs": 0, "learning_rate": 1e-2, "ema_decay": 0.5}
    outliner = tiny_recipe(members=[{"name": "lungs", "architecture": "unet"}], **how)
    structure = {"code": "39607008", "scheme": "SCT", "meaning": "Lung"}
    outliner |= {"id": "outliner", "task": "segmentation", "findings": [], "familiarity": None, "structure": structure}
    outliner["golden_tolerance"] = {"mask": 0.2}
    path = write_model(tmp_path / "outliner", outliner)
    write_masks(path.parent / "data", 255, 80)  # all but the corners, which is soon learned
    wanting = tiny_recipe(epochs=1, quantized_epochs=0, outside_evidence=0.2)
    wanting["dataset"]["lungs"] = "../outliner/recipe.yaml"
    said: list[str] = []
    work = fit(Place(recipe=write_model(tmp_path / "tiny", wanting), cache=tmp_path / "cache"), said.append)
    assert "lungs: outlined by outliner" in said
    assert work.lungs is not None
    assert work.lungs.shape == work.dataset.pixels.shape
    assert work.lungs.mean() > 0.5
    wanting["dataset"]["lungs"] = "../tiny/recipe.yaml"
    (tmp_path / "tiny/recipe.yaml").write_text(yaml.safe_dump(wanting), encoding="utf-8")
    with pytest.raises(RecipeError, match="circle \\(tiny -> tiny\\)"):
        fit(Place(recipe=tmp_path / "tiny/recipe.yaml", cache=tmp_path / "cache"), said.append)


def write_masks(data: Path, value: int, radius: int) -> None:
    """Discs as the lungs of every second image."""
    with (data / "labels.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    (data / "masks").mkdir(exist_ok=True)
    for number, line in enumerate(lines):
        mask = np.zeros((128, 128), dtype=np.uint8)
        cv2.circle(mask, (64, 64), radius, value, -1)
        cv2.imwrite(str(data / "masks" / line["path"]), mask)
        line["mask"] = f"masks/{line['path']}" if number % 2 else ""
    with (data / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def test_the_background_is_changed_where_the_data_set_has_masks(tmp_path: Path) -> None:
    recipe = tiny_recipe(epochs=1, quantized_epochs=0)
    recipe["training"]["augmentation"]["background"] = 0.5
    recipe["dataset"]["lung_value"] = 9
    path = write_model(tmp_path, recipe)

    def run() -> tuple[int, str, set[str]]:
        done = scanside_export("train", path, "--cache", tmp_path / "cache")
        return done.returncode, done.stderr, {folder.name for folder in (tmp_path / "cache/tiny").glob("grey-*")}

    write_masks(path.parent / "data", 9, 40)
    status, error, one = run()
    assert (status, error, len(one)) == (0, "", 1)
    write_masks(path.parent / "data", 9, 20)
    status, error, two = run()  # other masks are another training
    assert (status, error, len(two)) == (0, "", 2)
    write_masks(path.parent / "data", 8, 20)
    status, error, three = run()
    assert (status, three) == (1, two)
    assert error.count("\n") == 1
    assert "no pixel of the mask is 9" in error
