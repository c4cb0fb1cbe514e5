"""Our losses of overlap are MONAI's, values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from segops.training.overlap import dice_loss, tversky_loss


def example(channels: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(channels)
    chance = torch.rand(3, channels, 9, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    target = (torch.rand(3, channels, 9, 7, generator=generator) > 0.6).double()
    target[1] = 0  # an image without foreground
    return chance, target


@pytest.mark.parametrize("whole_batch", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["dice", "squared", "tversky"])
def test_value_and_gradient_are_monais(kind: str, channels: int, whole_batch: bool) -> None:
    from monai.losses import DiceLoss, TverskyLoss

    chance, target = example(channels)
    options = {"batch": whole_batch, "smooth_nr": 0.7, "smooth_dr": 0.7}
    if kind == "tversky":
        ours = tversky_loss(chance, target, alpha=0.3, beta=0.8, whole_batch=whole_batch, smooth=0.7)
        theirs = TverskyLoss(alpha=0.3, beta=0.8, **options)(chance, target)
    else:
        ours = dice_loss(chance, target, squared=kind == "squared", whole_batch=whole_batch, smooth=0.7)
        theirs = DiceLoss(squared_pred=kind == "squared", **options)(chance, target)
    torch.testing.assert_close(ours, theirs)
    (expected,), (gradient,) = torch.autograd.grad(theirs, chance), torch.autograd.grad(ours, chance)
    torch.testing.assert_close(gradient, expected)
