"""Judges an epoch's network on validation images.

Axes: N images, B batch, C channels, K logits, F foreground classes, H height, W width.
"""

from __future__ import annotations

from functools import partial
from itertools import islice

import torch
from torch import Tensor

from segops.contracts.masks import IGNORED
from segops.evaluation.metrics import class_mean, defined_mean, dice, iou, precision, recall
from segops.inference.volume_windows import blended
from segops.models.blocks import SegmentationNetwork
from segops.training.backbone import frozen_stages
from segops.training.batch_norm import SharedBatchNorm
from segops.training.batches.subsets import batches
from segops.training.losses import predicted_classes
from segops.training.state import Row, TrainingState, seed_epoch
from segops.training.task import Task, logits, summed

_BATCH_NORMS = (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d, SharedBatchNorm)


@torch.no_grad()
def settle_batch_norm(task: Task, state: TrainingState) -> None:
    """Take batch norm's statistics anew from `recipe.precise_bn_images` training images, in batches as in training.

    Running statistics lag behind weights that move, averaged weights have none of their own, and where dim and bright
    images mix, the last ten batches aren't the data. Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3.
    Frozen stages keep theirs. Images aren't augmented; patches are drawn anew, the same each time.
    """
    subset, recipe = task.subsets.train, task.recipe
    judged = state.judged
    assert isinstance(judged, SegmentationNetwork)
    stages = frozen_stages(task.params.model, judged, epoch=len(state.history) + 1)
    frozen = {id(module) for stage in stages for module in stage.modules()}
    norms = [module for module in judged.modules() if isinstance(module, _BATCH_NORMS) and id(module) not in frozen]
    if recipe.precise_bn_images is None or not norms:
        return
    momentum = norms[0].momentum
    state.judged.eval()
    generator = seed_epoch(recipe.seed, 0)
    shuffled = batches(len(subset), recipe.batch_size, generator)
    steps = -(-min(recipe.precise_bn_images, len(subset)) // recipe.batch_size)
    for step, rows in enumerate(islice(shuffled, steps), start=1):
        for norm in norms:
            norm.train()
            norm.momentum = 1 / step  # a plain mean over the batches
        drawn = subset.draw(rows, generator)
        image_BCHW, _ = subset.batch(
            [drawn[position] for position in task.training_share(len(rows))], task.fabric.device
        )
        logits(task, state, state.judged, image_BCHW)
    for norm in norms:
        norm.momentum = momentum
        for statistic in (norm.running_mean, norm.running_var):
            if statistic is not None:
                statistic.copy_(summed(task, statistic) / task.fabric.world_size)


@torch.no_grad()
def validate(task: Task, state: TrainingState) -> Row:
    """Return means over validation images of the loss, its parts, Dice, IoU, precision and recall.

    Images are at the candidate's size, or at native size in windows. Foreground is above threshold 0.5; of several
    classes the likeliest counts. An image's score is the mean over the foreground classes that truth or prediction has,
    and an image without any is left out of the means of scores; slices are scored together, by volume. The loss is
    taken of each image by itself. Borders that `input.resize: pad` added count in neither, nor do ignored pixels.
    """
    (network, subset), input_params = (state.judged, task.subsets.val), task.params.input
    network.eval()
    run = partial(logits, task, state, network)
    classes = max(2, state.network.class_channels)
    total_P = torch.zeros(1 + len(task.loss.parts), device=task.fabric.device)
    examples = task.subsets.val_examples
    counts_3NF = torch.zeros(3, 1 + max(examples), classes - 1, dtype=torch.int64, device=task.fabric.device)
    for batch in batches(len(subset), task.subsets.val_batch_size):
        rows = [batch[position] for position in task.share(len(batch))]
        if rows:
            image_BCHW, mask_BHW, maps = task.validation_batch(rows)
            logits_BKHW = blended(image_BCHW, input_params.size, input_params.window_overlap, run)
            for number, row in enumerate(rows):
                image = (slice(number, number + 1), *subset.content(row))
                logits_1KHW = logits_BKHW[image[0], :, *image[1:]]
                of_image = {name: map_BHW[image] for name, map_BHW in maps.items()}
                total_P += task.loss(logits_1KHW, mask_BHW[image], **of_image)
                predicted_1HW = predicted_classes(state.network.class_logits(logits_1KHW))
                counts_3NF[:, [examples[row]]] += _counts(predicted_1HW, mask_BHW[image], classes)
    tp_NF, fp_NF, fn_NF = summed(task, counts_3NF).cpu().numpy()
    scores = {"dice": dice, "iou": iou, "precision": precision, "recall": recall}
    means = {
        f"val_{name}": float(defined_mean(class_mean(score, tp_NF, fp_NF, fn_NF))) for name, score in scores.items()
    }
    return {**task.named_losses("val", summed(task, total_P), count=len(subset)), **means}


def _counts(predicted_BHW: Tensor, truth_BHW: Tensor, classes: int) -> Tensor:
    """Count pixels by image and foreground class, 3 x B x F: true positive, false positive, false negative."""
    by_class, scored = [], truth_BHW != IGNORED
    for index in range(1, classes):
        predicted, truth = (predicted_BHW == index) & scored, truth_BHW == index
        pairs = (predicted & truth, predicted & ~truth, ~predicted & truth)
        by_class.append(torch.stack([pair.flatten(1).sum(dim=1) for pair in pairs]))
    return torch.stack(by_class, dim=-1)
