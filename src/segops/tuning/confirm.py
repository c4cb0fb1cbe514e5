"""Is the gain real: the best trial against the defaults, over several seeds, trained as `train` will train them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from optuna.storages import BaseStorage

from segops.contracts import Gain
from segops.data.arrays import PreparedData
from segops.dotted import changed
from segops.errors import UserError
from segops.progress import say
from segops.training.job import Job, make_job
from segops.trials import TrialRecord
from segops.tuning import study as studies
from segops.tuning.storage import answering
from segops.tuning.study import Search
from segops.tuning.training import fitted, remove_checkpoint

_CONFIRMED = "confirmed"


def confirm(storage: BaseStorage, search: Search, values: dict[str, Any], trials: list[TrialRecord]) -> Gain | None:
    """Validation Dice of the candidate with `values` and as it is, for `tune.confirm_seeds` seeds; None for no seeds.

    Seeds count up from the candidate's own. Epochs are the candidate's. What was trained once is remembered in the
    study. The checkpoint of the better one under the candidate's own seed stays for `train`. A training that fails
    counts 0.
    """
    seeds = [search.params.recipe.seed + at for at in range(search.tune.confirm_seeds)]
    if not seeds:
        return None
    data = PreparedData.open(search.prepared)
    study = answering(search.tune, lambda: studies.load(storage, search))
    known = {one.key: one.dice for one in trials if one.dice is not None}
    known |= study.user_attrs.get(_CONFIRMED, {})
    jobs = {
        name: [
            make_job(search.candidate, changed(search.params, {**given, "recipe.seed": seed}), search.runtime, data)
            for seed in seeds
        ]
        for name, given in (("best", values), ("default", {}))
    }
    scores: dict[str, list[float]] = {"best": [], "default": []}
    for at, seed in enumerate(seeds):
        for name in scores:
            job = jobs[name][at]
            if job.key not in known:
                known[job.key] = _dice(job)
                there = {**study.user_attrs.get(_CONFIRMED, {}), job.key: known[job.key]}
                answering(search.tune, lambda there=there: study.set_user_attr(_CONFIRMED, there))  # type: ignore[misc]
            score = known[job.key]
            assert score is not None
            scores[name].append(score)
            say(f"{search.study}: {name}, seed {seed}: Dice {score:.4f}")
            if at > 0:
                remove_checkpoint(job.checkpoints)
    gain = Gain(seeds=seeds, **scores)
    remove_checkpoint(jobs["default" if gain.mean > 0 else "best"][0].checkpoints)
    return gain


def _dice(job: Job) -> float:
    try:
        done = fitted(job, lambda epoch, dice: None)
    except UserError as error:
        say(f"{error}; it counts 0")
        return 0.0
    return done.history[done.best_epoch - 1]["val_dice"]


def single_device(search: Search) -> Search:
    """The same search with one device a training: several would share each batch, and trials have one each."""
    return replace(search, runtime=search.runtime.model_copy(update={"devices": 1}))
