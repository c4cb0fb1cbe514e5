"""The training loop. Axes: B batch, C channels, H height, W width."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segops.candidate_params import CandidateParams
from segops.errors import UserError
from segops.models.catalogue import build, initialize
from segops.progress import say, track
from segops.tables import HISTORY_COLUMNS
from segops.training.augment import augment
from segops.training.batches import ResizedSubset, batches
from segops.training.checkpoint import load_state, save_state
from segops.training.losses import make_loss
from segops.training.runtime import Precision
from segops.training.schedules import Schedule
from segops.training.state import Row, TrainingState, seed_epoch
from segops.training.task import Task, logits
from segops.training.validation import settle_batch_norm, validate

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
