"""Decides what a search results in: the best trial, if its lead over the defaults holds over seeds."""

from __future__ import annotations

from typing import Any

from optuna.storages import BaseStorage

from segops.contracts.trials import TrialRecord, best, complete
from segops.contracts.tuned import Gain, TunedCandidate
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.params.dotted import changed
from segops.progress import note, say
from segops.training.job import Job
from segops.tuning import study as studies
from segops.tuning.storage import answering
from segops.tuning.study import Search
from segops.tuning.training import fitted, network_job, remove_checkpoint, remove_checkpoints

_CONFIRMED = "confirmed"


def judge(storage: BaseStorage, search: Search, trials: list[TrialRecord]) -> TunedCandidate:
    """Return the search's result, and remove the checkpoints that `train` won't ask for.

    Raises: UserError where no trial is complete.
    """
    leader = best(trials, dice_margin=search.tune.dice_margin)
    if leader is None:
        reasons = [trial.reason for trial in trials if trial.reason]
        why = f"; the first: {reasons[0]}" if reasons else ""
        raise UserError(f"candidate {search.candidate}: no trial of study {search.study} succeeded{why}")
    assert leader.dice is not None, "a complete trial has a Dice"
    own = next((trial for trial in complete(trials) if trial.slot == 0), None)
    gain = None if leader.slot == 0 else confirm(storage, search, leader.values, trials)
    rejected = gain is not None and gain.mean <= 0 and own is not None
    winner = own if rejected and own is not None else leader
    assert winner.dice is not None, "a complete trial has a Dice"
    values = {} if winner.slot == 0 else winner.values
    data = PreparedData.open(search.prepared)
    final = network_job(search, changed(search.params, values), data)
    remove_checkpoints(search, trials, keep={final.key})
    return TunedCandidate(
        values=values,
        study=search.study,
        trial=winner.number,
        score=winner.dice,
        default_score=own.dice if own is not None else None,
        milliseconds=winner.milliseconds,
        gain=gain,
        rejected=leader.number if rejected else None,
    )


def confirm(storage: BaseStorage, search: Search, values: dict[str, Any], trials: list[TrialRecord]) -> Gain | None:
    """Train the candidate with `values` and as it is, for `tune.confirm_seeds` seeds; return the values' gain in Dice.

    None for no seeds. Seeds count up from the candidate's own; epochs are the candidate's. Scores of finished trainings
    are remembered in the study. A training that fails counts 0. Under the candidate's own seed the checkpoint of the
    better params stays.
    """
    seeds = [search.params.recipe.seed + number for number in range(search.tune.confirm_seeds)]
    if not seeds:
        return None
    data = PreparedData.open(search.prepared)
    study = answering(search.tune, lambda: studies.load(storage, search))
    scores = {trial.key: trial.dice for trial in trials if trial.dice is not None}
    scores |= study.user_attrs.get(_CONFIRMED, {})
    new_jobs: list[Job] = []

    def dice(changes: dict[str, Any], seed: int) -> float:
        params = changed(search.params, {**changes, "recipe.seed": seed})
        job = network_job(search, params, data)
        if job.key not in scores:
            scores[job.key] = _trained(job, new_jobs)
            known = {**study.user_attrs.get(_CONFIRMED, {}), job.key: scores[job.key]}
            answering(search.tune, lambda: study.set_user_attr(_CONFIRMED, known))
        if seed != seeds[0] and job in new_jobs:
            remove_checkpoint(job.checkpoints)
        score = scores[job.key]
        assert score is not None
        note(f"{search.study}: {'best trial' if changes else 'defaults'}, seed {seed}: Dice {score:.4f}")
        return score

    pairs = [(dice(values, seed), dice({}, seed)) for seed in seeds]
    gain = Gain(seeds=seeds, best=[tuned for tuned, _ in pairs], default=[default for _, default in pairs])
    for job in new_jobs:
        if (job.params == search.params) == (gain.mean > 0):
            remove_checkpoint(job.checkpoints)
    return gain


def _trained(job: Job, new_jobs: list[Job]) -> float:
    """Train a job; return its best validation Dice, 0 where it fails. Note jobs that weren't trained before."""
    try:
        done = fitted(job, lambda *_: None, before_training=lambda: new_jobs.append(job))
    except UserError as error:
        say(f"{error}; it counts 0")
        return 0.0
    return done.history[done.best_epoch - 1]["val_dice"]
