"""Batch norm that several processes share: what a single one computes of the whole batch."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from segops.models.catalogue import build_network
from segops.training.batch_norm import SharedBatchNorm, share_batch_norm
from tests.training.test_train import RESUNET, candidate

SHARES = (slice(0, 3), slice(3, 5))  # of five images: shares of different sizes


def _batch(spatial: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    shape = (5, 3, *spatial)
    return torch.randn(shape, generator=generator) * 2 + 1, torch.randn(shape, generator=generator)


def _work(rank: int, store: str, spatial: tuple[int, ...]) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.set_num_threads(1)
    image, weight = _batch(spatial)
    own, plain = image[SHARES[rank]].requires_grad_(True), image.clone().requires_grad_(True)
    norm, reference = SharedBatchNorm(3), (nn.BatchNorm2d if len(spatial) == 2 else nn.BatchNorm3d)(3)
    normed, expected = norm(own), reference(plain)
    (normed * weight[SHARES[rank]]).sum().backward()
    (expected * weight).sum().backward()
    assert own.grad is not None
    assert plain.grad is not None
    torch.testing.assert_close(normed, expected[SHARES[rank]], rtol=0, atol=1e-5)
    torch.testing.assert_close(own.grad, plain.grad[SHARES[rank]], rtol=0, atol=1e-5)
    torch.testing.assert_close(dict(norm.named_buffers()), dict(reference.named_buffers()), rtol=0, atol=1e-6)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("spatial", [(4, 4), (2, 4, 3)])
def test_two_processes_normalize_by_the_whole_batch(spatial: tuple[int, ...], tmp_path: Path) -> None:
    spawn(_work, (str(tmp_path / "store"), spatial), nprocs=2)


def test_a_network_keeps_its_weights_and_its_function_when_it_shares() -> None:
    params = candidate(RESUNET)
    torch.manual_seed(0)
    network = build_network(params, 2).eval()
    image_BCHW = torch.rand(2, 3, 32, 32)
    before, names = network(image_BCHW), list(network.state_dict())
    share_batch_norm(network)
    assert list(network.state_dict()) == names
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    torch.testing.assert_close(network(image_BCHW), before, rtol=0, atol=1e-5)
