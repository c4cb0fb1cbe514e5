"""Lists a candidate's trainings (a single one, or one per fold under cross-validation), and joins their results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from segops.contracts.model import FoldModel, MemberModel
from segops.files import sha256_lines
from segops.params.candidate import CandidateParams
from segops.params.runtime import RuntimeParams

if TYPE_CHECKING:
    import torch

    from segops.data.arrays import PreparedData
    from segops.training.job import CandidateJob
    from segops.training.loop import Fitted
    from segops.training.state import Row


def jobs_of(candidate: str, params: CandidateParams, runtime: RuntimeParams, data: PreparedData) -> list[CandidateJob]:
    """List the trainings of a candidate.

    Each of its networks is trained on split's own train and val, unless the candidate is an ensemble of folds; under
    cross-validation there is a training without each fold.
    """
    from segops.training.job import CandidateJob, make_job

    folds = [] if params.cross_validation == "none" else data.folds
    networks = [] if params.cross_validation == "ensemble" else params.networks
    jobs = [
        *(make_job(candidate, network, runtime, data, member=member) for member, network in enumerate(networks)),
        *(make_job(candidate, params, runtime, data.of_fold(fold), fold=fold) for fold in folds),
    ]
    # What is done with the weights is a part of the run, not of the trainings.
    use = json.dumps([params.cross_validation, params.inference.model_dump(mode="json")])
    run_key = sha256_lines([use, *(job.key for job in jobs)])
    return [CandidateJob(**vars(job), whole=params, run_key=run_key) for job in jobs]


def used(trained: list[tuple[CandidateJob, Fitted]]) -> list[tuple[CandidateJob, Fitted]]:
    """Return the trainings whose models are the candidate: those of its networks, or for an ensemble of folds all."""
    return [(job, fitted) for job, fitted in trained if job.fold is None] or trained


def mean_history(histories: list[list[Row]]) -> list[Row]:
    """Return one row per epoch: the mean over the trainings that reached it, of the columns that all of them have."""
    if len(histories) == 1:
        return histories[0]
    shared = [name for name in histories[0][0] if all(name in history[0] for history in histories)]
    longest = max(map(len, histories))
    by_epoch = [[history[epoch] for history in histories if epoch < len(history)] for epoch in range(longest)]
    return [_mean_row(rows, shared) for rows in by_epoch]


def _mean_row(rows: list[Row], columns: list[str]) -> Row:
    """Average rows of the same epoch."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in columns} | {"epoch": rows[0]["epoch"]}


def all_weights(trained: list[tuple[CandidateJob, Fitted]]) -> dict[str, torch.Tensor]:
    """Return all trainings' weights by name, as a file holds them; a fold's or a member's have its prefix."""
    return {job.prefix + name: value for job, fitted in trained for name, value in fitted.weights.items()}


def fold_models(trained: list[tuple[CandidateJob, Fitted]]) -> list[FoldModel]:
    """Return what model.json says of each fold's model."""
    from segops.training.input_statistics import input_statistics

    return [
        FoldModel(
            fold=job.fold,
            best_epoch=fitted.best_epoch,
            epochs=len(fitted.history),
            input_statistics=input_statistics(job.seen(), job.params.input),
        )
        for job, fitted in trained
        if job.fold is not None
    ]


def member_models(trained: list[tuple[CandidateJob, Fitted]]) -> list[MemberModel]:
    """Return what model.json says of each further network."""
    from segops.training.input_statistics import input_statistics

    return [
        MemberModel(
            best_epoch=fitted.best_epoch,
            epochs=len(fitted.history),
            input_statistics=input_statistics(job.seen(), job.params.input),
        )
        for job, fitted in trained
        if job.member
    ]
