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
    """What is known of a batch: ``targets`` [N, K] of 0 and 1 with ``weights`` [N, K], or ``masks`` [N, 1, H, W].

    ``lungs`` [N, 1, H, W] in 0..1 are those of a classification, all 0 for an image whose lungs are not known.
    """

    targets: Tensor
    weights: Tensor
    masks: Tensor | None
    lungs: Tensor | None = None

    def to(self, device: torch.device) -> "Truth":
        """The same on another device."""
        masks, lungs = (None if each is None else each.to(device) for each in (self.masks, self.lungs))
        return Truth(self.targets.to(device), self.weights.to(device), masks, lungs)


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
    """Weighted, smoothed cross-entropy of the logits plus what evidence outside the lungs costs, where both are given.

    For a segmentation, cross-entropy plus Dice loss of the mask.
    """
    if truth.masks is not None:
        mask = outputs[0].float().clamp(1e-6, 1.0 - 1e-6)
        return functional.binary_cross_entropy(mask, truth.masks) + 1.0 - soft_dice(mask, truth.masks).mean()
    how = recipe.training
    smoothed = truth.targets * (1.0 - how.label_smoothing) + how.label_smoothing / 2.0
    found = functional.binary_cross_entropy_with_logits(outputs[0].float(), smoothed, truth.weights)
    if truth.lungs is not None and how.outside_evidence and len(outputs) > 1:
        found = found + how.outside_evidence * outside_evidence(outputs[1].float(), truth.lungs)
    return found


def outside_evidence(cam: Tensor, lungs: Tensor) -> Tensor:
    """Mean square of the evidence [N, K, h, w], for or against, that stands outside the lungs [N, 1, H, W] in 0..1.

    A cell counts by its share that lies outside; images whose lungs are not known count nothing.
    """
    outside = 1.0 - functional.adaptive_avg_pool2d(lungs, (cam.shape[-2], cam.shape[-1]))
    known = (lungs.sum(dim=(1, 2, 3), keepdim=True) > 0).to(cam.dtype)
    return (cam.square() * outside * known).mean()


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


def class_weights(
    targets: NDArray[np.float32], groups: NDArray[np.str_] | None, trust: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Weights [N, K] that make positives count as much as negatives: overall, and within each group where given.

    A group without both classes says nothing about the finding apart from being that group: it counts nothing.

    Args:
        targets: [N, K] of 0 and 1.
        groups: [N], within each of which the classes are balanced.
        trust: [N], what each image counts before that.
    """
    weights = np.repeat(trust[:, np.newaxis], targets.shape[1], axis=1)
    for group in np.unique(groups) if groups is not None else [None]:
        chosen = np.full(len(targets), True) if group is None else groups == group
        positive = (weights * targets)[chosen].sum(axis=0)
        negative = (weights * (1.0 - targets))[chosen].sum(axis=0)
        weight = np.where(positive > 0.0, negative / np.maximum(positive, 1e-9), 0.0)
        weights[chosen] *= np.where(targets[chosen] > 0.5, weight, np.where(positive > 0.0, 1.0, 0.0))
    return weights
