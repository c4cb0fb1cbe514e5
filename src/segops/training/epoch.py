"""Passes once over the training images, and can stop between two steps of it, to go on there in equal bits.

Axes: R processes, P the loss and its parts.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from segops.progress import track
from segops.training.backbone import drop_frozen_gradients, freeze
from segops.training.batches.subsets import batches
from segops.training.optimizer import add_penalties
from segops.training.state import EpochPart, Row, TrainingState, seed_epoch
from segops.training.task import Task, by_process, summed, supervised, training_logits

_ASKED_EVERY = 8  # steps, after which several processes ask one another whether one was told to end


@dataclass
class Interruption:
    """Whether SIGTERM came, as before a node is taken away."""

    came: bool = False

    @contextmanager
    def awaited(self) -> Iterator[None]:
        """Let SIGTERM wait for the end of a step; outside the main thread, which alone receives signals, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(*_: object) -> None:
            self.came = True

        before = signal.signal(signal.SIGTERM, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    def ends(self, task: Task, step: int) -> bool:
        """Return whether all processes stop after this many steps, since one of them was told to end."""
        if task.fabric.world_size == 1:
            return self.came
        if step % _ASKED_EVERY:
            return False
        return bool(summed(task, torch.tensor(float(self.came), device=task.fabric.device)) > 0)


def train_epoch(
    task: Task, state: TrainingState, network: torch.nn.Module, interruption: Interruption | None = None
) -> Row | None:
    """Pass once over the training images, from where an interrupted epoch stopped.

    Returns: the row's `epoch`, `learning_rate` (of the last step) and losses. None where `interruption` ends the epoch
        before its last step; `state.part` then says where.
    """
    epoch, recipe = len(state.history) + 1, task.recipe
    generator = seed_epoch(recipe.seed, epoch)
    samples = len(task.subsets.train)
    total_P = torch.zeros(1 + len(task.loss.parts), device=task.fabric.device)
    learning_rate = state.schedule.learning_rate
    network.train()
    freeze(task.params.model, state.network, epoch, spare_work=task.fabric.world_size == 1)
    steps = list(batches(samples, recipe.batch_size, generator))
    done = _go_on(task, state.part, generator, total_P) if state.part is not None else 0
    state.part = None
    for step, rows in enumerate(_tracked(task, steps[done:], f"epoch {epoch}/{recipe.epochs}"), start=done + 1):
        learning_rate = state.schedule.learning_rate
        total_P += train_step(task, state, network, rows, generator) * len(rows)
        if interruption is not None and step < len(steps) and interruption.ends(task, step):
            state.part = _part(task, step, generator, total_P)
            return None
    losses = task.named_losses("train", summed(task, total_P), count=task.fabric.world_size * samples)
    return {"epoch": epoch, "learning_rate": learning_rate, **losses}


def train_step(
    task: Task, state: TrainingState, network: torch.nn.Module, rows: list[int], generator: Generator
) -> Tensor:
    """Train on a batch; return this process's weighted losses_P, on the device: nothing here waits for a GPU."""
    batch = task.training_batch(rows, generator)
    if len(state.history) < task.recipe.small_epochs:
        batch = batch.halved()
    heads = training_logits(task, state, network, batch.image_BCHW)
    losses = [task.loss(logits_BKHW, batch.mask_BHW, **batch.maps) for logits_BKHW in heads]
    losses_P = supervised(losses, task.recipe.deep_supervision_weights) * batch.weight
    task.fabric.backward(losses_P[0])
    drop_frozen_gradients(task.params.model, state.network, len(state.history) + 1)
    add_penalties(task.recipe, state.optimizer)
    if task.recipe.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(state.network.parameters(), task.recipe.clip_norm)
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.schedule.after_step()
    if state.average is not None:
        state.average.update_parameters(state.network)
    return losses_P.detach()


def _tracked(task: Task, steps: list[list[int]], what: str) -> Iterable[list[int]]:
    return track(steps, f"{task.candidate} {what}") if task.fabric.is_global_zero else steps


def _part(task: Task, step: int, generator: Generator, total_P: Tensor) -> EpochPart:
    """Describe an epoch after some of its steps, alike in all processes."""
    device = task.fabric.device.type
    own = {"cpu": torch.get_rng_state()}
    if device in ("cuda", "mps"):
        own[device] = getattr(torch, device).get_rng_state()
    random_R = {kind: by_process(task, random) for kind, random in own.items()}
    return EpochPart(step, generator.get_state(), random_R, by_process(task, total_P))


def _go_on(task: Task, part: EpochPart, generator: Generator, total_P: Tensor) -> int:
    """Set random numbers and sums to where an epoch stopped; return how many steps are done.

    Other processes than those that stopped have dropout of their own, and the first takes over what all had summed.
    """
    generator.set_state(part.generator)
    rank, alike = task.fabric.global_rank, len(part.losses_RP) == task.fabric.world_size
    for kind, random_R in part.random_R.items():
        if alike or kind == "cpu":
            state = random_R[rank if alike else 0]
            torch.set_rng_state(state) if kind == "cpu" else getattr(torch, kind).set_rng_state(state)
    if alike:
        total_P += part.losses_RP[rank].to(total_P)
    elif rank == 0:  # a mean over the processes is taken later
        total_P += part.losses_RP.sum(0).to(total_P) * (task.fabric.world_size / len(part.losses_RP))
    return part.step
