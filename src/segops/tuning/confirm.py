"""What a search takes: the best trial, if its lead over the defaults holds over seeds."""

from __future__ import annotations

from typing import Any

from optuna.storages import BaseStorage

from segops.contracts.trials import TrialRecord, best, complete
from segops.contracts.tuned import Gain, TunedCandidate
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.params.dotted import changed
from segops.progress import say
from segops.training.job import Job
from segops.tuning import study as studies
from segops.tuning.storage import answering
from segops.tuning.study import Search
from segops.tuning.training import fitted, network_job, remove_checkpoint, remove_checkpoints

_CONFIRMED = "confirmed"


def judge(storage: BaseStorage, search: Search, trials: list[TrialRecord]) -> TunedCandidate:
    """The search's result; removes the checkpoints that `train` won't ask for.

    Raises: UserError where no trial is complete.
    """
    leader = best(trials, dice_margin=search.tune.dice_margin)
    if leader is None:
        reasons = [one.reason for one in trials if one.reason]
        why = f"; the first: {reasons[0]}" if reasons else ""
        raise UserError(f"candidate {search.candidate}: no trial of study {search.study} succeeded{why}")
    assert leader.dice is not None, "a complete trial has a Dice"
    own = next((one for one in complete(trials) if one.slot == 0), None)
    gain = None if leader.slot == 0 else confirm(storage, search, leader.values, trials)
    rejected = gain is not None and gain.mean <= 0 and own is not None
    taken = own if rejected and own is not None else leader
    assert taken.dice is not None, "a complete trial has a Dice"
    values = {} if taken.slot == 0 else taken.values
    data = PreparedData.open(search.prepared)
    final = network_job(search, changed(search.params, values), data)
    remove_checkpoints(search, trials, keep={final.key})
    return TunedCandidate(
        values=values,
        study=search.study,
        trial=taken.number,
        score=taken.dice,
        default_score=own.dice if own is not None else None,
        milliseconds=taken.milliseconds,
        gain=gain,
        rejected=leader.number if rejected else None,
    )


def confirm(storage: BaseStorage, search: Search, values: dict[str, Any], trials: list[TrialRecord]) -> Gain | None:
    """Validation Dice of the candidate with `values` and as it is, for `tune.confirm_seeds` seeds; None for no seeds.

    Seeds count up from the candidate's own; epochs are the candidate's. What was trained once is remembered in the
    study. A training that fails counts 0. The better one's checkpoint under the candidate's own seed stays.
    """
    seeds = [search.params.recipe.seed + at for at in range(search.tune.confirm_seeds)]
    if not seeds:
        return None
    data = PreparedData.open(search.prepared)
    study = answering(search.tune, lambda: studies.load(storage, search))
    scores = {one.key: one.dice for one in trials if one.dice is not None}
    scores |= study.user_attrs.get(_CONFIRMED, {})
    made: list[Job] = []

    def dice(given: dict[str, Any], seed: int) -> float:
        params = changed(search.params, {**given, "recipe.seed": seed})
        job = network_job(search, params, data)
        if job.key not in scores:
            scores[job.key] = _trained(job, made)
            known = {**study.user_attrs.get(_CONFIRMED, {}), job.key: scores[job.key]}
            answering(search.tune, lambda: study.set_user_attr(_CONFIRMED, known))
        if seed != seeds[0] and job in made:
            remove_checkpoint(job.checkpoints)
        found = scores[job.key]
        assert found is not None
        say(f"{search.study}: {'best trial' if given else 'defaults'}, seed {seed}: Dice {found:.4f}")
        return found

    pairs = [(dice(values, seed), dice({}, seed)) for seed in seeds]
    gain = Gain(seeds=seeds, best=[one for one, _ in pairs], default=[one for _, one in pairs])
    for job in made:
        if (job.params == search.params) == (gain.mean > 0):
            remove_checkpoint(job.checkpoints)
    return gain


def _trained(job: Job, made: list[Job]) -> float:
    try:
        done = fitted(job, lambda *_: None, made=lambda: made.append(job))
    except UserError as error:
        say(f"{error}; it counts 0")
        return 0.0
    return done.history[done.best_epoch - 1]["val_dice"]
