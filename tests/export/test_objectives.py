from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from torch.nn import functional

from export.objectives import Truth, class_weights, figures, loss, outside_evidence, soft_dice
from export.recipe import Recipe
from tests.export.conftest import tiny_recipe


def recipe(**training: Any) -> Recipe:
    return msgspec.convert(tiny_recipe(**training), Recipe)


def truth(targets: list[list[float]], weights: list[list[float]] | None = None) -> Truth:
    given = torch.tensor(targets, dtype=torch.float32)
    return Truth(given, torch.ones_like(given) if weights is None else torch.tensor(weights, dtype=torch.float32), None)


@pytest.mark.parametrize(
    ("targets", "groups", "weights"),
    [
        ([1, 0, 0, 0], None, [3, 1, 1, 1]),
        ([1, 1, 1, 0], None, [1 / 3, 1 / 3, 1 / 3, 1]),
        ([1, 0], None, [1, 1]),
        # Within PA one of three is positive, within AP two of three: each group is balanced by itself.
        ([1, 0, 0, 1, 1, 0], ["PA"] * 3 + ["AP"] * 3, [2, 1, 1, 0.5, 0.5, 1]),
        # A group of one class alone says nothing about the finding that is not the group itself.
        ([1, 0, 0, 0], ["PA", "PA", "AP", "AP"], [1, 1, 0, 0]),
        ([1, 0, 1, 1], ["PA", "PA", "AP", "AP"], [1, 1, 0, 0]),
        ([0, 0], None, [0, 0]),
        ([1, 1], None, [0, 0]),
    ],
)
def test_class_weights(targets: list[float], groups: list[str] | None, weights: list[float]) -> None:
    given = class_weights(
        np.array(targets, dtype=np.float32)[:, np.newaxis],
        None if groups is None else np.array(groups),
        np.ones(len(targets), dtype=np.float32),
    )
    assert given.dtype == np.float32
    assert given[:, 0] == pytest.approx(np.array(weights))


def test_class_weights_are_of_each_finding_and_make_both_classes_count_the_same() -> None:
    random = np.random.default_rng(1)
    targets = (random.random((200, 3)) < (0.1, 0.5, 0.8)).astype(np.float32)
    groups = random.choice(["PA", "AP"], 200)
    trust = random.choice([0.2, 1.0], 200).astype(np.float32)
    for within in (None, groups):
        weights = class_weights(targets, within, trust)
        for group in ["PA", "AP"] if within is not None else [None]:
            chosen = np.full(200, True) if group is None else groups == group
            positive = (weights * targets)[chosen].sum(axis=0)
            assert positive == pytest.approx((weights * (1 - targets))[chosen].sum(axis=0), rel=1e-5)
            # Among negatives, an image that is trusted counts five times one that is not.
            assert weights[chosen & (targets[:, 0] == 0), 0] == pytest.approx(trust[chosen & (targets[:, 0] == 0)])


def test_soft_dice_of_each_image() -> None:
    mask, other = torch.zeros(4, 1, 8, 8), torch.zeros(4, 1, 8, 8)
    mask[0, :, :4], other[0, :, :4] = 1.0, 1.0  # the same half
    mask[1, :, :4], other[1, :, 4:] = 1.0, 1.0  # the other half
    mask[2, :, :4], other[2, :, 2:6] = 1.0, 1.0  # half of each in common; image 3 is empty in both
    given = soft_dice(mask, other)
    assert given.tolist() == pytest.approx([1.0, 1 / 65, 33 / 65, 1.0])
    assert soft_dice(mask * 0.5, mask)[0] < 1.0


def test_the_loss_is_weighted_smoothed_cross_entropy() -> None:
    logits = torch.tensor([[2.0], [-1.0]])
    plain = recipe(label_smoothing=0.0)
    expected = functional.binary_cross_entropy_with_logits(logits, torch.tensor([[1.0], [0.0]]))
    assert float(loss(plain, (logits,), truth([[1], [0]]))) == pytest.approx(float(expected))
    ignored = truth([[1], [0]], [[2], [0]])
    assert float(loss(plain, (logits,), ignored)) == pytest.approx(np.log1p(np.exp(-2.0)))
    # With smoothing, a certain answer costs more than one at the smoothed label.
    smoothed = recipe(label_smoothing=0.2)
    certain, best = torch.tensor([[20.0]]), torch.logit(torch.tensor([[0.9]]))
    assert float(loss(smoothed, (certain,), truth([[1]]))) > float(loss(smoothed, (best,), truth([[1]])))


def test_evidence_outside_the_lungs_costs_for_and_against_the_finding() -> None:
    lungs = torch.zeros(3, 1, 64, 64)
    lungs[:2, :, :, :32] = 1.0  # the left half of the image; the third image's lungs are not known
    inside, outside = torch.zeros(3, 1, 2, 2), torch.zeros(3, 1, 2, 2)
    inside[:, :, :, 0], outside[:, :, :, 1] = 5.0, 5.0
    assert float(outside_evidence(inside, lungs)) == 0.0
    assert float(outside_evidence(outside, lungs)) == pytest.approx(2 * 2 * 25.0 / 12)
    assert float(outside_evidence(-outside, lungs)) == pytest.approx(2 * 2 * 25.0 / 12)
    known = truth([[1], [0], [1]])._replace(lungs=lungs)
    logits = torch.tensor([[2.0], [-1.0], [1.0]])
    free, costly = recipe(), recipe(outside_evidence=0.5)
    assert float(loss(free, (logits, outside), known)) == float(loss(costly, (logits, inside), known))
    assert float(loss(costly, (logits, outside), known)) == pytest.approx(
        float(loss(free, (logits, outside), known)) + 0.5 * 2 * 2 * 25.0 / 12
    )


def test_the_loss_of_a_mask_falls_with_the_overlap_and_survives_certain_errors() -> None:
    wanted = torch.zeros(2, 1, 8, 8)
    wanted[:, :, :4] = 1.0
    known = Truth(torch.zeros(2, 0), torch.zeros(2, 0), wanted)
    losses = [float(loss(recipe(), (mask,), known)) for mask in (wanted, wanted * 0.6 + 0.2, 1.0 - wanted)]
    assert losses == sorted(losses)
    assert losses[0] == pytest.approx(0.0, abs=1e-4)
    assert np.isfinite(losses).all()


def test_figures_of_a_classification() -> None:
    logits = np.array([[3.0], [1.0], [2.0], [-1.0], [-2.0], [-3.0]], dtype=np.float32)
    found = figures(recipe(), logits, truth([[1], [1], [0], [1], [0], [0]]))
    assert (found.accuracy, found.precision, found.recall, found.f1) == pytest.approx((4 / 6, 2 / 3, 2 / 3, 2 / 3))
    assert found.auroc == pytest.approx(7 / 9)  # of nine pairs, (1, 2), (-1, 2) are in the wrong order
    assert found.dice is None
    assert found.loss > 0.0


def test_figures_are_means_over_the_findings_and_bear_a_finding_that_is_never_said() -> None:
    logits = np.array([[1.0, -1.0], [-1.0, -1.0]], dtype=np.float32)
    found = figures(recipe(), logits, truth([[1, 1], [0, 0]]))
    assert (found.accuracy, found.precision, found.recall, found.f1) == pytest.approx((3 / 4, 1 / 2, 1 / 2, 1 / 2))
    assert found.auroc == pytest.approx((1.0 + 0.5) / 2)


def test_figures_of_a_segmentation() -> None:
    wanted = torch.zeros(2, 1, 8, 8)
    wanted[:, :, :4] = 1.0
    known = Truth(torch.zeros(2, 0), torch.zeros(2, 0), wanted)
    found = figures(recipe(), (wanted * 0.2 + 0.4).numpy(), known)  # 0.6 inside, 0.4 outside
    assert found.dice == pytest.approx(1.0)
    assert found.auroc is None
    assert found.accuracy is None
