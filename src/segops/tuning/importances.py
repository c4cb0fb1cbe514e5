"""Measures how much each param of a search matters, by fANOVA."""

from __future__ import annotations

import warnings

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

_FEWEST = 4  # complete trials that importances are taken from


def importances(study: optuna.Study) -> dict[str, float]:
    """Return the share of each param in the differences of Dice; empty for few trials, or where all scored the same."""
    scored = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(scored) < _FEWEST or len({trial.values[0] for trial in scored}) == 1:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shares = get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(seed=0), target=lambda trial: float(trial.values[0])
        )
    return {path: round(float(share), 4) for path, share in shares.items()}
