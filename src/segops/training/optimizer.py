"""The optimizer of a recipe, and the penalties on the size of weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from segops.params.recipe import RecipeParams


def make_optimizer(recipe: RecipeParams, network: nn.Module) -> Optimizer:
    """The optimizer of `recipe.optimizer` over the network's parameters.

    With `recipe.decay_norms_and_biases` there is one group of parameters. Without, the first group holds those that
    decay, and a second one those of one dimension: norms and biases.
    """
    parameters = list(network.parameters())
    groups = [{"params": parameters}]
    if not recipe.decay_norms_and_biases:
        flat = [one for one in parameters if one.ndim <= 1]
        groups = [
            {"params": [one for one in parameters if one.ndim > 1]},
            {"params": flat, "weight_decay": 0.0},  # type: ignore[dict-item]
        ]
    rate, decay = recipe.learning_rate, recipe.weight_decay
    match recipe.optimizer:
        case "adam":
            return Adam(groups, lr=rate, weight_decay=decay, fused=True)
        case "adamw":
            return AdamW(groups, lr=rate, weight_decay=decay, fused=True)
        case "sgd":
            nesterov = recipe.momentum > 0
            return SGD(groups, lr=rate, momentum=recipe.momentum, nesterov=nesterov, weight_decay=decay, fused=True)


@torch.no_grad()
def add_penalties(recipe: RecipeParams, optimizer: Optimizer) -> None:
    """Add the gradient of `l1` * sum |w| + `l2` * sum w^2 (Keras's convention) over the weights that decay.

    The penalties stand in the gradients alone, not in the losses that are shown, so that training and validation
    losses measure the same.
    """
    if not (recipe.l1 or recipe.l2):
        return
    weights = [one for one in optimizer.param_groups[0]["params"] if one.grad is not None]
    gradients = [one.grad for one in weights]
    if recipe.l2:
        torch._foreach_add_(gradients, weights, alpha=2 * recipe.l2)
    if recipe.l1:
        torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=recipe.l1)
