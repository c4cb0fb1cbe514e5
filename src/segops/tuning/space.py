"""Translates between a search space and Optuna's trials. Choices are JSON text there: Optuna stores no lists."""

from __future__ import annotations

import json
from typing import Any

from optuna.trial import Trial

from segops.params.candidate import CandidateParams
from segops.params.search_space import Space, Values, in_order, is_active
from segops.params.tune import Dimension


def encoded(space: Space, values: Values) -> dict[str, Any]:
    """Return values as Optuna stores them."""
    return {path: json.dumps(value) if space[path].categorical is not None else value for path, value in values.items()}


def suggest(trial: Trial, space: Space, params: CandidateParams) -> Values:
    """Draw the trial's values by path, in order, where their conditions hold."""
    values: Values = {}
    for path in in_order(space):
        if is_active(params, space, path, values):
            values[path] = _drawn(trial, path, space[path])
    return values


def _drawn(trial: Trial, path: str, dimension: Dimension) -> Any:
    """Draw a value of a dimension."""
    if dimension.categorical is not None:
        return json.loads(trial.suggest_categorical(path, [json.dumps(choice) for choice in dimension.categorical]))
    low, high = dimension.ends
    if dimension.int_ is not None:
        return trial.suggest_int(path, int(low), int(high), log=dimension.log, step=int(dimension.step or 1))
    return trial.suggest_float(path, low, high, log=dimension.log, step=dimension.step)
