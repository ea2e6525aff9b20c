"""What the doubtful labels of a data set are worth beside its better ones, judged on training images alone.

For the recipe's ``others_weight``: the networks that the members begin with turn images into features, a linear
readout is fitted on them with the doubtful labels at each weight, and judged on better labels that it has not seen.
Validation and test images are not looked at.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from export import objectives, training
from export.datasets import Dataset, to_input
from export.evaluation import auroc
from export.fitting import Place, fit, load, recipe_of
from export.recipe import Recipe, RecipeError
from export.steps import Report

WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.5, 1.0)
_RIDGE = 1.0
"""What holds the readout back, as a share of the features' mean variance."""
_FOLDS, _DRAWS = 5, 8
_BATCH = 64


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """How well a readout does with the doubtful labels at one weight."""

    weight: float
    auroc: float
    """Mean over the draws of the folds."""
    deviation: float
    """Standard deviation over the draws: the same images in other folds, so less than that of other images."""


def weigh(place: Place, report: Report) -> tuple[Judged, ...]:
    """Each of `WEIGHTS` with the AUROC of its readout on the training split's images with better labels.

    Raises:
        RecipeError: The recipe has no better labels, or a member that does not begin with another recipe's weights.
    """
    recipe = recipe_of(place)
    if recipe.dataset.reference is None:
        raise RecipeError(f"{place.recipe}: no dataset.reference, so all labels are alike; nothing is to be weighed")
    data = load(place, recipe, recipe.dataset, report, place.dataset)
    chosen = data.indices("train")
    better = np.array([data.rows[index].referenced for index in chosen])
    report(f"training images: {len(chosen)}, of them {better.sum()} with better labels, which judge")
    similarity = _similarity(place, recipe, data.pixels[chosen], report)
    groups = _groups(recipe, data, chosen)
    judged = []
    for weight in WEIGHTS:
        found = _judge(similarity, data.targets[chosen], groups, better, weight=weight)
        judged.append(Judged(weight=weight, auroc=float(np.mean(found)), deviation=float(np.std(found))))
        report(f"others at {weight}: AUROC {judged[-1].auroc:.3f}, draws of the folds +- {judged[-1].deviation:.3f}")
    return tuple(judged)


def _similarity(place: Place, recipe: Recipe, pixels: NDArray[np.uint8], report: Report) -> NDArray[np.float64]:
    """[N, N], the product of the images' features (mean 0, variance 1) in the members' starting networks."""
    starts = {member.name: member.start for member in recipe.training.members}
    begun = {}
    for name, start in starts.items():
        if start is None or not start.endswith((".yaml", ".yml")):
            raise RecipeError(
                f"{place.recipe}: member {name!r} begins with no other recipe, so its features say nothing yet; "
                "give it a start"
            )
        if start not in begun:
            first = msgspec.structs.replace(place, recipe=place.beside(start), dataset=None)
            begun[start] = fit(first, report).network()
    images, found = torch.from_numpy(to_input(pixels)), []
    for name, start in starts.items():
        network = training.channels_last(getattr(begun[str(start)], name).eval())
        with torch.inference_mode():
            found.append(torch.cat([network(batch)[2] for batch in torch.split(images, _BATCH)]).double().numpy())
    features = np.concatenate(found, axis=1)
    scaled = (features - features.mean(axis=0)) / (features.std(axis=0) + 1e-9)
    similarity: NDArray[np.float64] = scaled @ scaled.T
    return similarity


def _groups(recipe: Recipe, data: Dataset, chosen: NDArray[np.int64]) -> NDArray[np.str_] | None:
    within = recipe.training.balance_within
    return None if within is None else np.array([str(getattr(data.rows[index], within)) for index in chosen])


def _judge(
    similarity: NDArray[np.float64],
    targets: NDArray[np.float32],
    groups: NDArray[np.str_] | None,
    better: NDArray[np.bool_],
    *,
    weight: float,
) -> Sequence[float]:
    """The AUROC on the images with better labels for each draw of the folds, of the first finding."""
    judges, values, aims = np.flatnonzero(better), [], np.where(targets[:, 0] > 0.5, 1.0, -1.0)
    for draw in range(_DRAWS):
        order = np.random.default_rng(draw).permutation(judges)
        scores = np.zeros(len(better))
        for held in np.array_split(order, _FOLDS):
            fitted = np.setdiff1d(np.arange(len(better)), held)
            trust = np.where(better[fitted], 1.0, weight).astype(np.float32)
            weights = objectives.class_weights(targets[fitted], None if groups is None else groups[fitted], trust)[:, 0]
            scores[held] = _scores(
                similarity[held][:, fitted], similarity[np.ix_(fitted, fitted)], aims[fitted], weights
            )
        values.append(auroc(scores[judges], targets[judges, 0] > 0.5))
    return values


def _scores(
    held: NDArray[np.float64], fitted: NDArray[np.float64], aims: NDArray[np.float64], weights: NDArray[np.float32]
) -> NDArray[np.float64]:
    """What a weighted ridge regression (in its dual form) on the fitted images says of those held out.

    Args:
        held: Similarity [held, fitted] of the images held out to the fitted ones.
        fitted: Similarity [fitted, fitted].
        aims: [fitted] of -1 and 1.
        weights: [fitted], what each counts.
    """
    share = weights / weights.sum()
    counted = np.flatnonzero(share)
    root = np.sqrt(share[counted])
    similar = fitted[np.ix_(counted, counted)] * root * root[:, np.newaxis]
    mean = share @ aims
    solved = np.linalg.solve(similar + _RIDGE * np.eye(len(counted)), root * (aims[counted] - mean))
    said: NDArray[np.float64] = mean + held[:, counted] @ (root * solved)
    return said
