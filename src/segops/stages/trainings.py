"""A candidate's trainings: one, or under cross-validation one a fold, and what their models have in common."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from segops.candidate_params import CandidateParams
from segops.contracts import FoldModel, MemberModel
from segops.files import project_root, sha256_lines
from segops.params import RuntimeParams

if TYPE_CHECKING:
    import torch

    from segops.data.arrays import PreparedData
    from segops.training.loop import Fitted
    from segops.training.runtime import Precision
    from segops.training.state import Row


@dataclass(frozen=True)
class Job:
    """A training's inputs, where it runs, and its key.

    Attributes:
        fold: that it doesn't see, under cross-validation; None: split's own train and val.
        member: 0 the candidate's own network, then its further ones.
        whole: the candidate's params, of which `params` are one network's.
        run_key: of the candidate, which may be several trainings.
    """

    candidate: str
    fold: int | None
    params: CandidateParams
    runtime: RuntimeParams
    data: PreparedData
    device: torch.device
    precision: Precision
    key: str
    whole: CandidateParams
    member: int = 0
    run_key: str = ""

    @property
    def name(self) -> str:
        """The candidate, and of a fold or a further network which."""
        part = f" fold {self.fold}" if self.fold is not None else f" member {self.member}" if self.member else ""
        return self.candidate + part

    @property
    def series(self) -> str:
        """What its epochs' figures are called before their names."""
        return f"fold{self.fold}/" if self.fold is not None else f"member{self.member}/" if self.member else ""

    @property
    def prefix(self) -> str:
        """What the names of its weights begin with."""
        from segops.inference.program import fold_prefix, member_prefix

        return fold_prefix(self.fold) if self.fold is not None else member_prefix(self.member)

    @property
    def checkpoints(self) -> Path:
        return project_root() / self.runtime.checkpoint_root / self.key


def jobs_of(candidate: str, params: CandidateParams, runtime: RuntimeParams, data: PreparedData) -> list[Job]:
    """The trainings of a candidate: of each of its networks on split's own train and val, unless it is an ensemble of
    folds, and without each fold."""
    folds = [] if params.cross_validation == "none" else data.folds
    own = [_job(candidate, one, runtime, data, None) for one in params.networks]
    own = [] if params.cross_validation == "ensemble" else [replace(job, member=n) for n, job in enumerate(own)]
    jobs = [*own, *(_job(candidate, params, runtime, data.of_fold(fold), fold) for fold in folds)]
    # What is done with the weights is a part of the run, not of the trainings.
    use = json.dumps([params.cross_validation, params.inference.model_dump(mode="json")])
    run_key = sha256_lines([use, *(job.key for job in jobs)])
    return [replace(job, run_key=run_key, whole=params) for job in jobs]


def _job(candidate: str, params: CandidateParams, runtime: RuntimeParams, data: PreparedData, fold: int | None) -> Job:
    from segops.inference.program import inference_device
    from segops.training.checkpoint import training_key
    from segops.training.runtime import require_devices, resolve_precision

    device = inference_device(runtime.device)
    require_devices(device, runtime.devices)
    precision = resolve_precision(params.recipe.precision, device)
    key = training_key(
        candidate,
        params.model_copy(update={"cross_validation": "none"}),  # which trainings there are changes none of them
        data.meta,
        threads=runtime.threads,
        device=device.type,
        devices=runtime.devices,
        precision=precision,
    )
    return Job(candidate, fold, params, runtime, data, device, precision, key, params)


def used(trained: list[tuple[Job, Fitted]]) -> list[tuple[Job, Fitted]]:
    """The trainings whose models are the candidate: those of its networks, or of an ensemble of folds all."""
    return [one for one in trained if one[0].fold is None] or trained


def mean_history(histories: list[list[Row]]) -> list[Row]:
    """A row an epoch: the mean over the trainings that reached it, of the columns that all of them have."""
    if len(histories) == 1:
        return histories[0]
    shared = [name for name in histories[0][0] if all(name in history[0] for history in histories)]
    longest = max(map(len, histories))
    by_epoch = [[history[at] for history in histories if at < len(history)] for at in range(longest)]
    return [_mean_row(rows, shared) for rows in by_epoch]


def _mean_row(rows: list[Row], columns: list[str]) -> Row:
    return {name: sum(row[name] for row in rows) / len(rows) for name in columns} | {"epoch": rows[0]["epoch"]}


def all_weights(trained: list[tuple[Job, Fitted]]) -> dict[str, torch.Tensor]:
    """All trainings' weights in one file; those of a fold or a member are named after it."""
    return {job.prefix + name: value for job, fitted in trained for name, value in fitted.weights.items()}


def fold_models(trained: list[tuple[Job, Fitted]]) -> list[FoldModel]:
    """What model.json says of each fold's model."""
    from segops.training.statistics import input_statistics

    return [
        FoldModel(
            fold=job.fold,
            best_epoch=fitted.best_epoch,
            epochs=len(fitted.history),
            input_statistics=input_statistics(job.data, job.params.input),
        )
        for job, fitted in trained
        if job.fold is not None
    ]


def member_models(trained: list[tuple[Job, Fitted]]) -> list[MemberModel]:
    """What model.json says of each further network."""
    from segops.training.statistics import input_statistics

    return [
        MemberModel(
            best_epoch=fitted.best_epoch,
            epochs=len(fitted.history),
            input_statistics=input_statistics(job.data, job.params.input),
        )
        for job, fitted in trained
        if job.member
    ]
