"""Losses against values worked out by hand. The file imports MONAI, which takes seconds, once."""

from __future__ import annotations

from math import log

import pytest
import torch

from segops.candidate_params import RecipeParams
from segops.training.losses import make_loss, predicted_classes

LOG_3 = log(3)  # sigmoid(log 3) = 3/4
MASK_BHW = torch.tensor([[[1, 0], [0, 0]], [[2, 0], [0, 0]]], dtype=torch.uint8)  # classes 1 and 2 are foreground
LOGITS_BKHW = torch.tensor([[[[LOG_3, -LOG_3], [-LOG_3, -LOG_3]]], [[[-LOG_3, -LOG_3], [-LOG_3, -LOG_3]]]])
# First image: p = 3/4 at the disc, 1/4 at three others: Dice 2 * 0.75 / (1 + 1.5). Second: 2 * 0.25 / (1 + 1).
DICE_LOSS = ((1 - 1.5 / 2.5) + (1 - 0.5 / 2)) / 2
BCE = (7 * -log(3 / 4) - log(1 / 4)) / 8


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (RecipeParams(loss="bce"), BCE),
        (RecipeParams(loss="dice"), DICE_LOSS),
        (RecipeParams(loss="bce_dice", dice_weight=0.5), BCE + 0.5 * DICE_LOSS),
        (RecipeParams(loss="bce_dice", dice_weight=0.0), BCE),
    ],
)
def test_foreground_losses(recipe: RecipeParams, expected: float) -> None:
    assert make_loss(recipe, 1)(LOGITS_BKHW, MASK_BHW).item() == pytest.approx(expected, abs=1e-5)


def test_several_classes_use_softmax() -> None:
    logits_BKHW = torch.zeros(2, 3, 2, 2)  # each class 1/3 everywhere
    cross_entropy = log(3)
    # By class, over 4 pixels: 2 * n / 3 / (n + 4 / 3) for the n pixels that have it; absent: smoothed to 1e-5 / (4 / 3)
    of_three, of_one = 2 * 3 / 3 / (3 + 4 / 3), 2 * 1 / 3 / (1 + 4 / 3)
    dice_loss = 1 - (of_three + of_one + 0) / 3
    assert make_loss(RecipeParams(loss="bce"), 3)(logits_BKHW, MASK_BHW).item() == pytest.approx(cross_entropy)
    assert make_loss(RecipeParams(loss="dice"), 3)(logits_BKHW, MASK_BHW).item() == pytest.approx(dice_loss, abs=1e-4)
    both = make_loss(RecipeParams(loss="bce_dice", dice_weight=2.0), 3)(logits_BKHW, MASK_BHW).item()
    assert both == pytest.approx(cross_entropy + 2 * dice_loss, abs=1e-4)


def test_an_empty_mask_predicted_empty_costs_nothing() -> None:
    logits_BKHW = torch.full((1, 1, 4, 4), -40.0)
    mask_BHW = torch.zeros(1, 4, 4, dtype=torch.uint8)
    assert make_loss(RecipeParams(loss="bce_dice"), 1)(logits_BKHW, mask_BHW).item() == pytest.approx(0, abs=1e-5)


def test_the_predicted_class_is_foreground_above_one_half_or_the_likeliest() -> None:
    assert predicted_classes(LOGITS_BKHW).sum(dim=(1, 2)).tolist() == [1, 0]
    logits_BKHW = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]]).view(1, 3, 1, 2)
    assert predicted_classes(logits_BKHW).tolist() == [[[0, 2]]]
