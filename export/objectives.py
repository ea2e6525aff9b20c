"""What a network is fitted to, and how well it does: a loss and figures for each task. Pure functions."""

from typing import NamedTuple

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from export.evaluation import auroc
from export.recipe import Recipe

_DICE_SMOOTHING = 1.0


class Truth(NamedTuple):
    """What is known of a batch: ``targets`` [N, K] of 0 and 1 with ``weights`` [N, K], or ``masks`` [N, 1, H, W]."""

    targets: Tensor
    weights: Tensor
    masks: Tensor | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """How well a network does on a set of images; those of the other task are none."""

    loss: float
    auroc: float | None = None
    """Means over the findings; accuracy, precision, recall and F1 at a probability of 0.5 before calibration."""
    accuracy: float | None = None
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    dice: float | None = None


def loss(recipe: Recipe, outputs: tuple[Tensor, ...], truth: Truth) -> Tensor:
    """Weighted, smoothed cross-entropy of the logits; for a segmentation, cross-entropy plus Dice loss of the mask."""
    if truth.masks is not None:
        mask = outputs[0].float().clamp(1e-6, 1.0 - 1e-6)
        return functional.binary_cross_entropy(mask, truth.masks) + 1.0 - soft_dice(mask, truth.masks).mean()
    smoothing = recipe.training.label_smoothing
    smoothed = truth.targets * (1.0 - smoothing) + smoothing / 2.0
    return functional.binary_cross_entropy_with_logits(outputs[0].float(), smoothed, truth.weights)


def figures(recipe: Recipe, answers: NDArray[np.float32], truth: Truth) -> Figures:
    """Figures for ``answers``: logits [N, K], or masks [N, 1, H, W]."""
    given = torch.from_numpy(answers)
    if truth.masks is not None:
        sharp = soft_dice((given > 0.5).float(), truth.masks)
        return Figures(loss=float(loss(recipe, (given,), truth)), dice=float(sharp.mean()))
    plain = float(functional.binary_cross_entropy_with_logits(given, truth.targets))
    positive, said = truth.targets.numpy() > 0.5, answers > 0.0
    hits = (positive & said).sum(axis=0)
    precision, recall = hits / np.maximum(said.sum(axis=0), 1), hits / np.maximum(positive.sum(axis=0), 1)
    return Figures(
        loss=plain,
        auroc=float(np.mean([auroc(answers[:, k], positive[:, k]) for k in range(answers.shape[1])])),
        accuracy=float((positive == said).mean()),
        precision=float(precision.mean()),
        recall=float(recall.mean()),
        f1=float(np.mean(2.0 * precision * recall / np.maximum(precision + recall, 1e-12))),
    )


def soft_dice(mask: Tensor, truth: Tensor) -> Tensor:
    """Dice's coefficient of each image [N] (1 where both are empty), ``mask`` [N, 1, H, W] in 0..1."""
    shared, both = (mask * truth).sum(dim=(1, 2, 3)), mask.sum(dim=(1, 2, 3)) + truth.sum(dim=(1, 2, 3))
    return (2.0 * shared + _DICE_SMOOTHING) / (both + _DICE_SMOOTHING)


def class_weights(targets: NDArray[np.float32], groups: NDArray[np.str_] | None) -> NDArray[np.float32]:
    """Weights [N, K] that make positives count as much as negatives: overall, and within each group where given.

    A group without both classes says nothing about the finding apart from being that group: it counts nothing.
    """
    weights = np.ones_like(targets)
    for group in np.unique(groups) if groups is not None else [None]:
        chosen = slice(None) if group is None else groups == group
        share = targets[chosen].mean(axis=0)
        weight = np.where(share > 0.0, (1.0 - share) / np.maximum(share, 1e-9), 0.0)
        weights[chosen] = np.where(targets[chosen] > 0.5, weight, np.where(share > 0.0, 1.0, 0.0))
    return weights
