"""Runs a search's worker: it takes slot after slot, trains, and records how it went."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import ValidationError

from segops.contracts.trials import TrialRecord
from segops.data.arrays import PreparedData
from segops.errors import TryAgainError, UserError
from segops.files import naming, project_root
from segops.params.candidate import CandidateParams
from segops.params.dotted import changed
from segops.params.explain import explain
from segops.progress import note, say
from segops.training.job import Job
from segops.tuning import study as studies
from segops.tuning.space import suggest
from segops.tuning.speed import measure_milliseconds
from segops.tuning.storage import StorageAwayError, answering, open_storage
from segops.tuning.study import CURVE, KEY, MADE, REASON, SLOT, VALUES, Search
from segops.tuning.training import fitted, network_job, remove_checkpoints

_LOOK_AGAIN_S = 2.0  # for a dead worker's trial, while others run


class PrunedError(Exception):
    """The trial is unpromising."""


class StoppedError(Exception):
    """The trial must end here, through no fault of its own: time is up, or whoever started the worker is gone."""


def work(
    search: Search,
    *,
    stopped: Callable[[], bool] = lambda: False,
    after_trial: Callable[[], None] = lambda: None,
) -> None:
    """Run trials until no slot is left or time is up. With a database: also until the others' trials have ended.

    Args:
        stopped: asked at each epoch's end; True ends this worker, and its trial waits for another worker.
        after_trial: called in between.

    Raises: TryAgainError: the storage is away, or a disk is full, which is no trial's fault: it waits. A trial that
        diverges or runs out of memory is recorded and the search continues; any other error is recorded, and raised.
    """
    storage, data = open_storage(search.tune), PreparedData.open(search.prepared)
    while not stopped() and (trial := answering(search.tune, lambda: take(storage, search))) is not None:
        with _heartbeat(storage, trial):
            _run(storage, search, data, trial, stopped)
        answering(search.tune, lambda: remove_checkpoints(search, studies.records(storage, search)))
        after_trial()


def take(storage: BaseStorage, search: Search) -> Trial | None:
    """Take the first waiting slot's trial for this worker; None when there is nothing more to do."""
    while True:
        study = studies.load(storage, search)
        beating = is_heartbeat_enabled(storage)
        if beating:
            optuna.storages.fail_stale_trials(study)
        trials = [trial for trial in study.get_trials(deepcopy=False) if _slot(trial) < search.search.trials]
        if seconds_left(search, trials) <= 0:
            return None
        for trial in sorted(trials, key=_slot):
            if trial.state == TrialState.WAITING and _take(storage, trial, beating):
                return Trial(studies.load(storage, search, _slot(trial)), trial._trial_id)
        if not beating or not any(trial.state == TrialState.RUNNING for trial in trials):
            return None
        time.sleep(min(_LOOK_AGAIN_S, search.tune.heartbeat_s))


def seconds_left(search: Search, trials: list[FrozenTrial]) -> float:
    """Return what is left of the budget in minutes after all trials so far; infinity without budget."""
    if search.search.minutes is None:
        return float("inf")
    used_s = sum(studies.used_s(trial) for trial in trials)
    return search.search.minutes * 60 - used_s / search.tune.workers


def _slot(trial: FrozenTrial) -> int:
    """Return a trial's place in the budget."""
    return int(trial.user_attrs.get(SLOT, trial.number))


def _take(storage: BaseStorage, trial: FrozenTrial, beating: bool) -> bool:
    """Mark a waiting trial as this worker's; False where another was faster.

    The heartbeat comes first: a worker may die between the two lines.
    """
    if beating:
        storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]
    try:
        return storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    except UpdateFinishedTrialError:
        return False


@contextmanager
def _heartbeat(storage: BaseStorage, trial: Trial) -> Iterator[None]:
    """Beat while the block runs. Unlike Optuna's own thread this outlives a database that is away for a while."""
    if not is_heartbeat_enabled(storage):
        yield
        return
    done, every_s = Event(), storage.get_heartbeat_interval()  # type: ignore[attr-defined]

    def beat() -> None:
        while not done.wait(every_s):
            with suppress(Exception):
                storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]

    thread = Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _run(storage: BaseStorage, search: Search, data: PreparedData, trial: Trial, stopped: Callable[[], bool]) -> None:
    """Run a trial to its end, or back to the waiting trials where it is cut off."""
    tell = _Teller(storage, search, trial)
    try:
        with naming(project_root() / search.runtime.checkpoint_root):
            scores = _scores(tell, data, stopped)
        tell.end(TrialState.COMPLETE, scores)
    except PrunedError:
        tell.end(TrialState.PRUNED)
    except StorageAwayError:
        raise  # the trial waits for its retry; its finished training is found again
    except UpdateFinishedTrialError:
        say(f"{search.study} trial {trial.number} was taken for dead by another worker; its retry counts")
    except (StoppedError, TryAgainError, KeyboardInterrupt, SystemExit) as error:
        with suppress(UpdateFinishedTrialError):
            answering(search.tune, lambda: studies.give_back(storage, tell.frozen, died=False))
        if not isinstance(error, StoppedError):
            raise
    except UserError as error:
        tell.failed(str(error))
    except Exception as error:
        traceback.print_exc()
        tell.failed(f"{type(error).__name__}: {error}")  # or a restart would meet it again and again
        raise


def _scores(tell: _Teller, data: PreparedData, stopped: Callable[[], bool]) -> list[float]:
    """Train a trial's network and return its objectives: validation Dice, and milliseconds where they count."""
    search, trial = tell.search, tell.trial
    values = answering(search.tune, lambda: suggest(trial, search.search.space, search.params))
    tell.note(VALUES, values)
    job = network_job(search, _trial_params(search, values), data)
    tell.note(KEY, job.key)
    note(f"{search.study} trial {trial.number}: {values or 'as it is'}")

    def on_epoch(epoch: int, dice: float) -> None:
        tell.epoch(epoch, dice)
        if epoch == job.params.recipe.epochs:
            return
        if stopped() or (not tell.is_default and tell.out_of_time()):
            raise StoppedError
        if not tell.is_default and not search.two_objectives and answering(search.tune, trial.should_prune):
            raise PrunedError

    known = tell.known(job)
    if known is not None:
        curve = list(known.curve)
        scores = [known.dice, known.milliseconds]
    else:
        done = fitted(job, on_epoch, before_training=lambda: tell.note(MADE, True))
        curve = [row["val_dice"] for row in done.history]
        speed = measure_milliseconds(job, done.weights) if search.two_objectives else None
        scores = [done.history[done.best_epoch - 1]["val_dice"], speed]
    tell.note(CURVE, curve)
    return [score for score in scores if score is not None]


def _trial_params(search: Search, values: dict[str, object]) -> CandidateParams:
    """Return a trial's params. Raises UserError for values that don't go together."""
    try:
        return changed(search.trial_params, values)
    except ValidationError as error:
        raise UserError(f"these values don't go together: {explain(error, CandidateParams)}") from None


class _Teller:
    """Records in the storage how a trial goes, and tries again while the storage is away."""

    def __init__(self, storage: BaseStorage, search: Search, trial: Trial) -> None:
        self.storage, self.search, self.trial = storage, search, trial
        self.frozen = storage.get_trial(trial._trial_id)
        self.is_default = _slot(self.frozen) == 0

    def note(self, name: str, value: object) -> None:
        """Set an attribute of the trial."""
        answering(self.search.tune, lambda: self.trial.set_user_attr(name, value))

    def epoch(self, epoch: int, dice: float) -> None:
        """Record an epoch's validation Dice, for the pruner and the curve of a trial that ends early."""
        if not self.search.two_objectives and epoch not in self.frozen.intermediate_values:  # Optuna takes each once
            answering(self.search.tune, lambda: self.trial.report(dice, epoch))

    def out_of_time(self) -> bool:
        """Return whether the budget in minutes is used up."""
        if self.search.search.minutes is None:
            return False
        study = self.trial.study
        trials = answering(self.search.tune, lambda: study.get_trials(deepcopy=False))
        return seconds_left(self.search, trials) <= 0

    def known(self, job: Job) -> TrialRecord | None:
        """Return an earlier trial of the same training, whose score is this trial's; None where there is none."""
        records = answering(self.search.tune, lambda: studies.records(self.storage, self.search))
        return next((record for record in records if record.state == "complete" and record.key == job.key), None)

    def end(self, state: TrialState, values: list[float] | None = None) -> None:
        """Record the trial's end. Where another worker took it for dead, its retry counts."""
        study = self.trial.study
        answering(self.search.tune, lambda: study.tell(self.trial, values=values, state=state, skip_if_finished=True))
        score = "" if values is None else f", Dice {values[0]:.4f}"
        note(f"{self.search.study} trial {self.trial.number}: {state.name.lower()}{score}")

    def failed(self, reason: str) -> None:
        """Record that the trial failed, and why."""
        say(f"{self.search.study} trial {self.trial.number} failed: {reason}")
        with suppress(UpdateFinishedTrialError):
            self.note(REASON, " ".join(reason.split()))
        self.end(TrialState.FAIL)
