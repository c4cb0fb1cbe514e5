"""Describes a single training: its inputs, where it runs, its key and its checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from segops.data.arrays import PreparedData
from segops.data.weights import fetch_weights
from segops.files import project_root
from segops.inference.device import inference_device
from segops.inference.trained import fold_prefix, member_prefix
from segops.params.candidate import CandidateParams
from segops.params.model import pretrained_weights
from segops.params.runtime import RuntimeParams
from segops.progress import note
from segops.training.batches.seen import as_seen
from segops.training.batches.subsets import open_subsets
from segops.training.checkpoint import training_key
from segops.training.loop import fit
from segops.training.process import Precision, prepare_process, require_devices, resolve_precision
from segops.training.state import Row
from segops.training.torchrun import require_width

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Job:
    """A network's training: its inputs, where it runs, and its key.

    Attributes:
        fold: under cross-validation, the fold that it doesn't see; None: split's own train and val.
        member: 0 the candidate's own network, 1 and up its further networks.
    """

    candidate: str
    fold: int | None
    member: int
    params: CandidateParams
    runtime: RuntimeParams
    data: PreparedData
    device: torch.device
    precision: Precision
    key: str

    @property
    def name(self) -> str:
        """The candidate's name, with the fold or the number of a further network."""
        part = f" fold {self.fold}" if self.fold is not None else f" member {self.member}" if self.member else ""
        return self.candidate + part

    @property
    def series(self) -> str:
        """The prefix of its epochs' figures' names."""
        return f"fold{self.fold}/" if self.fold is not None else f"member{self.member}/" if self.member else ""

    @property
    def prefix(self) -> str:
        """The prefix of its weights' names."""
        return fold_prefix(self.fold) if self.fold is not None else member_prefix(self.member)

    def seen(self) -> PreparedData:
        """Return the data as the network sees them, derived into the cache where they aren't there yet."""
        return as_seen(self.data, self.params.input, project_root() / self.runtime.cache_root)

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints, named by its key."""
        return project_root() / self.runtime.checkpoint_root / self.key


@dataclass(frozen=True)
class CandidateJob(Job):
    """A training among a candidate's.

    Attributes:
        whole: the candidate's params; `params` are those of this training's network.
        run_key: the key of the candidate's run, which may be several trainings.
    """

    whole: CandidateParams
    run_key: str


def make_job(
    candidate: str,
    params: CandidateParams,
    runtime: RuntimeParams,
    data: PreparedData,
    *,
    fold: int | None = None,
    member: int = 0,
) -> Job:
    """Describe a network's training on this machine. Raises UserError where the devices aren't there."""
    device = inference_device(runtime.device)
    require_devices(device, runtime.devices)
    require_width(runtime.devices, elastic=runtime.elastic)
    precision = resolve_precision(params.recipe.precision, device)
    key = training_key(
        candidate,
        params.model_copy(update={"cross_validation": "none"}),  # which trainings there are changes none of them
        data.meta,
        threads=runtime.threads,
        device=device.type,
        devices="any" if runtime.elastic else runtime.devices,
        precision=precision,
    )
    return Job(candidate, fold, member, params, runtime, data, device, precision, key)


def pretrained_file(job: Job) -> Path | None:
    """Fetch the file of the encoder's published weights from where params say; None where there are none."""
    weights = pretrained_weights(job.params.model)
    if weights is None:
        return None
    cache, param = project_root() / job.runtime.cache_root, f"candidates.{job.candidate}.model.pretrained.weights"
    return fetch_weights(weights.source, weights.sha256, cache / "weights", param=param)


def fit_job(fabric: Fabric, job: Job, *, on_epoch: Callable[[Row], None], pretrained: Path | None) -> None:
    """Train a job's network, in each of the training's processes; see `loop.fit`."""
    prepare_process(job.runtime.threads)
    subsets = open_subsets(job.seen(), job.params, project_root() / job.runtime.cache_root, device=fabric.device)
    if fabric.is_global_zero:
        devices = f"{fabric.world_size} x " if fabric.world_size > 1 else ""
        note(
            f"{job.name}: {len(subsets.train)} training samples per epoch, {devices}{fabric.device.type}, "
            f"{job.precision}, key {job.key[:7]}"
        )
    fit(
        fabric,
        job.name,
        job.params,
        subsets,
        classes=len(job.data.meta.classes),
        checkpoints=job.checkpoints,
        on_epoch=on_epoch,
        pretrained=pretrained,
    )
