"""A training as a whole: its inputs, where it runs, its key and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from segops.candidate_params import CandidateParams
from segops.data.arrays import PreparedData
from segops.files import project_root
from segops.inference.program import inference_device
from segops.params import RuntimeParams
from segops.progress import say
from segops.training.checkpoint import training_key
from segops.training.loop import fit
from segops.training.runtime import Precision, prepare_process, require_devices, resolve_precision
from segops.training.state import Row
from segops.training.subsets import open_subsets

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Job:
    """A training's inputs, where it runs, and its key."""

    candidate: str
    params: CandidateParams
    runtime: RuntimeParams
    data: PreparedData
    device: torch.device
    precision: Precision
    key: str

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints, named by its key."""
        return project_root() / self.runtime.checkpoint_root / self.key


def make_job(candidate: str, params: CandidateParams, runtime: RuntimeParams, data: PreparedData) -> Job:
    """A candidate's training on this machine. Raises UserError where the devices aren't there."""
    device = inference_device(runtime.device)
    require_devices(device, runtime.devices)
    precision = resolve_precision(params.recipe.precision, device)
    key = training_key(
        candidate,
        params,
        data.meta,
        threads=runtime.threads,
        device=device.type,
        devices=runtime.devices,
        precision=precision,
    )
    return Job(candidate, params, runtime, data, device, precision, key)


def fit_job(fabric: Fabric, job: Job, *, on_epoch: Callable[[Row], None]) -> None:
    """Train, in one of the training's processes; see `loop.fit`."""
    prepare_process(job.runtime.threads)
    subsets = open_subsets(job.data, job.params, project_root() / job.runtime.cache_root, device=fabric.device)
    if fabric.is_global_zero:
        devices = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
        say(
            f"{job.candidate}: {len(subsets.train)} training samples an epoch, {devices}{fabric.device.type}, "
            f"{job.precision}, key {job.key[:7]}"
        )
    fit(
        fabric,
        job.candidate,
        job.params,
        subsets,
        classes=len(job.data.meta.classes),
        checkpoints=job.checkpoints,
        on_epoch=on_epoch,
    )
