"""Builds samplers and pruners by name."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PercentilePruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from segops.params.tune import TuneParams

_STARTUP, _POPULATION = 10, 50  # Optuna's own defaults, for large budgets


def make_sampler(tune: TuneParams, slot: int, trials: int) -> BaseSampler:
    """Build the sampler that draws the trial of a slot.

    Its seed follows from `tune.seed` and the slot: an interrupted search draws what it would have drawn. Small budgets
    get fewer random trials before the model, and smaller populations.
    """
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    seed = int(np.random.SeedSequence([tune.seed, slot]).generate_state(1)[0])
    startup = min(_STARTUP, max(3, trials // 3))
    if tune.sampler == "tpe":
        return TPESampler(seed=seed, n_startup_trials=startup, group=True)
    if tune.sampler == "cmaes":
        return _ReplayedCmaEs(
            seed=seed,
            independent_sampler=RandomSampler(seed),
            warn_independent_sampling=False,
            consider_pruned_trials=True,
        )
    if tune.sampler == "nsga2":
        return NSGAIISampler(seed=seed, population_size=min(_POPULATION, max(4, trials // 4)))
    return RandomSampler(seed)  # grid: all values are in the trials already


def make_pruner(tune: TuneParams, epochs: int) -> BasePruner:
    """Build the pruner; none looks at the first quarter of the epochs, where the learning rate still rises."""
    warm_up = epochs // 4 + 1
    if tune.pruner == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=warm_up)
    if tune.pruner == "percentile":
        return PercentilePruner(25.0, n_startup_trials=4, n_warmup_steps=warm_up)
    if tune.pruner == "hyperband":
        return HyperbandPruner(min_resource=warm_up, max_resource=max(warm_up, epochs))
    return NopPruner()


class _ReplayedCmaEs(CmaEsSampler):
    """CMA-ES that rebuilds its state from the trials: Optuna's own loads it as a pickle out of the storage."""

    _study_and_space: tuple[optuna.Study, dict[str, BaseDistribution]]

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        self._study_and_space = study, search_space
        return super().sample_relative(study, trial, search_space)

    def _restore_optimizer(self, completed_trials: list[FrozenTrial]) -> Any:
        """Replay the finished trials, generation by generation, into a new optimizer."""
        study, search_space = self._study_and_space
        space = optuna._transform._SearchSpaceTransform(search_space, transform_step=True, transform_0_1=True)
        optimizer = self._init_optimizer(space, study.direction)
        while len(generation := self._generation(completed_trials, optimizer)) == optimizer.population_size:
            sign = 1 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1
            optimizer.tell(
                [(space.transform(trial.params), sign * trial.value) for trial in generation if trial.value is not None]
            )
        return optimizer

    def _generation(self, completed_trials: list[FrozenTrial], optimizer: Any) -> Sequence[FrozenTrial]:
        """Return the trials of the optimizer's present generation, at most a whole population."""
        trials = self._get_solution_trials(completed_trials, optimizer.generation)
        return trials[: optimizer.population_size]
