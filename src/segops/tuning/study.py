"""Makes a candidate's study: its name, its trials' slots, and what an earlier process left of it.

A study's budget is a row of slots, made before any worker starts: worker after worker takes the first that waits, so
that no number of workers runs a trial too many. Slot 0 is the candidate as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import optuna
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from segops.contracts.prepared import Prepared
from segops.contracts.trials import State, TrialRecord
from segops.errors import UserError
from segops.files import sha256_lines
from segops.params.candidate import CandidateParams
from segops.params.dotted import changed
from segops.params.runtime import RuntimeParams
from segops.params.search_space import combinations, default_values, describe
from segops.params.tune import SearchParams, TuneParams
from segops.training.checkpoint import training_code_sha256
from segops.tuning.samplers import make_pruner, make_sampler
from segops.tuning.space import encoded

SLOT, VALUES, KEY, MADE, CURVE, REASON = "slot", "values", "key", "made", "curve", "reason"
TRIES, USED_S = "tries", "used_s"
_SPACE = "space"
_STATES: dict[TrialState, State] = {
    TrialState.WAITING: "waiting",
    TrialState.RUNNING: "running",
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
_TRIES = 2  # of a trial whose worker died


class NoStudyError(LookupError):
    """The storage has no study of that name."""


@dataclass(frozen=True)
class Search:
    """All that a worker needs to know of a search."""

    candidate: str
    params: CandidateParams
    search: SearchParams
    tune: TuneParams
    runtime: RuntimeParams
    prepared: Path
    study: str

    @property
    def trial_params(self) -> CandidateParams:
        """The candidate with a trial's epochs."""
        epochs = self.search.epochs
        return self.params if epochs is None else changed(self.params, {"recipe.epochs": epochs})

    @property
    def two_objectives(self) -> bool:
        """Whether milliseconds count beside Dice."""
        return len(self.tune.objectives) > 1


def plan(candidate: str, params: CandidateParams, tune: TuneParams, runtime: RuntimeParams, prepared: Path) -> Search:
    """Plan a candidate's search; the study's name says what its scores belong to: data, code, candidate and method.

    A trial has a single device: several would share each batch. Of a candidate of several networks only its own is
    searched, on split's own train and val.
    """
    params = params.networks[0].model_copy(update={"cross_validation": "none"})
    runtime = runtime.model_copy(update={"devices": 1})
    search = tune.searches[candidate]
    about = [
        candidate,
        params.model_dump(mode="json", exclude={"inference"}),
        search.epochs,
        tune.sampler,
        tune.pruner,
        tune.seed,
    ]
    digest = sha256_lines([json.dumps(about, sort_keys=True), Prepared.load(prepared).sha256, training_code_sha256()])
    return Search(candidate, params, search, tune, runtime, prepared, f"{search.study or candidate}-{digest[:8]}")


def create(storage: BaseStorage, search: Search) -> None:
    """Make the study, or find it, and fill it up to its slots. Not safe for two processes at the same time.

    Raises: UserError where the study was begun with another space.
    """
    directions = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE][: len(search.tune.objectives)]
    study = optuna.create_study(storage=storage, study_name=search.study, directions=directions, load_if_exists=True)
    space = describe(search.search.space) | {"objectives": json.dumps(search.tune.objectives)}
    before = study.user_attrs.get(_SPACE)
    if before is None:
        study.set_user_attr(_SPACE, space)
    elif before != space:
        raise UserError(_difference(search, before, space))
    _fill(study, search)


def _difference(search: Search, before: dict[str, str], now: dict[str, str]) -> str:
    """Word the error about a study that was begun with another space."""
    changes = [
        f"{path}: {before.get(path, 'none')} then, {now.get(path, 'none')} now"
        for path in sorted({*before, *now})
        if before.get(path) != now.get(path)
    ]
    name = search.candidate
    return (
        f"study {search.study} was begun with another space ({'; '.join(changes)}): set tune.searches.{name}.study to "
        f"a new name, or remove the old study with `segops tune --remove {name}`"
    )


def _fill(study: optuna.Study, search: Search) -> None:
    """Queue a trial for each slot that has none: the candidate as it is, then free ones, or a grid's."""
    space, tune = search.search.space, search.tune
    filled = {trial.user_attrs.get(SLOT) for trial in study.get_trials(deepcopy=False)}
    if tune.sampler == "grid":
        queue = combinations(search.params, space)[: search.search.trials]
    else:
        queue = [default_values(search.params, space)] + [{}] * (search.search.trials - 1)
    for slot, values in enumerate(queue):
        if slot not in filled:
            study.enqueue_trial(encoded(space, values), user_attrs={SLOT: slot})


def load(storage: BaseStorage, search: Search, slot: int = 0) -> optuna.Study:
    """Load the study with the sampler of a slot. A new object each time, since Optuna's keeps what it once read.

    Raises: NoStudyError.
    """
    sampler = make_sampler(search.tune, slot, search.search.trials)
    pruner = make_pruner(search.tune, search.trial_params.recipe.epochs)
    try:
        return optuna.load_study(storage=storage, study_name=search.study, sampler=sampler, pruner=pruner)
    except KeyError:
        raise NoStudyError(search.study) from None


def remove(storage: BaseStorage, search: Search) -> bool:
    """Remove the study; return whether it was there."""
    try:
        optuna.delete_study(study_name=search.study, storage=storage)
    except KeyError:
        return False
    return True


def recover(storage: BaseStorage, search: Search) -> list[int]:
    """Let trials that a killed process left running wait again, once; a second time they count as failed.

    Only for the journal file, and only while no worker lives. A database has heartbeats instead.

    Returns: the numbers of those that wait again.
    """
    running = load(storage, search).get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [trial.number for trial in running if give_back(storage, trial, died=True)]


def give_back(storage: BaseStorage, trial: FrozenTrial, *, died: bool) -> bool:
    """Let a running trial wait again under its number, with its values; its checkpoint stays.

    Args:
        died: its worker was killed. That happens once to a trial; then it fails.
    """
    tries = int(trial.user_attrs.get(TRIES, 1)) + died
    storage.set_trial_user_attr(trial._trial_id, TRIES, tries)
    storage.set_trial_user_attr(trial._trial_id, USED_S, used_s(trial))
    if tries > _TRIES:
        storage.set_trial_user_attr(trial._trial_id, REASON, f"its worker was killed {_TRIES} times")
        storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
        return False
    storage.set_trial_state_values(trial._trial_id, TrialState.WAITING)
    return True


def used_s(trial: FrozenTrial) -> float:
    """Return the seconds that a trial has taken so far, those before it was given back too."""
    earlier = float(trial.user_attrs.get(USED_S, 0))
    if trial.state == TrialState.WAITING or trial.datetime_start is None:
        return earlier
    end = trial.datetime_complete or datetime.now()
    return earlier + (end - trial.datetime_start).total_seconds()


def records(storage: BaseStorage, search: Search) -> list[TrialRecord]:
    """Return the trials within the budget, by number."""
    trials = load(storage, search).get_trials(deepcopy=False)
    return [_record(trial) for trial in trials if trial.user_attrs.get(SLOT, 0) < search.search.trials]


def _record(trial: FrozenTrial) -> TrialRecord:
    """Build the record of a trial from what the storage holds."""
    attrs, state = trial.user_attrs, _STATES[trial.state]
    values = trial.values if trial.state == TrialState.COMPLETE else []
    died = "its worker died; tried again" if state == "failed" else None
    curve = attrs.get(CURVE) or [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    return TrialRecord(
        number=trial.number,
        slot=int(attrs.get(SLOT, trial.number)),
        state=state,
        values=attrs.get(VALUES, {}),
        dice=values[0] if values else None,
        milliseconds=values[1] if len(values) > 1 else None,
        curve=tuple(curve),
        reason=attrs.get(REASON, died),
        key=attrs.get(KEY),
        made=attrs.get(MADE, False),
        seconds=used_s(trial),
    )
