"""Training losses on logits. MONAI's import takes seconds, so it waits until a Dice loss is asked for.

Axes: B batch, K logits, H height, W width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from segops.candidate_params import RecipeParams

Loss = Callable[[Tensor, Tensor], Tensor]


def make_loss(recipe: RecipeParams, outputs: int) -> Loss:
    """The loss of `recipe.loss`: a function of (logits_BKHW float, mask_BHW class indices) to a scalar.

    With one output: sigmoid, foreground is every class above 0. With several: softmax over the classes. Dice is the
    soft Dice loss of each image, averaged over images (and classes), smoothed by 1e-5 (Milletari et al. 2016); BCE and
    cross entropy are means over pixels.

    Args:
        recipe: `loss` and `dice_weight`.
        outputs: K.
    """
    if recipe.loss == "bce":
        return binary_cross_entropy if outputs == 1 else cross_entropy
    from monai.losses import DiceCELoss, DiceLoss

    activation = {"sigmoid": True} if outputs == 1 else {"softmax": True, "to_onehot_y": True}
    if recipe.loss == "dice":
        monai_loss = DiceLoss(**activation)
    else:
        monai_loss = DiceCELoss(**activation, lambda_ce=1.0, lambda_dice=recipe.dice_weight)

    def loss(logits_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
        target_B1HW = (foreground(mask_BHW) if outputs == 1 else mask_BHW.long())[:, None]
        value: Tensor = monai_loss(logits_BKHW, target_B1HW)
        return value

    return loss


def binary_cross_entropy(logits_B1HW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Mean over pixels of the foreground's binary cross entropy."""
    return F.binary_cross_entropy_with_logits(logits_B1HW[:, 0], foreground(mask_BHW))


def cross_entropy(logits_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Mean over pixels of the cross entropy of softmax."""
    return F.cross_entropy(logits_BKHW, mask_BHW.long())


def foreground(mask_BHW: Tensor) -> Tensor:
    """1.0 where the class is above 0."""
    return (mask_BHW > 0).to(torch.float32)


def predicted_classes(logits_BKHW: Tensor) -> Tensor:
    """Class indices BHW: foreground (1) above probability 0.5, or with several outputs the likeliest class."""
    if logits_BKHW.shape[1] == 1:
        return (logits_BKHW[:, 0] > 0).to(torch.uint8)
    return logits_BKHW.argmax(dim=1)
