"""Residual blocks whose branch some images skip while training (Huang et al. 2016)."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from segops.models.blocks import ResidualBlock, linear_decay, skip_branch
from segops.models.catalogue import build
from segops.models.decoder_block import DecoderBlock
from segops.models.resnet import Bottleneck
from tests.support.model_entries import model_params

RESIDUAL: dict[str, dict[str, Any]] = {
    "resunet": {"filters": [4, 8, 8, 8]},
    "resunet_bn": {"filters": [4, 8]},
    "resunet_plus_plus": {"filters": [4, 8, 8, 8], "se_ratio": 1},
    "atrous_resnet50_unet": {"width": 4},
}


def test_a_share_of_the_images_skips_a_branch_while_training() -> None:
    torch.manual_seed(0)
    branch_BCHW = torch.ones(4000, 1, 1, 2)
    skipped = skip_branch(branch_BCHW, 0.25, training=True)
    assert skipped.unique().tolist() == pytest.approx([0, 4 / 3])
    assert torch.equal(skipped[..., 0], skipped[..., 1])  # an image as a whole
    assert skipped.mean().item() == pytest.approx(1, abs=0.03)
    before = torch.get_rng_state()
    assert skip_branch(branch_BCHW, 0.25, training=False) is branch_BCHW
    assert skip_branch(branch_BCHW, 0.0, training=True) is branch_BCHW
    assert torch.equal(torch.get_rng_state(), before)


def test_blocks_are_skipped_linearly_more_often() -> None:
    assert linear_decay(0.4, 4) == pytest.approx([0.1, 0.2, 0.3, 0.4])
    for architecture, blocks in {"resunet": 6, "resunet_bn": 2, "resunet_plus_plus": 4}.items():
        given = model_params(architecture, **RESIDUAL[architecture], stochastic_depth=0.6)
        modules = build(given, channels=3, classes=2).modules()
        shares = [module.skipped for module in modules if isinstance(module, ResidualBlock)]
        assert shares == pytest.approx([0.6 * (index + 1) / blocks for index in range(blocks)])
    encoder = build(model_params("atrous_resnet50_unet", width=4, stochastic_depth=0.8), channels=3, classes=2)
    bottlenecks = [module.skipped for module in encoder.modules() if isinstance(module, Bottleneck)]
    assert bottlenecks == pytest.approx([0.05 * (index + 1) for index in range(16)])


@pytest.mark.parametrize("architecture", RESIDUAL)
def test_stochastic_depth_changes_training_alone(architecture: str) -> None:
    plain, deep = (
        build(model_params(architecture, **RESIDUAL[architecture], stochastic_depth=share), channels=3, classes=2)
        for share in (0.0, 0.9)
    )
    assert list(plain.state_dict()) == list(deep.state_dict())
    deep.load_state_dict(plain.state_dict())
    image_BCHW = torch.rand(2, 3, plain.multiple, plain.multiple).repeat(1, 1, 2, 2)
    assert torch.equal(plain.eval()(image_BCHW), deep.eval()(image_BCHW))
    assert not torch.equal(plain.train()(image_BCHW), deep.train()(image_BCHW))
    deep(image_BCHW).sum().backward()
    assert all(parameter.grad is not None for parameter in deep.parameters())  # as several processes need it


def test_the_decoders_two_paths_skip_the_same_images() -> None:
    split = build(model_params("resunet", filters=[4, 8], stochastic_depth=0.5), channels=3, classes=2).double()
    plain = copy.deepcopy(split)
    for block in plain.modules():
        if isinstance(block, DecoderBlock):
            block.split = False
    image_BCHW, outputs = torch.rand(8, 3, 8, 8, dtype=torch.float64), []
    for network in (split, plain):
        torch.manual_seed(3)
        outputs.append(network.train()(image_BCHW))
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
