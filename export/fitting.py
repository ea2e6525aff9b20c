"""A recipe's data and its fitted networks: every member trained, or found trained before."""

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from export import architectures, datasets, training
from export.datasets import SPLITS, Dataset
from export.recipe import DatasetRecipe, MemberRecipe, Recipe, RecipeError, read_recipe
from export.steps import Report, digest, key_of
from export.training import Task

_MARGIN = 0.04
"""How far around the lungs their surroundings belong to them, as a share of the side."""
_LUNG_FROM = 0.5


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a build reads and writes."""

    recipe: Path
    """recipe.yaml; the bundle goes to ``bundle/`` beside it."""
    cache: Path
    """Prepared pixels, checkpoints and finished steps; safe to delete."""
    dataset: Path | None = None
    """The data set's folder, when it is not where the recipe says."""
    smoke: bool = False
    """Whether only to see that everything runs, on few small images: what comes out is good for nothing."""

    @property
    def bundle(self) -> Path:
        """The bundle's folder."""
        return (
            self.cache / "smoke" / self.recipe.parent.name / "bundle" if self.smoke else self.recipe.parent / "bundle"
        )

    def beside(self, path: str) -> Path:
        """A path that the recipe gives relative to itself."""
        return (self.recipe.parent / path).resolve()


class Trained(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe with its data and its fitted members."""

    recipe: Recipe
    dataset: Dataset
    lungs: NDArray[np.uint8] | None
    """The lungs with a margin [N, side, side] of 0 and 1, where the training wanted them."""
    tasks: tuple[Task, ...]
    key: str

    def network(self) -> architectures.Ensemble:
        """The members in one graph, as they are quantized."""
        return architectures.Ensemble([(task.member.name, training.trained(task)) for task in self.tasks])

    def network_in_float(self) -> architectures.Ensemble | None:
        """The members as they were before any rounding of weights, where training kept that."""
        members = [(task.member.name, training.trained_in_float(task)) for task in self.tasks]
        found = [(name, member) for name, member in members if member is not None]
        return architectures.Ensemble(found) if len(found) == len(members) else None


def fit(place: Place, report: Report, above: tuple[Path, ...] = ()) -> Trained:
    """Reads the data and trains every member, unless the cache holds the finished training of these very inputs.

    Args:
        place: Where everything lies.
        report: Takes one line of progress at a time.
        above: The recipes that wait for this one, as theirs begin with its weights or take their lungs from it.

    Raises:
        RecipeError: The recipe waits for itself.
    """
    if place.recipe in above:
        circle = " -> ".join(path.parent.name for path in (*above, place.recipe))
        raise RecipeError(
            f"{place.recipe}: recipes need one another in a circle ({circle}); take out one start or lungs"
        )
    recipe, above = recipe_of(place), (*above, place.recipe)
    data = load(place, recipe, recipe.dataset, report, place.dataset)
    counts = Counter(data.splits)
    left_out = f", left out {counts[None]}" if counts[None] else ""
    report(f"data: {len(data.rows)} images; {', '.join(f'{name} {counts[name]}' for name in SPLITS)}{left_out}")
    lungs = _lungs(place, recipe, data, report, above)
    tasks, keys = [], []
    for member in recipe.training.members:
        source, start = _start(place, member, report, above)
        key = training.key(recipe, member, key_of((data.fingerprint, _content(lungs))), source)
        task = Task(recipe, member, place.cache / recipe.id / f"{member.name}-{key}")
        if training.is_finished(recipe.training, training.history(task.folder)):
            report(f"{member.name}: trained before, kept in {task.folder}")
        else:
            training.train(task, training.Data(data, lungs), start, report)
        tasks.append(task)
        keys.append(key)
    return Trained(recipe=recipe, dataset=data, lungs=lungs, tasks=tuple(tasks), key=key_of(keys))


def recipe_of(place: Place) -> Recipe:
    """The recipe, cut down where only a smoke run is wanted."""
    recipe = read_recipe(place.recipe)
    return _cut_down(recipe) if place.smoke else recipe


def load(place: Place, recipe: Recipe, which: DatasetRecipe, report: Report, root: Path | None = None) -> Dataset:
    """A data set that the recipe names, prepared and split; ``root`` is its folder when not where the recipe says."""
    return datasets.load(
        root or place.beside(which.path),
        which,
        findings=recipe.findings if which is recipe.dataset else (),
        structure=recipe.structure if which is recipe.dataset else None,
        side=recipe.side,
        seed=recipe.seed,
        cache=place.cache,
        report=report,
    )


def _lungs(
    place: Place, recipe: Recipe, data: Dataset, report: Report, above: tuple[Path, ...]
) -> NDArray[np.uint8] | None:
    """The lungs with a margin, [N, side, side] of 0 and 1, where the training looks at what lies around them."""
    if not recipe.training.augmentation.background and not recipe.training.outside_evidence:
        return None
    which = recipe.dataset
    if which.lungs is not None:
        masks = _outlined(
            msgspec.structs.replace(place, recipe=place.beside(which.lungs), dataset=None), data, report, above
        )
    else:
        root = place.dataset or place.beside(which.path)
        masks = datasets.load_lungs(
            root, data.rows, side=recipe.side, value=which.lung_value, cache=place.cache, report=report
        )
    margin = 2 * round(_MARGIN * recipe.side) + 1
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (margin, margin))
    return np.stack([cv2.dilate(mask, element) for mask in masks])


def _outlined(place: Place, data: Dataset, report: Report, above: tuple[Path, ...]) -> NDArray[np.uint8]:
    """The lungs [N, side, side] of 0 and 1 as a segmentation outlines them, which is trained first."""
    report(f"lungs: outlined by {place.recipe.parent.name}")
    work = fit(place, report, above)
    if work.recipe.task != "segmentation" or work.recipe.side != data.pixels.shape[1]:
        raise RecipeError(
            f"{place.recipe}: a {work.recipe.task} of {work.recipe.side} pixels gives no lungs for images of "
            f"{data.pixels.shape[1]}; name the recipe of a segmentation of the same side"
        )
    masks = training.predict(work.network(), torch.from_numpy(datasets.to_input(data.pixels)))
    return np.asarray(masks[:, 0] > _LUNG_FROM, dtype=np.uint8)


def _content(lungs: NDArray[np.uint8] | None) -> str:
    return "" if lungs is None else hashlib.sha256(np.packbits(lungs).tobytes()).hexdigest()


def _start(
    place: Place, member: MemberRecipe, report: Report, above: tuple[Path, ...]
) -> tuple[str, Callable[[nn.Module], None]]:
    """What decides a member's first weights, in words, and what puts them into its network."""
    if member.start is None:
        return "random", _keep
    path = place.beside(member.start)
    if path.suffix not in {".yaml", ".yml"}:
        try:
            source = digest(path)
        except OSError as error:
            raise architectures.WeightsError(f"{path}: {error.strerror}; correct the member's start") from error
        return source, lambda network: architectures.load_weights(network, path)
    report(f"{member.name}: begins with the weights of {path.parent.name}")
    other = fit(msgspec.structs.replace(place, recipe=path, dataset=None), report, above)
    same = next((task for task in other.tasks if task.member.name == member.name), None)
    if same is None:
        names = ", ".join(task.member.name for task in other.tasks)
        raise architectures.WeightsError(f"{path}: no member is called {member.name!r}; rename it to one of {names}")
    state = training.trained(same).network.state_dict()
    return other.key, lambda network: architectures.load_state(network, state, str(path))


def _keep(network: nn.Module) -> None:
    """Leaves the random weights."""


_SMOKE_IMAGES, _SMOKE_SIDE = 160, 64


def _cut_down(recipe: Recipe) -> Recipe:
    """The same steps in a minute: few small images, two epochs; its gate is reported and not obeyed."""
    shares = {"train": 0.4, "validation": 0.2, "calibration": 0.2, "test": 0.2}
    cut = msgspec.structs.replace

    def few(which: DatasetRecipe | None) -> DatasetRecipe | None:
        return None if which is None else cut(which, limit=_SMOKE_IMAGES)

    gated = recipe.familiarity
    if gated is not None:
        gated = cut(gated, other_frontal=few(gated.other_frontal), refused=few(gated.refused))
    return cut(
        recipe,
        side=_SMOKE_SIDE,
        dataset=cut(recipe.dataset, limit=_SMOKE_IMAGES, reserved=(), **shares),
        training=cut(recipe.training, epochs=2, quantized_epochs=min(1, recipe.training.quantized_epochs)),
        quantization=cut(recipe.quantization, search=0),
        familiarity=gated,
    )
