"""Runs the training loop, in each of a training's processes. Axes: B batch, C channels, H height, W width."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from segops.contracts.tables import PANELS, history_columns
from segops.errors import UserError
from segops.inference.preprocess import memory_layout
from segops.models.blocks import SegmentationNetwork
from segops.models.catalogue import build_network, initialize
from segops.params.candidate import CandidateParams
from segops.params.recipe import RecipeParams
from segops.progress import Left, Lines, Pace, note, say
from segops.training.backbone import load_backbone
from segops.training.batch_norm import share_batch_norm
from segops.training.batches.subsets import Subsets
from segops.training.checkpoint import load_state, save_state
from segops.training.epoch import Interruption, train_epoch
from segops.training.losses import class_weights, make_loss
from segops.training.optimizer import make_optimizer
from segops.training.panels import write_panels
from segops.training.process import TERMINATED
from segops.training.schedules import Schedule
from segops.training.state import Row, TrainingState, seed_epoch
from segops.training.task import Task
from segops.training.validation_scores import settle_batch_norm, validate

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_NO_MEMORY = re.compile("out of memory|not enough memory|allocate memory", re.IGNORECASE)


@dataclass(frozen=True)
class Fitted:
    """A finished training.

    Attributes:
        weights: the network's state dict, on the CPU.
        history: rows of `tables.history_columns`.
        best_epoch: the epoch of these weights, 1-based.
        images_per_second: of training steps in the process that finished it; None where no step was left to do.
    """

    weights: dict[str, Tensor]
    history: list[Row]
    best_epoch: int
    images_per_second: float | None


def finished(checkpoints: Path) -> Fitted | None:
    """Load the finished training from its checkpoints; None where it isn't finished."""
    weights, record = load_state(checkpoints) or ({}, {})
    if not record.get("finished"):
        return None
    return Fitted(weights, record["history"], record["best_epoch"], record["images_per_second"])


def fit(
    fabric: Fabric,
    candidate: str,
    params: CandidateParams,
    subsets: Subsets,
    *,
    classes: int,
    checkpoints: Path,
    on_epoch: Callable[[Row], None],
    pretrained: Path | None = None,
) -> None:
    """Train a candidate, from its last checkpoint if any; the result is the same either way.

    The result is left in `checkpoints`: see `finished`.

    Args:
        fabric: launched: device, precision and processes. Weights stay fp32.
        candidate: the name in messages.
        params: the candidate's.
        subsets: train and val.
        classes: number of classes with background.
        checkpoints: folder that this training holds locked; its first process writes there.
        on_epoch: called in the first process with each new history row, before the epoch counts as done: an epoch that
            is cut off in between comes again.
        pretrained: file of the encoder's weights, of which the hash was checked.

    Raises: UserError naming the params to change where they don't fit the network, the loss isn't finite or memory
        runs out.
    """
    seconds, images, lines, interruption = 0.0, 0, Lines(first=True), Interruption()
    pace = Pace(params.recipe.epochs, cheap=params.cheap_epochs)
    with _explained(candidate):
        _require_foreground(candidate, params, subsets)
        task, state, network = start(fabric, candidate, params, subsets, classes=classes, pretrained=pretrained)
        if (saved := load_state(checkpoints)) is not None:
            state.restore(*saved)
            _say(fabric, f"{candidate}: resumes after {state.reached} of {params.recipe.epochs}")
        while len(state.history) < params.recipe.epochs and not state.stopped:
            began = time.perf_counter()
            with interruption.awaited():
                row = train_epoch(task, state, network, interruption)
            if row is None:
                _end(task, state, checkpoints)
            seconds, images = seconds + time.perf_counter() - began, images + len(subsets.train)
            settle_batch_norm(task, state)
            row |= validate(task, state)
            _require_finite(task, row)
            state.finish_epoch(row)
            if fabric.is_global_zero:
                write_panels(task, state, len(state.history), checkpoints / PANELS)
                on_epoch(row)
                save_state(checkpoints, state.tensors(), state.record())
                left = Left(0) if state.stopped else pace.step(len(state.history))
                lines.note(_epoch_line(task, row, left), last=not left.seconds)
            if interruption.ends(task, 0):  # told in the last step
                fabric.barrier()
                raise SystemExit(TERMINATED)
    if fabric.is_global_zero:
        best_epoch, weights = state.kept()
        result = {"history": state.history, "best_epoch": best_epoch}
        speed = images / seconds if seconds else None
        save_state(checkpoints, weights, {"finished": True, "images_per_second": speed, **result})


def _end(task: Task, state: TrainingState, checkpoints: Path) -> NoReturn:
    """Keep an epoch of which some steps are done, and end this process as it was told to."""
    assert state.part is not None
    if task.fabric.is_global_zero:
        save_state(checkpoints, state.tensors(), state.record())
        say(f"{task.candidate}: told to end after step {state.part.step} of epoch {len(state.history) + 1}; it is kept")
    task.fabric.barrier()  # the others' end would tear the first down
    raise SystemExit(TERMINATED)


def start(
    fabric: Fabric,
    candidate: str,
    params: CandidateParams,
    subsets: Subsets,
    *,
    classes: int,
    pretrained: Path | None = None,
) -> tuple[Task, TrainingState, torch.nn.Module]:
    """Build the task, its state before the first epoch, and the network as Fabric runs it; arguments as of `fit`."""
    recipe = params.recipe
    seed_epoch(recipe.seed, 0)
    network = build_network(params, classes)
    _require_as_many_weights(candidate, recipe, network)
    initialize(network, recipe.init, recipe.output_bias)
    if pretrained is not None:
        load_backbone(network, pretrained, f"{candidate}: model.pretrained.weights")
    if fabric.world_size > 1:
        share_batch_norm(network)
    if recipe.channels_last:
        network.to(memory_format=memory_layout(network.dimensions))  # type: ignore[call-overload]
    network.to(fabric.device)
    optimizer = make_optimizer(recipe, network)
    average = None
    if recipe.ema_decay is not None:
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(recipe.ema_decay), use_buffers=True)
    schedule = Schedule(optimizer, recipe, steps_per_epoch=-(-len(subsets.train) // recipe.batch_size))
    state = TrainingState(recipe, network, optimizer, schedule, average)
    weights_C = class_weights(recipe.loss, classes, subsets.train.class_pixels)
    weights_C = None if weights_C is None else weights_C.to(fabric.device)
    sigmoid = network.sigmoid_channels or network.class_channels == 1
    steps = params.input.spacing_mm if params.input.of_volumes else None
    loss = make_loss(recipe.loss, weights_C, sigmoid=sigmoid, objects=params.objects, steps=steps)
    task = Task(candidate, params, fabric, loss, subsets)
    wrapped, _ = fabric.setup(network, optimizer)
    wrapped.mark_forward_method("forward_all")
    return task, state, wrapped


def _say(fabric: Fabric, text: str) -> None:
    if fabric.is_global_zero:
        note(text)


def _require_as_many_weights(candidate: str, recipe: RecipeParams, network: SegmentationNetwork) -> None:
    """Raise UserError where the weights of deep supervision aren't as many as the network's outputs."""
    weights, outputs = recipe.deep_supervision_weights, len(network.heads())
    if weights is not None and len(weights) != outputs:
        raise UserError(
            f"candidate {candidate}: recipe.deep_supervision_weights lists {len(weights)}, the network has {outputs} "
            f"output{'s' if outputs > 1 else ''} while training; list as many, or set null"
        )


def _require_foreground(candidate: str, params: CandidateParams, subsets: Subsets) -> None:
    """Raise UserError where no validation mask has foreground: no epoch could be judged."""
    if not subsets.val.has_foreground():
        place = (
            f"at input.size {'x'.join(map(str, params.input.size))}; raise it" if params.input.resize != "none" else ""
        )
        raise UserError(
            f"candidate {candidate}: no validation image has foreground "
            f"{place or 'at all; run split with another seed'}, since without it no epoch can be judged"
        )


def _require_finite(task: Task, row: Row) -> None:
    """Raise UserError where an epoch's loss is not a finite number."""
    assert list(row) == history_columns(task.loss.parts)
    for name in ("train_loss", "val_loss"):
        if not torch.isfinite(torch.tensor(row[name])):
            raise UserError(
                f"candidate {task.candidate}, epoch {row['epoch']}: {name} is {row[name]}; lower recipe.learning_rate "
                f"({task.recipe.learning_rate:g}) or recipe.clip_norm ({task.recipe.clip_norm}), or set "
                "recipe.precision: fp32"
            )


def _epoch_line(task: Task, row: Row, left: Left) -> str:
    """Word an epoch's losses and scores, and the time of the epochs after it, should the training not stop early."""
    rest = f", {left}" if left.seconds else ""
    return (
        f"{task.candidate} epoch {row['epoch']}/{task.recipe.epochs}: loss {row['train_loss']:.4f}, "
        f"val Dice {row['val_dice']:.4f}, IoU {row['val_iou']:.4f}, lr {row['learning_rate']:.3g}{rest}"
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
