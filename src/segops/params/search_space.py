"""Interprets a search space for its candidate: checked paths and values, order, conditions, defaults."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.dotted import changed, is_tag, value_at
from segops.params.explain import explain
from segops.params.tune import Dimension, SearchParams, TuneParams

Space = Mapping[str, Dimension]
Values = dict[str, Any]
_TRAINED = ("model", "outputs", "objects", "input", "recipe")  # what a candidate's own network is made and trained by
_FIXED = {
    "recipe.seed": "choosing a seed would choose luck; leave it out",
    "recipe.epochs": "tune.searches.*.epochs sets the epochs of its trials; drop one of the two",
}


def check_search(candidate: str, params: CandidateParams, search: SearchParams, tune: TuneParams) -> None:
    """Raise UserError with a line for the first mistake in a candidate's search."""
    where = f"tune.searches.{candidate}.space"
    for path, why in _FIXED.items():
        if path in search.space and (path == "recipe.seed" or search.epochs is not None):
            raise UserError(f"{where}: {path}: {why}")
    try:
        order = in_order(search.space)
        for path in order:
            _check_values(params, search.space, path)
        for path in order:
            if path.partition(".")[0] not in _TRAINED:
                raise UserError(f"{path}: changes no training; a search tries params of {', '.join(_TRAINED)}")
        _check_defaults(params, search.space)
        if tune.sampler == "grid":
            _check_grid(search.space)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def in_order(space: Space) -> list[str]:
    """Return the paths, each after those that its `when` names; otherwise in the space's order."""
    order: list[str] = []
    waiting = list(space)
    while waiting:
        free = [path for path in waiting if not any(other in waiting for other in space[path].when if other != path)]
        free = [path for path in free if path not in space[path].when]
        if not free:
            raise UserError(f"{waiting[0]}: its `when` goes in a circle with {', '.join(waiting)}")
        order.append(free[0])
        waiting.remove(free[0])
    return order


def is_active(params: CandidateParams, space: Space, path: str, chosen: Mapping[str, Any]) -> bool:
    """Return whether `path` is tried beside the values chosen so far: its `when` holds for them and the candidate."""
    for other, wanted in space[path].when.items():
        if other in space and other not in chosen:
            return False
        value = chosen[other] if other in space else value_at(changed(params, chosen), other)
        if value != wanted:
            return False
    return True


def default_values(params: CandidateParams, space: Space) -> Values:
    """Return the candidate's own values of the space's active paths; a choice as the space writes it."""
    chosen: Values = {}
    for path in in_order(space):
        if is_active(params, space, path, chosen):
            chosen[path] = _own_value(params, path, space[path])
    return chosen


def combinations(params: CandidateParams, space: Space) -> list[Values]:
    """Return every combination of a countable space, the defaults' first; conditions hold in each."""
    defaults = default_values(params, space)
    order = in_order(space)

    def walk(level: int, chosen: Values) -> Iterator[Values]:
        if level == len(order):
            yield chosen
        elif not is_active(params, space, order[level], chosen):
            yield from walk(level + 1, chosen)
        else:
            for value in space[order[level]].points or []:
                yield from walk(level + 1, {**chosen, order[level]: value})

    return [defaults, *(values for values in walk(0, {}) if values != defaults)]


def describe(space: Space) -> dict[str, str]:
    """Describe a space as text by path, to see whether it is still the same."""
    return {
        path: json.dumps(dimension.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)
        for path, dimension in space.items()
    }


def _own_value(params: CandidateParams, path: str, dimension: Dimension) -> Any:
    """Return the candidate's own value at a path, as the choice of the space that equals it, if any."""
    own = value_at(params, path)
    for choice in dimension.categorical or []:
        if choice == own or changed(params, {path: choice}) == params:  # size 128 is size [128, 128]
            return choice
    return own


def _check_values(params: CandidateParams, space: Space, path: str) -> None:
    """Raise UserError unless the path exists and the candidate takes the range's ends, or each choice, where tried."""
    dimension = space[path]
    conditions = _conditions(params, space, path)
    tags = [other for other in space if other not in conditions and other != path and is_tag(params, other)]
    for values in itertools.product(*(space[tag].points or [] for tag in tags)):
        around = {**conditions, **dict(zip(tags, values, strict=True))}
        for value in dimension.categorical or dimension.ends:
            try:
                changed(params, {**around, path: value})
            except UserError as error:
                hint = "".join(f"; add `when: {{{tag}: ...}}`" for tag in tags[:1])
                with_these = "".join(f", with {other}: {around[other]}" for other in around)
                raise UserError(f"{error}{with_these}{hint}") from None
            except ValidationError as error:
                raise UserError(f"{path}: {explain(error, CandidateParams)}") from None


def _conditions(params: CandidateParams, space: Space, path: str) -> Values:
    """Return what holds wherever `path` is tried: its `when`, and those of the params that this names."""
    conditions: Values = {}
    for other, wanted in space[path].when.items():
        if other in space:
            if not space[other].holds(wanted):
                raise UserError(f"{path}: when {other} is {wanted!r}: the space never gives it that value")
            conditions |= _conditions(params, space, other)
            conditions[other] = wanted
    for other, wanted in space[path].when.items():
        if other not in space and (own := value_at(changed(params, conditions), other)) != wanted:
            raise UserError(f"{path}: never tried: {other} is {own!r}, not {wanted!r}, and isn't searched")
    return conditions


def _check_defaults(params: CandidateParams, space: Space) -> None:
    """Raise UserError where the space lacks a value of the candidate, which is the first trial."""
    for path, value in default_values(params, space).items():
        if not space[path].holds(value):
            raise UserError(
                f"{path}: the candidate's own value {value!r} isn't in the space; the first trial is the candidate "
                "as it is, so widen the space or change the candidate"
            )


def _check_grid(space: Space) -> None:
    """Raise UserError for a range that a grid can't count."""
    for path, dimension in space.items():
        if dimension.points is None:
            raise UserError(f"{path}: grid can't count this range; give it a step, or list values as categorical")
