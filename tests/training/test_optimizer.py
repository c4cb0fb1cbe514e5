"""Optimizers and penalties, against their formulas."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from segops.params.recipe import RecipeParams
from segops.training.optimizer import add_penalties, make_optimizer

RATE = 0.1


class Network(torch.nn.Module):
    """One matrix and one bias, with gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([[2.0, -1.0]]))
        self.bias = torch.nn.Parameter(torch.tensor([4.0]))
        self.frozen = torch.nn.Parameter(torch.tensor([[3.0]]), requires_grad=False)
        self.weight.grad, self.bias.grad = torch.tensor([[0.5, 0.5]]), torch.tensor([0.0])


def stepped(steps: int = 1, **given: Any) -> Network:
    """Steps with the same gradient each time, before penalties."""
    recipe = RecipeParams.model_validate({"learning_rate": RATE, "weight_decay": 0.0} | given)
    network = Network()
    optimizer = make_optimizer(recipe, network)
    for _ in range(steps):
        network.weight.grad, network.bias.grad = torch.tensor([[0.5, 0.5]]), torch.tensor([0.0])
        add_penalties(recipe, optimizer)
        optimizer.step()
    return network


@pytest.mark.parametrize(
    ("given", "weight", "bias"),
    [
        # Without momentum a step is -0.1 times the gradient 0.5 and the penalties' 0.3 sign(w), 2 * 0.2 w, or 0.5 w.
        ({}, [2 - 0.05, -1 - 0.05], 4.0),
        ({"l1": 0.3}, [2 - 0.08, -1 - 0.02], 4 - 0.03),
        ({"l2": 0.2}, [2 - 0.13, -1 - 0.01], 4 - 0.16),
        ({"l1": 0.3, "l2": 0.2}, [2 - 0.16, -1 + 0.02], 4 - 0.19),
        ({"weight_decay": 0.5}, [2 - 0.15, -1], 4 - 0.2),
        ({"l1": 0.3, "l2": 0.2, "decay_norms_and_biases": False}, [2 - 0.16, -1 + 0.02], 4.0),
        ({"weight_decay": 0.5, "decay_norms_and_biases": False}, [2 - 0.15, -1], 4.0),
    ],
)
def test_sgd_takes_gradient_and_penalties(given: dict[str, Any], weight: list[float], bias: float) -> None:
    network = stepped(optimizer="sgd", momentum=0.0, **given)
    assert network.weight.tolist()[0] == pytest.approx(weight)
    assert network.bias.item() == pytest.approx(bias)
    assert network.frozen.item() == 3.0


def test_sgd_has_nesterovs_momentum() -> None:
    # Velocity 0.5, then 0.9 * 0.5 + 0.5; a step is the gradient + 0.9 velocity: 0.95, then 1.355.
    network = stepped(2, optimizer="sgd", momentum=0.9)
    assert network.weight.tolist()[0] == pytest.approx([2 - 0.2305, -1 - 0.2305])


def test_adamw_decouples_its_decay_and_adam_does_not() -> None:
    # Adam's first step is the learning rate against the gradient's sign; AdamW shrinks by 0.1 * 0.5 before.
    decoupled, joined = (stepped(optimizer=name, weight_decay=0.5) for name in ("adamw", "adam"))
    assert decoupled.weight.tolist()[0] == pytest.approx([2 * 0.95 - 0.1, -1 * 0.95 - 0.1], abs=1e-5)
    assert decoupled.bias.item() == pytest.approx(4 * 0.95)
    assert joined.weight[0, 0].item() == pytest.approx(2 - 0.1, abs=1e-5)
    assert joined.bias.item() == pytest.approx(4 - 0.1, abs=1e-5)
    assert stepped(optimizer="adamw", weight_decay=0.5, decay_norms_and_biases=False).bias.item() == 4.0
