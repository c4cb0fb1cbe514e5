"""Trains a trial as a candidate is trained, with the same checkpoints, so that `train` finds the winner's."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from segops.contracts.trials import TrialRecord, best
from segops.data.arrays import PreparedData
from segops.data.fit import check_images
from segops.files import project_root
from segops.locks import hold
from segops.params.candidate import CandidateParams
from segops.training.checkpoint import LOCK_FILE, is_locked, load_state
from segops.training.job import Job, fit_job, make_job, pretrained_file
from segops.training.loop import Fitted, finished
from segops.training.process import launch, make_fabric
from segops.training.state import Row
from segops.tuning.study import Search

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def network_job(search: Search, params: CandidateParams, data: PreparedData) -> Job:
    """Describe the training of a network. Raises UserError where it can't see these images."""
    check_images(data.index, params.input, search.candidate)
    return make_job(search.candidate, params, search.runtime, data)


def fitted(
    job: Job, on_epoch: Callable[[int, float], None], *, before_training: Callable[[], None] = lambda: None
) -> Fitted:
    """Return the finished training of a job: found finished, resumed, or trained now.

    Args:
        job: with a single device.
        on_epoch: called with each epoch's number and validation Dice, those of an earlier process too.
        before_training: called where something is left to train.
    """
    with hold(job.checkpoints / LOCK_FILE):
        saved = load_state(job.checkpoints)
        for row in saved[1]["history"] if saved is not None else []:
            on_epoch(int(row["epoch"]), row["val_dice"])
        if (before := finished(job.checkpoints)) is not None:
            return before
        before_training()
        try:
            launch(
                make_fabric(job.device, 1, job.precision),
                _fit,
                job=job,
                on_epoch=on_epoch,
                pretrained=pretrained_file(job),
            )
        finally:
            if job.device.type == "cuda":
                gc.collect()
                torch.cuda.empty_cache()
        done = finished(job.checkpoints)
        assert done is not None
        return done


def _fit(fabric: Fabric, job: Job, on_epoch: Callable[[int, float], None], pretrained: Path | None) -> None:
    """Train a job in a process, and report each epoch's number and validation Dice."""

    def report(row: Row) -> None:
        on_epoch(int(row["epoch"]), row["val_dice"])

    fit_job(fabric, job, on_epoch=report, pretrained=pretrained)


def remove_checkpoints(search: Search, trials: Sequence[TrialRecord], keep: Set[str] | None = None) -> None:
    """Remove the checkpoints that the search's own trainings left.

    Args:
        keep: keys that stay; without: those of the defaults, of the best trial and of trials that haven't ended.
    """
    if keep is None:
        leader = best(trials, dice_margin=search.tune.dice_margin)
        kept = [trial for trial in trials if trial.slot == 0 or not trial.ended or trial is leader]
        keep = {trial.key for trial in kept if trial.key is not None}
    root = project_root() / search.runtime.checkpoint_root
    for key in {trial.key for trial in trials if trial.made and trial.key is not None} - keep:
        remove_checkpoint(root / key)


def remove_checkpoint(folder: Path) -> None:
    """Remove a checkpoint folder, unless somebody trains there."""
    if folder.is_dir() and not is_locked(folder):
        shutil.rmtree(folder, ignore_errors=True)
