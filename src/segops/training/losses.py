"""Computes training losses on logits: weighted sums of named parts.

MONAI's import takes seconds, so it waits until the generalized Dice loss is asked for.

Axes: B batch, K logits, C classes, J judgements of a pixel (K sigmoids, or a softmax), H height, W width, and a depth D
before H of volumes; P the loss, then its parts where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from segops.contracts.masks import IGNORED, is_foreground
from segops.errors import UserError
from segops.params.candidate import ObjectsParams
from segops.params.loss import (
    BCEDiceLoss,
    BCELoss,
    BoundaryBCELoss,
    DiceBoundaryLoss,
    DiceFocalLoss,
    DiceLoss,
    FocalLoss,
    GeneralizedDiceLoss,
    LossParams,
    TverskyLoss,
)
from segops.training.overlap import dice_loss, tversky_loss
from segops.training.signed_distance import signed_distances
from segops.training.targets import pixel_weights, probabilities, targets

_OBJECTS = "objects"
Part = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # of logits_BKHW, mask_BHW, border_BHW


@dataclass(frozen=True)
class Loss:
    """A weighted sum of named parts.

    Attributes:
        weighted: weight and part of classes, by name.
        objects: the weight of the object channel's cross entropy; None: there is no such channel.
    """

    weighted: dict[str, tuple[float, Part]]
    objects: float | None = None

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts that are shown beside the loss; none where the loss is a single part."""
        names = (*self.weighted, *(() if self.objects is None else (_OBJECTS,)))
        return names if len(names) > 1 else ()

    def __call__(
        self,
        logits_BKHW: Tensor,
        mask_BHW: Tensor,
        border_BHW: Tensor | None = None,
        depth_BHW: Tensor | None = None,
    ) -> Tensor:
        """Return losses_P: the loss, then its parts, each without its weight.

        Args:
            logits_BKHW: float32.
            mask_BHW: class indices; IGNORED pixels have no weight and no gradient, and an image of them alone loses 0.
            border_BHW: `object_maps.border_map`; boundary_bce needs it.
            depth_BHW: `object_maps.depth_map`; an object channel needs it.
        """
        own_BKHW = logits_BKHW if self.objects is None else logits_BKHW[:, :-1]
        values = [part(own_BKHW, mask_BHW, border_BHW) for _, part in self.weighted.values()]
        weights = [weight for weight, _ in self.weighted.values()]
        if self.objects is not None:
            assert depth_BHW is not None, "an object channel needs the depth map"
            pixels_BHW = pixel_weights(mask_BHW)
            values.append(F.binary_cross_entropy_with_logits(logits_BKHW[:, -1], depth_BHW, pixels_BHW))
            weights.append(self.objects)
        total = torch.stack([weight * value for weight, value in zip(weights, values, strict=True)]).sum()
        return torch.stack([total, *(values if self.parts else [])])


def make_loss(
    params: LossParams,
    weights_C: Tensor | None = None,
    *,
    sigmoid: bool,
    objects: ObjectsParams | None = None,
    steps: Sequence[float] | None = None,
) -> Loss:
    """Build the loss of `recipe.loss`, with the object channel's where the candidate has one.

    That is the cross entropy of a sigmoid with the depth of a pixel, as of StarDist's object probability (Schmidt et
    al. 2018, section 2).
    """
    loss = _class_loss(params, weights_C, sigmoid=sigmoid, steps=steps)
    return replace(loss, objects=objects.weight if objects else None)


def _class_loss(params: LossParams, weights_C: Tensor | None, *, sigmoid: bool, steps: Sequence[float] | None) -> Loss:
    """Build the loss of classes.

    With sigmoids each of the K channels is judged by itself, against foreground (every class above 0) where K is 1,
    else against its class's one-hot mask, and the values are averaged over channels. With a softmax over
    the K classes `bce` is the cross entropy. Dice and Tversky are taken of each image, then averaged over images (and
    channels, background's too), or with `over: batch` of all pixels of the batch, of which each process has its share;
    cross entropies are means over pixels, of each image by itself where it has ignored pixels.

    Args:
        params: `recipe.loss`.
        sigmoid: or softmax.
        weights_C: `class_weights` of the params, on the device of the logits.
        steps: how far pixels are apart along each axis; None: alike.
    """
    match params:
        case BCELoss(label_smoothing=smoothing):
            return Loss({"bce": (1.0, _CrossEntropy(sigmoid, weights_C, smoothing))})
        case DiceLoss():
            return Loss({"dice": (1.0, _dice(params, sigmoid))})
        case BCEDiceLoss(label_smoothing=smoothing):
            bce, dice = _CrossEntropy(sigmoid, weights_C, smoothing), _dice(params, sigmoid)
            return Loss({"bce": (params.bce_weight, bce), "dice": (params.dice_weight, dice)})
        case GeneralizedDiceLoss(smooth=smooth):
            return Loss({"generalized_dice": (1.0, _generalized_dice(smooth, sigmoid))})
        case FocalLoss(gamma=gamma):
            return Loss({"focal": (1.0, _CrossEntropy(sigmoid, weights_C, gamma=gamma))})
        case DiceFocalLoss(gamma=gamma):
            focal, dice = _CrossEntropy(sigmoid, weights_C, gamma=gamma), _dice(params, sigmoid)
            return Loss({"focal": (params.focal_weight, focal), "dice": (params.dice_weight, dice)})
        case TverskyLoss():
            return Loss({"tversky": (1.0, _tversky(params, sigmoid))})
        case BoundaryBCELoss(label_smoothing=smoothing, w0=w0):
            return Loss({"boundary_bce": (1.0, _CrossEntropy(sigmoid, weights_C, smoothing, w0=w0))})
        case DiceBoundaryLoss():
            dice, boundary = _dice(params, sigmoid), _boundary(sigmoid, steps)
            return Loss({"dice": (params.dice_weight, dice), "boundary": (params.boundary_weight, boundary)})


def class_weights(params: LossParams, classes: int, count: Callable[[int], np.ndarray]) -> Tensor | None:
    """Return the loss's factors by class, float32 on the CPU; None where it has none.

    Args:
        params: `recipe.loss`.
        classes: with background.
        count: gives the training pixels of each of so many classes; called where the weights follow from them.

    Raises: UserError where a list has another length, or a class has no training pixel to weigh it by.
    """
    weights = getattr(params, "class_weights", None)
    if weights is None:
        return None
    if weights == "inverse_frequency":
        pixels_C = count(classes).astype(np.float64)
        if not pixels_C.all():
            raise UserError(
                f"recipe.loss.class_weights is inverse_frequency, but no training pixel is of class "
                f"{int(pixels_C.argmin())} (0 is background); list the weights, or set null"
            )
        return torch.tensor(pixels_C.sum() / (classes * pixels_C), dtype=torch.float32)
    if len(weights) != classes:
        raise UserError(
            f"recipe.loss.class_weights lists {len(weights)} weights, the data has {classes} classes with background"
        )
    return torch.tensor(weights, dtype=torch.float32)


@dataclass(frozen=True)
class _CrossEntropy:
    """The mean over pixels of class weight x (1 - p) ** gamma x cross entropy, p the probability of what is right.

    Of several sigmoids a pixel has the mean over channels, and the weight of its class. `w0` times the border map is
    added to the class weight (Ronneberger et al. 2015).
    """

    sigmoid: bool
    weights_C: Tensor | None = None
    label_smoothing: float = 0.0
    gamma: float = 0.0
    w0: float = 0.0

    def __call__(self, logits_BKHW: Tensor, mask_BHW: Tensor, border_BHW: Tensor | None) -> Tensor:
        value_BJHW = self._cross_entropy(logits_BKHW, mask_BHW)
        if self.gamma:
            # The bound keeps the slope of a power below 1 finite where a pixel is as good as certain.
            value_BJHW = (-torch.expm1(-value_BJHW)).clamp_min(1e-6) ** self.gamma * value_BJHW
        value_BHW = value_BJHW.mean(dim=1)
        weight_BHW: Tensor | None = None
        if self.weights_C is not None:
            index_BHW = is_foreground(mask_BHW) if logits_BKHW.shape[1] == 1 else mask_BHW
            weight_BHW = self.weights_C[index_BHW.long().where(mask_BHW != IGNORED, 0)]
        if self.w0:
            assert border_BHW is not None, "boundary_bce needs the border map"
            weight_BHW = (1.0 if weight_BHW is None else weight_BHW) + self.w0 * border_BHW
        value_BHW = value_BHW * pixel_weights(mask_BHW)
        return (value_BHW if weight_BHW is None else weight_BHW * value_BHW).mean()

    def _cross_entropy(self, logits_BKHW: Tensor, mask_BHW: Tensor) -> Tensor:
        """Compute the cross entropy of each judgement of each pixel, BJHW."""
        smoothing = self.label_smoothing
        if not self.sigmoid:
            options: dict[str, Any] = {"reduction": "none", "ignore_index": IGNORED, "label_smoothing": smoothing}
            return F.cross_entropy(logits_BKHW, mask_BHW.long(), **options)[:, None]
        target_BKHW = targets(mask_BHW, logits_BKHW.shape[1])
        if smoothing:
            target_BKHW = target_BKHW * (1 - smoothing) + smoothing / 2
        return F.binary_cross_entropy_with_logits(logits_BKHW, target_BKHW, reduction="none")


def _dice(params: DiceLoss | BCEDiceLoss | DiceFocalLoss | DiceBoundaryLoss, sigmoid: bool) -> Part:
    """Return the Dice loss as a part."""
    whole_batch = params.over == "batch"
    return _overlap(partial(dice_loss, squared=params.squared, whole_batch=whole_batch, smooth=params.smooth), sigmoid)


def _tversky(params: TverskyLoss, sigmoid: bool) -> Part:
    """Return the Tversky loss as a part."""
    options: dict[str, Any] = {"whole_batch": params.over == "batch", "smooth": params.smooth}
    return _overlap(partial(tversky_loss, alpha=params.alpha, beta=params.beta, **options), sigmoid)


def _boundary(sigmoid: bool, steps: Sequence[float] | None) -> Part:
    """Return the mean over pixels and foreground classes of probability times signed distance, as a part."""

    def part(logits_BKHW: Tensor, mask_BHW: Tensor, _: Tensor | None) -> Tensor:
        chance_BKHW, target_BKHW = (
            probabilities(logits_BKHW, mask_BHW, sigmoid),
            targets(mask_BHW, logits_BKHW.shape[1]),
        )
        first = int(logits_BKHW.shape[1] > 1)  # of several channels the first is background
        distance_BKHW = signed_distances(target_BKHW[:, first:], mask_BHW != IGNORED, steps)
        value_BHW = (distance_BKHW * chance_BKHW[:, first:]).mean(dim=1)
        return (value_BHW * pixel_weights(mask_BHW)).mean()

    return part


def _overlap(loss: Callable[[Tensor, Tensor], Tensor], sigmoid: bool) -> Part:
    """Wrap a loss of overlap as a part: it compares probabilities with targets and needs no border map."""

    def part(logits_BKHW: Tensor, mask_BHW: Tensor, _: Tensor | None) -> Tensor:
        chance_BKHW = probabilities(logits_BKHW, mask_BHW, sigmoid)
        return loss(chance_BKHW, targets(mask_BHW, logits_BKHW.shape[1]))

    return part


def _generalized_dice(smooth: float, sigmoid: bool) -> Part:
    """Return MONAI's generalized Dice loss as a part, over all classes."""
    from monai.losses import GeneralizedDiceLoss as MonaiGeneralizedDice

    monai_loss = MonaiGeneralizedDice(smooth_nr=smooth, smooth_dr=smooth)

    def part(logits_BKHW: Tensor, mask_BHW: Tensor, _: Tensor | None) -> Tensor:
        # The classes are weighed against each other, so a single output becomes two classes.
        if logits_BKHW.shape[1] == 1:
            logits_BKHW = torch.cat([-logits_BKHW, logits_BKHW], dim=1)
            mask_BHW = torch.where(mask_BHW == IGNORED, IGNORED, (mask_BHW > 0).to(mask_BHW.dtype))
        chance_BCHW = probabilities(logits_BKHW, mask_BHW, sigmoid)
        value: Tensor = monai_loss(chance_BCHW, targets(mask_BHW, chance_BCHW.shape[1]))
        return value

    return part


def predicted_classes(logits_BKHW: Tensor) -> Tensor:
    """Return the class indices BHW that `SegmentationNetwork.class_logits` mean.

    A single logit is foreground (1) above probability 0.5; of several classes the likeliest counts.
    """
    if logits_BKHW.shape[1] == 1:
        return (logits_BKHW[:, 0] > 0).to(torch.uint8)
    return logits_BKHW.argmax(dim=1)
