"""Learning rates over time, and their resumption."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
import torch

from segops.params.recipe import RecipeParams
from segops.training.optimizer import make_optimizer
from segops.training.schedules import Schedule

EPOCHS, STEPS, PEAK = 6, 5, 0.1


def recipe(warmup_epochs: int = 0, optimizer: str = "adamw", **schedule: Any) -> RecipeParams:
    given = {"warmup_epochs": warmup_epochs, "optimizer": optimizer, "schedule": schedule}
    return RecipeParams.model_validate({"epochs": EPOCHS, "learning_rate": PEAK} | given)


def run(schedule: Schedule, scores: list[float], steps: int = STEPS) -> list[list[float]]:
    """Learning rates by epoch and step."""
    rates: list[list[float]] = []
    for score in scores:
        rates.append([])
        for _ in range(steps):
            rates[-1].append(schedule.learning_rate)
            schedule.optimizer.step()
            schedule.after_step()
        schedule.after_epoch(score)
    return rates


def made(params: RecipeParams, steps: int = STEPS) -> Schedule:
    weight = torch.nn.Parameter(torch.ones(1))
    weight.grad = torch.ones(1)
    network = torch.nn.ParameterList([weight])
    return Schedule(make_optimizer(params, network), params, steps)


def test_constant_stays() -> None:
    assert run(made(recipe(name="constant")), [0] * EPOCHS) == [[PEAK] * STEPS] * EPOCHS


def test_step_multiplies_every_so_many_epochs() -> None:
    rates = run(made(recipe(name="step", every=2, factor=0.5)), [0] * EPOCHS)
    assert [epoch[0] for epoch in rates] == pytest.approx([0.1, 0.1, 0.05, 0.05, 0.025, 0.025])
    assert all(len(set(epoch)) == 1 for epoch in rates)


def test_plateau_of_dice_falls_after_the_patience_and_never_below_the_minimum() -> None:
    params = recipe(name="plateau", factor=0.1, patience=2, min_learning_rate=0.002)
    rates = run(made(params), [0.5, 0.4, 0.4, 0.4, 0.4, 0.4])
    assert [epoch[0] for epoch in rates] == pytest.approx([0.1, 0.1, 0.1, 0.01, 0.01, 0.002])


def test_plateau_of_loss_counts_a_lower_value_as_progress() -> None:
    params = recipe(name="plateau", factor=0.1, patience=1).model_copy(update={"monitor": "loss"})
    rates = run(made(params), [0.5, 0.4, 0.3, 0.3, 0.2, 0.2])
    assert [epoch[0] for epoch in rates] == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("patience", [1, 2, 3])
@pytest.mark.parametrize("scores", [[0.5, 0.4, 0.4, 0.4, 0.4, 0.4], [0.5, 0.50001, 0.4, 0.3, 0.50002, 0.1]])
def test_plateau_falls_where_early_stopping_of_the_same_patience_would_stop(scores: list[float], patience: int) -> None:
    rates = [epoch[0] for epoch in run(made(recipe(name="plateau", factor=0.5, patience=patience)), scores)]
    bests = [max(range(epoch), key=lambda at: (scores[at], -at)) for epoch in range(1, EPOCHS + 1)]
    stops = [epoch for epoch, best in enumerate(bests, start=1) if epoch - (best + 1) >= patience]
    falls = [epoch for epoch in range(1, EPOCHS) if rates[epoch] < rates[epoch - 1]]
    assert falls[:1] == [epoch for epoch in stops if epoch < EPOCHS][:1]


def test_cosine_is_half_way_down_in_the_middle() -> None:
    rates = list(chain(*run(made(recipe(name="cosine", min_learning_rate=0.02)), [0] * EPOCHS)))
    assert rates[0] == PEAK
    assert rates[15] == pytest.approx(0.06)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.0205


def test_exponential_multiplies_every_epoch() -> None:
    rates = run(made(recipe(name="exponential", factor=0.5)), [0] * EPOCHS)
    assert [epoch[0] for epoch in rates] == pytest.approx([0.1, 0.05, 0.025, 0.0125, 0.00625, 0.003125])
    assert all(len(set(epoch)) == 1 for epoch in rates)


def test_poly_is_the_share_of_epochs_left_to_a_power() -> None:
    rates = run(made(recipe(name="poly", power=0.9)), [0] * EPOCHS)
    assert [epoch[0] for epoch in rates] == pytest.approx([0.1 * (1 - epoch / 6) ** 0.9 for epoch in range(6)])
    assert all(len(set(epoch)) == 1 for epoch in rates)


SCHEDULES: list[dict[str, Any]] = [
    {"name": "constant"},
    {"name": "step", "every": 2},
    {"name": "exponential"},
    {"name": "poly"},
    {"name": "plateau", "patience": 1},
    {"name": "cosine"},
    {"name": "one_cycle"},
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: schedule["name"])
def test_a_warm_up_rises_to_where_the_schedule_begins_which_then_has_the_other_epochs(schedule: dict[str, Any]) -> None:
    scores = [0.5, 0.4, 0.4, 0.4]
    shorter = recipe(**schedule).model_copy(update={"epochs": EPOCHS - 2})
    alone = list(chain(*run(made(shorter), scores)))
    rates = list(chain(*run(made(recipe(**schedule, warmup_epochs=2)), [0.1, 0.9, *scores])))
    assert rates[:10] == pytest.approx([alone[0] * step / 11 for step in range(1, 11)])
    assert rates[10:] == alone


def test_a_warm_up_that_leaves_no_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match="warmup_epochs is 6 of 6 epochs"):
        recipe(name="constant", warmup_epochs=6)


def test_one_cycle_leaves_the_momentum_of_sgd_alone() -> None:
    schedule = made(recipe(name="one_cycle", optimizer="sgd"))
    run(schedule, [0] * 3)
    assert schedule.optimizer.param_groups[0]["momentum"] == 0.99


def test_one_cycle_rises_for_its_share_of_the_steps_then_falls_to_nearly_zero() -> None:
    rates = list(chain(*run(made(recipe(name="one_cycle", warmup=0.3)), [0] * EPOCHS)))
    assert rates[0] == pytest.approx(PEAK / 25)
    assert max(rates) == pytest.approx(PEAK)
    assert rates.index(max(rates)) == 0.3 * 30 - 1
    assert rates[-1] < PEAK / 1000


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.5), (1, 0.3), (5, 0.2), (5, 0.999)])
def test_one_cycle_takes_very_few_steps(steps: int, warmup: float) -> None:
    params = RecipeParams.model_validate({"epochs": 1, "schedule": {"name": "one_cycle", "warmup": warmup}})
    rates = run(made(params, steps), [0], steps)[0]
    assert all(0 < rate <= params.learning_rate * 1.0001 for rate in rates)


@pytest.mark.parametrize(
    "schedule",
    [
        *SCHEDULES,
        {"name": "constant", "warmup_epochs": 2},
        {"name": "plateau", "patience": 1, "warmup_epochs": 1},
        {"name": "cosine", "warmup_epochs": 4},
        {"name": "one_cycle", "warmup_epochs": 1, "optimizer": "sgd"},
    ],
    ids=lambda schedule: "-".join(map(str, schedule.values())),
)
def test_a_schedule_goes_on_from_its_json_with_the_same_bits(schedule: dict[str, Any]) -> None:
    scores = [0.5, 0.4, 0.6, 0.6, 0.5, 0.7]
    whole = run(made(recipe(**schedule)), scores)
    first = made(recipe(**schedule))
    begun = run(first, scores[:3])
    saved = json.dumps([first.state_dict(), first.optimizer.state_dict()["param_groups"]])
    state, groups = json.loads(saved)
    second = made(recipe(**schedule))
    moments = first.optimizer.state_dict()["state"]
    second.optimizer.load_state_dict({"state": moments, "param_groups": groups})
    second.load_state_dict(state)
    assert begun + run(second, scores[3:]) == whole


def test_a_rise_of_one_step_begins_below_the_peak() -> None:
    params = RecipeParams.model_validate({"epochs": 1, "schedule": {"name": "one_cycle", "warmup": 0.2}})
    rates = run(made(params, 5), [0], 5)[0]
    assert rates[0] == pytest.approx(params.learning_rate / 25)
    assert all(rates[0] < rate < params.learning_rate for rate in rates[1:4])
