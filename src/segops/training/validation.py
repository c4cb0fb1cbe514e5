"""Judging an epoch's network on validation images.

Axes: N images, B batch, C channels, K logits, F foreground classes, H height, W width.
"""

from __future__ import annotations

from itertools import islice

import torch
from torch import Tensor

from segops.evaluation.metrics import class_mean, dice, iou, precision, recall
from segops.training.batches import batches
from segops.training.losses import predicted_classes
from segops.training.state import Row, TrainingState, seed_epoch
from segops.training.task import Task, logits


@torch.no_grad()
def settle_batch_norm(task: Task, state: TrainingState) -> None:
    """Take batch norm's statistics anew from `recipe.precise_bn_images` training images, in batches as in training.

    Running statistics lag behind weights that move, averaged weights have none of their own, and where dim and bright
    images mix, the last ten batches aren't the data. Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3.
    """
    subset, recipe = task.subsets["train"], task.recipe
    norms = [module for module in state.judged.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    if recipe.precise_bn_images is None or not norms:
        return
    momentum = norms[0].momentum
    state.judged.eval()
    shuffled = batches(len(subset), recipe.batch_size, seed_epoch(recipe.seed, 0))  # the same images each time
    steps = -(-min(recipe.precise_bn_images, len(subset)) // recipe.batch_size)
    for step, rows in enumerate(islice(shuffled, steps), start=1):
        for norm in norms:
            norm.train()
            norm.momentum = 1 / step  # a plain mean over the batches
        image_BCHW, _ = subset.batch(rows, task.fabric.device)
        logits(task, state, state.judged, image_BCHW)
    for norm in norms:
        norm.momentum = momentum


@torch.no_grad()
def validate(task: Task, state: TrainingState) -> Row:
    """Means over validation images at the candidate's size: loss, Dice, IoU, precision, recall.

    Foreground is above threshold 0.5; of several classes the likeliest counts, and an image's score is the mean over
    foreground classes.
    """
    network, subset = state.judged, task.subsets["val"]
    network.eval()
    total, counted = 0.0, []
    for rows in batches(len(subset), task.recipe.batch_size):
        image_BCHW, mask_BHW = subset.batch(rows, task.fabric.device)
        logits_BKHW = logits(task, state, network, image_BCHW)
        total += float(task.loss(logits_BKHW, mask_BHW)) * len(rows)
        counted.append(_counts(predicted_classes(logits_BKHW), mask_BHW, max(2, logits_BKHW.shape[1])))
    tp_NF, fp_NF, fn_NF = torch.cat(counted, dim=1).cpu().numpy()
    scores = {"dice": dice, "iou": iou, "precision": precision, "recall": recall}
    means = {f"val_{name}": float(class_mean(score, tp_NF, fp_NF, fn_NF).mean()) for name, score in scores.items()}
    return {"val_loss": total / len(subset), **means}


def _counts(predicted_BHW: Tensor, truth_BHW: Tensor, classes: int) -> Tensor:
    """Pixels by image and foreground class: true positive, false positive, false negative, stacked to 3 x B x F."""
    by_class = []
    for index in range(1, classes):
        predicted, truth = predicted_BHW == index, truth_BHW == index
        pairs = (predicted & truth, predicted & ~truth, ~predicted & truth)
        by_class.append(torch.stack([pair.sum(dim=(1, 2)) for pair in pairs]))
    return torch.stack(by_class, dim=-1)
