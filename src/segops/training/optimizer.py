"""Builds the optimizer of a recipe, and adds the penalties on the size of weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from segops.params.recipe import RecipeParams


def make_optimizer(recipe: RecipeParams, network: nn.Module) -> Optimizer:
    """Build the optimizer of `recipe.optimizer` over the network's parameters.

    With `recipe.decay_norms_and_biases` there is a single group of parameters. Without, the first group holds those
    that decay, and the second those of 1 dimension: norms and biases.
    """
    parameters = list(network.parameters())
    groups = [{"params": parameters}]
    if not recipe.decay_norms_and_biases:
        flat = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [
            {"params": [parameter for parameter in parameters if parameter.ndim > 1]},
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

    The penalties are in the gradients alone, not in the losses that are shown, so that training and validation
    losses measure the same.
    """
    if not (recipe.l1 or recipe.l2):
        return
    weights = [weight for weight in optimizer.param_groups[0]["params"] if weight.grad is not None]
    gradients = [weight.grad for weight in weights]
    if recipe.l2:
        torch._foreach_add_(gradients, weights, alpha=2 * recipe.l2)
    if recipe.l1:
        torch._foreach_add_(gradients, torch._foreach_sign(weights), alpha=recipe.l1)
