"""Search spaces: what is refused, what is tried where, and that a space's values always fit the candidate."""

from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from segops.errors import UserError
from segops.params.candidate import CandidateParams
from segops.params.dotted import changed, is_tag, value_at
from segops.params.explain import explain
from segops.params.project import Params
from segops.params.search_space import combinations, default_values, in_order, is_active
from segops.params.tune import Dimension, TuneParams
from segops.tuning.space import encoded, suggest

UNET = CandidateParams.model_validate({"model": {"architecture": "unet", "base_filters": 16}})
RESUNET = CandidateParams.model_validate({"model": {"architecture": "resunet"}})
BOTH = {
    "model.architecture": {"categorical": ["unet", "resunet"]},
    "model.filters": {"categorical": [[4, 8], [8, 16]], "when": {"model.architecture": "resunet"}},
    "model.base_filters": {"int": [8, 16], "step": 8, "when": {"model.architecture": "unet"}},
}


def tuned(space: dict[str, Any], model: CandidateParams = UNET, **tune: Any) -> TuneParams:
    """The section with a search for `net`, checked against the candidate."""
    raw = {"searches": {"net": {"space": space}}} | tune
    return Params.model_validate(
        {"ingest": {"source": "unused"}, "candidates": {"net": model.model_dump()}, "tune": raw}
    ).tune


def space_of(space: dict[str, Any], model: CandidateParams = UNET) -> dict[str, Dimension]:
    return tuned(space, model).searches["net"].space


def refusal(space: dict[str, Any], **tune: Any) -> str:
    with pytest.raises(ValidationError) as error:
        tuned(space, **tune)
    return explain(error.value, Params)


RATE = "recipe.learning_rate"


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"recipe.learning_rat": {"float": [1e-4, 1]}}, "there is no 'learning_rat'; did you mean 'learning_rate'?"),
        ({"recipe": {"float": [1e-4, 1]}}, "recipe: 'recipe' = 0.0001"),
        ({"recipe.seed": {"int": [0, 5]}}, "recipe.seed: choosing a seed would choose luck"),
        ({RATE: {"float": [1e-2, 1e-4]}}, "the range [0.01, 0.0001] is empty"),
        ({RATE: {"float": [1e-2, 1e-2]}}, "is empty"),
        ({RATE: {"float": [0, 1e-2], "log": True}}, "a log range can't reach 0"),
        ({RATE: {"float": [-1, 1], "log": True}}, "a log range can't reach -1"),
        ({RATE: {"float": [1e-4, 2]}}, "'recipe.learning_rate' = 2.0: Input should be less than or equal to 1"),
        ({RATE: {"float": [1e-4, 1e-3]}}, "the candidate's own value 0.002 isn't in the space"),
        ({RATE: {"float": [1e-4, 1], "step": 2}}, "step 2 is wider than the range"),
        ({RATE: {"float": [1e-4, 1], "step": 0.1, "log": True}}, "a log range has no step"),
        ({RATE: {}}, "give exactly one of float: [low, high], int: [low, high], categorical: [choices]"),
        ({RATE: {"float": [1e-4, 1], "categorical": [1]}}, "give exactly one of"),
        ({RATE: {"flat": [1e-4, 1]}}, "did you mean 'float'?"),
        ({"model.base_filters": {"int": [8, 20], "step": 1.5}}, "step 1.5 of an int range must be an int"),
        ({"model.base_filters": {"int": [10, 20], "step": 4}}, "own value 16 isn't in the space"),
        ({"model.depth": {"categorical": [4, 4]}}, "a choice stands twice"),
        ({"model.depth": {"categorical": []}}, "at least 1 item"),
        ({"model.depth": {"categorical": [4, 9]}}, "'model.depth' = 9: Input should be less than or equal to 6"),
        ({"model.batch_norm": {"categorical": [False, True], "log": True}}, "log and step are for ranges"),
        ({RATE: {"float": [1e-4, 1], "when": {"model.bath_norm": True}}}, "there is no 'bath_norm'; did you mean"),
        ({RATE: {"float": [1e-4, 1], "when": {"model.batch_norm": True}}}, "never tried: model.batch_norm is False"),
        ({RATE: {"float": [1e-4, 1], "when": {RATE: 1}}}, "goes in a circle"),
        (
            {"model.depth": {"int": [1, 4]}, RATE: {"float": [1e-4, 1], "when": {"model.depth": 7}}},
            "when model.depth is 7: the space never gives it that value",
        ),
        (
            {"model.architecture": BOTH["model.architecture"], "model.base_filters": {"int": [8, 16]}},
            "with model.architecture: resunet; add `when: {model.architecture: ...}`",
        ),
        ({"inference.tta": {"categorical": ["none", "d4"]}}, "inference.tta: changes no training; a search tries"),
        ({}, "at least 1 item"),
    ],
)
def test_a_space_that_cannot_be_is_refused_in_one_line(space: dict[str, Any], expected: str) -> None:
    said = refusal(space)
    assert expected in said
    assert "tune.searches.net" in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("tune", "expected"),
    [
        ({"objectives": ["dice", "milliseconds"]}, "two objectives can't be pruned: an epoch's Dice says nothing"),
        ({"objectives": ["milliseconds"]}, "objectives are [dice] or [dice, milliseconds]"),
        ({"objectives": ["dice", "milliseconds"], "pruner": "none", "sampler": "cmaes"}, "cmaes takes one objective"),
        ({"sampler": "grid"}, "grid can't count this range; give it a step"),
        ({"storage": "mysql://db/x"}, "storage: sqlite:///file, postgresql://user@host/database, or null"),
        ({"searches": {"other": {"space": {RATE: {"float": [1e-4, 1]}}}}}, "there is no candidate 'other'"),
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(tune: dict[str, Any], expected: str) -> None:
    said = refusal({RATE: {"float": [1e-4, 1]}}, **tune)
    assert expected in said
    assert "\n" not in said


def test_a_password_in_params_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValidationError) as error:
        tuned({RATE: {"float": [1e-4, 1]}}, storage="postgresql://me:hidden@db/optuna")
    said = explain(error.value, Params)
    assert "set the whole URL in SEGOPS_TUNE_STORAGE" in said
    assert "hidden" not in said


def test_epochs_of_trials_and_epochs_in_the_space_exclude_each_other() -> None:
    space = {"recipe.epochs": {"int": [5, 20]}}
    assert space_of(space)
    raw = {"net": {"space": space, "epochs": 3}}
    assert "drop one of the two" in refusal(space, searches=raw)


def test_defaults_are_the_candidates_own_active_values() -> None:
    assert default_values(UNET, space_of(BOTH)) == {"model.architecture": "unet", "model.base_filters": 16}
    size = {"input.size": {"categorical": [128, 256]}}
    assert default_values(UNET, space_of(size)) == {"input.size": 256}  # written as a number, kept as [256, 256]


def test_grid_is_every_combination_that_conditions_allow_the_defaults_first() -> None:
    found = combinations(UNET, space_of(BOTH))
    assert found[0] == {"model.architecture": "unet", "model.base_filters": 16}
    assert len(found) == 4
    assert {"model.architecture": "unet", "model.base_filters": 8} in found
    assert {"model.architecture": "resunet", "model.filters": [8, 16]} in found


def test_conditions_come_before_what_they_decide() -> None:
    turned = dict(reversed(space_of(BOTH).items()))
    assert in_order(turned)[0] == "model.architecture"
    space = space_of({"model.dropout_decoder": {"float": [0, 0.5], "when": {"model.batch_norm": False}}})
    assert is_active(UNET, space, "model.dropout_decoder", {})
    normed = changed(UNET, {"model.batch_norm": True})
    assert not is_active(normed, space, "model.dropout_decoder", {})


def test_another_variant_comes_with_its_own_defaults() -> None:
    made = changed(UNET, {"model.architecture": "resunet", "model.filters": [4, 8]})
    assert made.model.model_dump() == {
        "architecture": "resunet",
        "filters": (4, 8),
        "shortcut_bn": False,
        "stochastic_depth": 0.0,
    }
    cosine = changed(UNET, {"recipe.schedule.min_learning_rate": 1e-5, "recipe.schedule.name": "cosine"})
    assert value_at(cosine, "recipe.schedule") == {"name": "cosine", "min_learning_rate": 1e-5}
    assert changed(RESUNET, {"model.architecture": "resunet"}) == RESUNET
    assert is_tag(UNET, "recipe.schedule.name")
    assert not is_tag(UNET, "recipe.optimizer")
    with pytest.raises(UserError, match="there is no 'depth'"):
        changed(UNET, {"model.architecture": "resunet", "model.depth": 2})


def _floats(draw: st.DrawFn) -> dict[str, Any]:
    low, high = sorted(draw(st.tuples(*[st.floats(1e-5, 1, exclude_max=True)] * 2)))
    return {"float": [min(low, 0.002), max(high, 0.0021)], "log": draw(st.booleans())}


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Spaces around the U-Net's own values."""
    found: dict[str, Any] = {
        "recipe.learning_rate": _floats(draw),
        "model.depth": {"int": [draw(st.integers(1, 4)), draw(st.integers(5, 6))]},
        "model.batch_norm": {"categorical": draw(st.permutations([True, False]))},
        "model.dropout_decoder": {"float": [0, draw(st.floats(0.01, 0.9))], "when": {"model.batch_norm": False}},
        "recipe.schedule.name": {"categorical": draw(st.permutations(["one_cycle", "cosine", "constant"]))},
        "recipe.schedule.warmup": {"float": [0.1, 0.5], "when": {"recipe.schedule.name": "one_cycle"}},
    }
    kept = draw(st.sets(st.sampled_from(sorted(found)), min_size=1))
    if "recipe.schedule.warmup" in kept and "recipe.schedule.name" not in kept:
        kept.add("recipe.schedule.name")
    return {path: found[path] for path in draw(st.permutations(sorted(kept)))}


@settings(max_examples=25, deadline=None)
@given(spaces(), st.integers(0, 1000))
def test_whatever_a_trial_draws_fits_the_candidate_and_lies_in_the_space(raw: dict[str, Any], seed: int) -> None:
    space = space_of(raw)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    study.enqueue_trial(encoded(space, default_values(UNET, space)))
    for at in range(3):
        values = suggest(study.ask(), space, UNET)
        made = changed(UNET, values)
        assert all(space[path].holds(value) for path, value in values.items())
        assert ("model.dropout_decoder" in values) <= (value_at(made, "model.batch_norm") is False)
        if at == 0:
            assert made == UNET


@given(st.integers(-50, 50), st.integers(1, 60), st.integers(1, 20))
def test_the_points_of_a_stepped_range_are_those_that_it_holds(low: int, width: int, step: int) -> None:
    if step > width:
        with pytest.raises(ValidationError, match="wider than the range"):
            Dimension.model_validate({"int": [low, low + width], "step": step})
        return
    made = Dimension.model_validate({"int": [low, low + width], "step": step})
    assert made.points == list(range(low, low + width + 1, step))
    assert [one for one in range(low - 3, low + width + 4) if made.holds(one)] == made.points


def test_floats_with_a_step_are_counted_without_rounding_away_the_last() -> None:
    points = Dimension.model_validate({"float": [0, 0.3], "step": 0.1}).points
    assert points == pytest.approx([0, 0.1, 0.2, 0.3])
    assert all(Dimension.model_validate({"float": [0, 0.3], "step": 0.1}).holds(one) for one in points or [])


def test_every_pair_of_settings_is_known_to_the_samplers() -> None:
    from segops.tuning.samplers import make_pruner, make_sampler

    for sampler, pruner in itertools.product(
        ("tpe", "cmaes", "random", "grid", "nsga2"), ("median", "hyperband", "percentile", "none")
    ):
        tune = TuneParams.model_validate({"sampler": sampler, "pruner": pruner})
        assert make_sampler(tune, 0, 20) is not None
        assert make_pruner(tune, 10) is not None
