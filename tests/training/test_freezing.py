"""Frozen stages and deep supervision, in training and through an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from segops.errors import UserError
from segops.models.catalogue import build
from segops.params.candidate import CandidateParams
from segops.params.model import PretrainedParams
from segops.training.backbone import freeze, frozen_stages
from segops.training.task import supervised
from tests.support.model_entries import model_params
from tests.training.test_resume import interrupted
from tests.training.test_train import RESUNET, candidate, run, same

SUPERVISED = {"architecture": "unet_plus_plus", "base_filters": 2, "depth": 2}
VGG = {"architecture": "vgg16_unet", "width": 2, "batch_norm": True}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, [5, 5, 5, 5, 5, 5]),
        ({"freeze_epochs": 2}, [0, 0, 5, 5, 5, 5]),
        ({"freeze_epochs": 2, "unfreeze_stages": 3}, [0, 0, 3, 3, 3, 3]),
        ({"freeze_epochs": 1, "unfreeze_every": 2}, [0, 1, 1, 2, 2, 3]),
        ({"freeze_epochs": 1, "unfreeze_stages": 2, "unfreeze_every": 1}, [0, 1, 2, 2, 2, 2]),
        ({"unfreeze_stages": 0}, [0, 0, 0, 0, 0, 0]),
        ({"unfreeze_stages": 8}, [5, 5, 5, 5, 5, 5]),
    ],
)
def test_stages_learn_by_schedule_the_last_one_first(given: dict[str, int], expected: list[int]) -> None:
    params = PretrainedParams.model_validate(given)
    assert [params.learning_stages(epoch, stages=5) for epoch in range(1, 7)] == expected


@pytest.mark.parametrize(
    ("pretrained", "small_epochs", "cheap"),
    [
        ({}, 0, 0),
        ({}, 4, 4),
        ({"freeze_epochs": 2}, 0, 2),
        ({"freeze_epochs": 2}, 4, 4),
        ({"freeze_epochs": 6}, 0, 0),  # at rest to the end: all epochs are alike
        ({"freeze_epochs": 9}, 3, 3),
        ({"freeze_epochs": 1, "unfreeze_stages": 3, "unfreeze_every": 2}, 0, 5),  # 0, 1, 1, 2, 2, 3 stages
    ],
)
def test_the_first_epochs_are_cheap_while_images_are_small_or_stages_rest(
    pretrained: dict[str, int], small_epochs: int, cheap: int
) -> None:
    params = CandidateParams(
        input={"size": 32},
        model={"architecture": "efficientnet_lite_unet", "pretrained": pretrained},
        recipe={"epochs": 6, "small_epochs": small_epochs},
    )
    assert params.cheap_epochs == cheap


def test_gradual_unfreezing_needs_a_frozen_beginning() -> None:
    with pytest.raises(ValueError, match="unfreeze_every needs freeze_epochs"):
        PretrainedParams(unfreeze_every=1)


@pytest.mark.parametrize(
    ("architecture", "stages"),
    [("atrous_resnet50_unet", 5), ("vgg16_unet", 5), ("efficientnet_unet", 8), ("efficientnet_lite_unet", 8)],
)
def test_frozen_stages_neither_learn_nor_keep_count(architecture: str, stages: int) -> None:
    width = {} if architecture.startswith("efficientnet") else {"width": 4}
    model = model_params(architecture, **width, pretrained={"freeze_epochs": 1, "unfreeze_stages": 2})
    network = build(model, channels=3, classes=2)
    backbone = network.backbone()
    assert backbone is not None
    parts = backbone.stages()
    assert len(parts) == stages
    for epoch, learning in ((1, []), (2, parts[-2:])):
        network.train()
        freeze(model, network, epoch, spare_work=True)
        learns = {id(parameter) for part in learning for parameter in part.parameters()}
        for parameter in backbone.parameters():
            assert parameter.requires_grad == (id(parameter) in learns)
        assert network.output.weight.requires_grad
        training = {id(module) for part in learning for module in part.modules()}
        leaves = [module for module in backbone.modules() if not list(module.children())]
        assert all(module.training == (id(module) in training) for module in leaves)
        assert len(frozen_stages(model, network, epoch)) == stages - len(learning)


FROZEN = {"freeze_epochs": 2, "unfreeze_stages": 2, "unfreeze_every": 1}
RECIPES: dict[str, CandidateParams] = {
    "frozen-then-thawed": candidate(
        {**VGG, "pretrained": FROZEN}, epochs=5, ema_decay=0.8, keep="last", optimizer="adamw", weight_decay=0.1
    ),
    "deep-supervision": candidate(
        {"architecture": "unet_plus_plus", "base_filters": 2, "depth": 2},
        epochs=4,
        size=34,
        schedule={"name": "cosine"},
    ),
    "stochastic-depth": candidate(
        {"architecture": "efficientnet_unet", "decoder_filters": [2] * 5, "stochastic_depth": 0.5},
        epochs=2,
        batch_size=10,
        precise_bn_images=None,
    ),
}


@pytest.mark.parametrize("params", RECIPES.values(), ids=RECIPES)
def test_a_resumed_training_is_equal(params: CandidateParams, tmp_path: Path) -> None:
    whole = run(params, tmp_path, "whole")
    for epoch in (2, 3)[: params.recipe.epochs - 1]:
        with pytest.raises(KeyboardInterrupt):
            interrupted(params, tmp_path, "cut", cut_off_in=epoch)
    resumed = run(params, tmp_path, "cut")
    assert same(whole.weights, resumed.weights)
    assert whole.history == resumed.history


@pytest.mark.parametrize("ema_decay", [None, 0.8])
def test_a_frozen_encoder_stays_as_it_was_and_a_thawed_part_moves(tmp_path: Path, ema_decay: float | None) -> None:
    def trained(epochs: int, name: str) -> dict[str, Tensor]:
        model = {**VGG, "pretrained": {"freeze_epochs": 2, "unfreeze_stages": 1}}
        recipe: dict[str, Any] = {
            "keep": "last",
            "ema_decay": ema_decay,
            "weight_decay": 0.5,
            "schedule": {"name": "constant"},
        }
        return run(candidate(model, epochs=epochs, **recipe), tmp_path, name).weights

    first, second, third = (trained(epochs, f"epochs{epochs}") for epochs in (1, 2, 3))
    encoder = [name for name in first if name.startswith("encoder.")]
    assert all(torch.equal(first[name], second[name]) for name in encoder)
    moved = {name for name in encoder if not torch.equal(second[name], third[name])}
    last = {name for name in encoder if int(name.split(".")[2]) >= 34}  # features.34, .35, ...: the fifth stage
    assert moved
    assert moved <= last
    assert {name for name in last if name.endswith(("weight", "running_mean"))} <= moved
    assert not torch.equal(first["output.weight"], second["output.weight"])


# --------------------------------------------------------------------------------------------------- deep supervision


def test_losses_are_weighed_by_halves_that_sum_to_one() -> None:
    assert supervised([torch.tensor(5.0)]).item() == 5
    losses = [torch.tensor([value, 10 * value]) for value in (7.0, 14.0, 28.0)]
    assert supervised(losses).tolist() == pytest.approx([12, 120])  # (4 x 7 + 2 x 14 + 28) / 7


def test_given_weights_of_losses_sum_to_one() -> None:
    losses = [torch.tensor([value, 10 * value]) for value in (6.0, 9.0, 30.0)]
    assert supervised(losses, (3, 1, 0)).tolist() == pytest.approx([6.75, 67.5])  # (3 x 6 + 9) / 4


@pytest.mark.parametrize(
    ("model", "weights", "expected"),
    [
        (SUPERVISED, [1, 1, 1], "deep_supervision_weights lists 3, the network has 2 outputs while training; list as"),
        (RESUNET, [1, 1], "deep_supervision_weights lists 2, the network has 1 output while training; list as many"),
    ],
)
def test_as_many_weights_as_outputs_are_asked_for(
    model: dict[str, Any], weights: list[float], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=expected):
        run(candidate(model, size=34, deep_supervision_weights=weights), tmp_path)


def test_the_output_that_predicts_must_be_supervised() -> None:
    with pytest.raises(ValueError, match="starts with 0, but its first output predicts"):
        candidate(deep_supervision_weights=[0, 1])


def test_weights_of_deep_supervision_decide_what_learns(tmp_path: Path) -> None:
    def trained(name: str, weights: list[float] | None) -> dict[str, Tensor]:
        recipe: dict[str, Any] = {"epochs": 1, "weight_decay": 0.0, "deep_supervision_weights": weights}
        return run(candidate(SUPERVISED, size=34, **recipe), tmp_path, name).weights

    halves, given, single = trained("null", None), trained("halves", [1, 0.5]), trained("single", [1, 0])
    assert same(halves, given)
    assert not torch.equal(halves["output.weight"], single["output.weight"])
    assert single["auxiliary.0.bias"].tolist() == pytest.approx([-1.8])  # recipe.output_bias, where it began


@pytest.mark.parametrize("architecture", ["attention_unet", "unet_plus_plus"])
def test_auxiliary_heads_learn_where_they_are_asked_for(architecture: str, tmp_path: Path) -> None:
    model = {"architecture": architecture, "base_filters": 2, "depth": 2}
    weights = [
        run(candidate(model, epochs=epochs, size=34, keep="last"), tmp_path, f"{epochs}").weights for epochs in (1, 2)
    ]
    assert not torch.equal(*(one["auxiliary.0.weight"] for one in weights))
    alone = run(candidate({**model, "deep_supervision": False}, epochs=1, size=34), tmp_path, "alone").weights
    assert set(weights[0]) - set(alone) == {"auxiliary.0.weight", "auxiliary.0.bias"}
