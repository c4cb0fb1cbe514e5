"""The training loop.

Axes: B batch, C channels, K logits, H height, W width.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segops.candidate_params import CandidateParams, RecipeParams
from segops.errors import UserError
from segops.evaluation.metrics import dice, iou, precision, recall
from segops.inference.preprocess import normalize, pad_to_multiple
from segops.models.catalogue import build, initialize
from segops.progress import say, track
from segops.tables import HISTORY_COLUMNS
from segops.training.augment import augment
from segops.training.batches import ResizedSubset, batches
from segops.training.checkpoint import load_state, save_state
from segops.training.losses import Loss, make_loss, predicted_foreground
from segops.training.runtime import Precision
from segops.training.schedules import Schedule
from segops.training.state import Row, TrainingState, seed_epoch

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_FABRIC_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed"}
_NO_MEMORY = re.compile("out of memory|not enough memory|allocate memory", re.IGNORECASE)


@dataclass(frozen=True)
class Fitted:
    """A finished training.

    Attributes:
        weights: the network's state dict, on the CPU.
        history: rows of HISTORY_COLUMNS.
        best_epoch: whose weights these are, 1-based.
        images_per_second: of training steps in this process; None where a checkpoint had them all.
    """

    weights: dict[str, Tensor]
    history: list[Row]
    best_epoch: int
    images_per_second: float | None


@dataclass(frozen=True)
class Task:
    """What stays the same through a training."""

    candidate: str
    params: CandidateParams
    fabric: Fabric
    loss: Loss
    subsets: dict[str, ResizedSubset]

    @property
    def recipe(self) -> RecipeParams:
        """The candidate's recipe."""
        return self.params.recipe


def fit(
    candidate: str,
    params: CandidateParams,
    subsets: dict[str, ResizedSubset],
    *,
    classes: int,
    device: torch.device,
    precision: Precision,
    checkpoints: Path,
    on_epoch: Callable[[Row], None],
) -> Fitted:
    """Train a candidate, from its last checkpoint where there is one; the result is the same either way.

    Args:
        candidate: named in messages.
        params: the candidate's.
        subsets: `train` and `val`.
        classes: with background.
        device: where to train.
        precision: of forward passes and losses' gradients; weights stay fp32.
        checkpoints: folder that this process holds locked.
        on_epoch: called with each new history row, before the epoch counts as done: an epoch that is cut off in between
            comes again.

    Raises: UserError naming the params to change where the loss isn't finite or memory runs out.
    """
    saved = load_state(checkpoints)
    if saved is not None and saved[1].get("finished"):
        weights, record = saved
        say(f"{candidate}: already trained, {len(record['history'])} epochs")
        return Fitted(weights, record["history"], record["best_epoch"], None)
    seconds, images = 0.0, 0
    with _explained(candidate):
        task, state, network = start(candidate, params, subsets, classes=classes, device=device, precision=precision)
        if saved is not None:
            state.restore(*saved)
            say(f"{candidate}: goes on after epoch {len(state.history)} of {params.recipe.epochs}")
        while len(state.history) < params.recipe.epochs and not state.stopped:
            began = time.perf_counter()
            row = train_epoch(task, state, network)
            seconds, images = seconds + time.perf_counter() - began, images + len(subsets["train"])
            settle_batch_norm(task, state)
            row |= validate(task, state)
            _require_finite(task, row)
            state.finish_epoch(row)
            on_epoch(row)
            save_state(checkpoints, state.tensors(), state.record())
            _say_epoch(task, row, time.perf_counter() - began)
    best_epoch, weights = state.kept()
    save_state(checkpoints, weights, {"finished": True, "history": state.history, "best_epoch": best_epoch})
    return Fitted(weights, state.history, best_epoch, images / seconds if seconds else None)


def start(
    candidate: str,
    params: CandidateParams,
    subsets: dict[str, ResizedSubset],
    *,
    classes: int,
    device: torch.device,
    precision: Precision,
) -> tuple[Task, TrainingState, torch.nn.Module]:
    """The task, its state before the first epoch, and the network as Fabric runs it; arguments as of `fit`."""
    from lightning_fabric import Fabric  # its import takes seconds, which a finished training needn't spend

    recipe = params.recipe
    fabric = Fabric(accelerator=device.type, devices=1, precision=_FABRIC_PRECISION[precision])
    seed_epoch(recipe.seed, 0)
    network = build(params.model, channels=params.input.channels, classes=classes)
    initialize(network, recipe.init, recipe.output_bias)
    if recipe.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    make_optimizer = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    network.to(fabric.device)
    optimizer = make_optimizer(
        network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
    )
    average = None
    if recipe.ema_decay is not None:
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
    schedule = Schedule(optimizer, recipe, steps_per_epoch=-(-len(subsets["train"]) // recipe.batch_size))
    state = TrainingState(recipe, network, optimizer, schedule, average)
    task = Task(candidate, params, fabric, make_loss(recipe, network.output.out_channels), subsets)
    wrapped, _ = fabric.setup(network, optimizer)
    return task, state, wrapped


def train_epoch(task: Task, state: TrainingState, network: torch.nn.Module) -> Row:
    """One pass over the training images: `epoch`, `learning_rate` (of the last step) and the mean `train_loss`."""
    epoch, recipe = len(state.history) + 1, task.recipe
    generator = seed_epoch(recipe.seed, epoch)
    subset = task.subsets["train"]
    total = torch.zeros((), dtype=torch.float64, device=task.fabric.device)
    learning_rate = state.schedule.learning_rate
    network.train()
    steps = list(batches(len(subset), recipe.batch_size, generator))
    for rows in track(steps, f"{task.candidate} epoch {epoch}/{recipe.epochs}"):
        image_BCHW, mask_BHW = subset.batch(rows, task.fabric.device)
        image_BCHW, mask_BHW = augment(image_BCHW, mask_BHW, recipe.augment, generator)
        loss = task.loss(logits(task, state, network, image_BCHW), mask_BHW)
        task.fabric.backward(loss)
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), recipe.clip_norm)
        learning_rate = state.schedule.learning_rate
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.schedule.after_step()
        if state.average is not None:
            state.average.update_parameters(state.network)
        total += loss.detach() * len(rows)
    return {"epoch": epoch, "learning_rate": learning_rate, "train_loss": float(total) / len(subset)}


def logits(task: Task, state: TrainingState, network: torch.nn.Module, image_BCHW: Tensor) -> Tensor:
    """Logits_BKHW float32 of images in [0, 1], padded and normalized as `inference.program` does it."""
    height, width = image_BCHW.shape[2:]
    padded_BCHW = pad_to_multiple(image_BCHW, state.network.multiple)
    normalized_BCHW = normalize(padded_BCHW, task.params.input.normalize)
    layout = torch.channels_last if task.recipe.channels_last else torch.contiguous_format
    with task.fabric.autocast():
        logits_BKHW: Tensor = network(normalized_BCHW.contiguous(memory_format=layout))
    return logits_BKHW[:, :, :height, :width].float()


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
    """Means over validation images at the candidate's size and threshold 0.5: loss, Dice, IoU, precision, recall."""
    network, subset = state.judged, task.subsets["val"]
    network.eval()
    total, counted = 0.0, []
    for rows in batches(len(subset), task.recipe.batch_size):
        image_BCHW, mask_BHW = subset.batch(rows, task.fabric.device)
        logits_BKHW = logits(task, state, network, image_BCHW)
        total += float(task.loss(logits_BKHW, mask_BHW)) * len(rows)
        counted.append(_counts(predicted_foreground(logits_BKHW), mask_BHW > 0))
    tp, fp, fn = torch.cat(counted, dim=1).cpu().numpy()
    scores = {"dice": dice, "iou": iou, "precision": precision, "recall": recall}
    means = {f"val_{name}": float(score(tp, fp, fn).mean()) for name, score in scores.items()}
    return {"val_loss": total / len(subset), **means}


def _counts(predicted_BHW: Tensor, truth_BHW: Tensor) -> Tensor:
    """Pixels by image: true positive, false positive, false negative, stacked to 3 x B."""
    pairs = (predicted_BHW & truth_BHW, predicted_BHW & ~truth_BHW, ~predicted_BHW & truth_BHW)
    return torch.stack([pair.sum(dim=(1, 2)) for pair in pairs])


def _require_finite(task: Task, row: Row) -> None:
    assert set(row) == set(HISTORY_COLUMNS)
    for name in ("train_loss", "val_loss"):
        if not torch.isfinite(torch.tensor(row[name])):
            raise UserError(
                f"candidate {task.candidate}, epoch {row['epoch']}: {name} is {row[name]}; lower recipe.learning_rate "
                f"({task.recipe.learning_rate:g}) or recipe.clip_norm ({task.recipe.clip_norm}), or set "
                "recipe.precision: fp32"
            )


def _say_epoch(task: Task, row: Row, seconds: float) -> None:
    say(
        f"{task.candidate} epoch {row['epoch']}/{task.recipe.epochs}: loss {row['train_loss']:.4f}, "
        f"val Dice {row['val_dice']:.4f}, IoU {row['val_iou']:.4f}, lr {row['learning_rate']:.3g}, {seconds:.1f} s"
    )


@contextmanager
def _explained(candidate: str) -> Iterator[None]:
    """Turn what torch says about lack of memory, or of values, into a UserError that names the params."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _NO_MEMORY.search(str(error)):
            raise
        raise UserError(
            f"candidate {candidate}: out of memory; lower recipe.batch_size or input.size, or the model's filters"
        ) from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"candidate {candidate}: a batch of one image is a single value at the network's lowest level, which batch "
            "norm can't use; raise input.size, lower the model's depth, or change recipe.batch_size"
        ) from None
