"""A training step gives a GPU its work and waits for none of it, and every step has the same shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from segops.data.arrays import PreparedData
from segops.params.candidate import CandidateParams
from segops.training.batches.subsets import open_subsets
from segops.training.epoch import train_step
from segops.training.loop import start
from segops.training.process import make_fabric
from segops.training.state import seed_epoch
from tests.support.host_syncs import HostSyncs
from tests.support.tiny_prepared import write_prepared

AUGMENT = {
    "flip": True, "rot90": True, "brightness": 0.1, "contrast": 0.1, "rotate_deg": 20, "scale": 0.1, "elastic_px": 2,
    "gamma": 0.1, "noise": 0.02, "blur_px": 1, "crop": 0.2, "stain": 0.1, "salt_pepper": 0.01,
}  # fmt: skip


# Values that lie on the CPU whatever the device: what its generator has drawn for an image, and the average's counter.
ON_HOST = ("rows = amount.", "radius = int(reach_B", "state.average.update_parameters(")


def steps(folder: Path, count: int, augment: dict[str, Any] = AUGMENT, **recipe: Any) -> HostSyncs:
    """Train some steps, after one that isn't looked at: an optimizer makes its state in the first."""
    params = CandidateParams.model_validate(
        {
            "model": {"architecture": "resunet", "filters": [2, 4]},
            "input": {"size": 32, "channels": 3},
            "recipe": {"batch_size": 3, "epochs": 3, "precision": "fp32", "augment": augment, **recipe},
        }
    )
    data = PreparedData.open(write_prepared(folder / "prepared"))
    subsets = open_subsets(data, params, folder / "cache", device=torch.device("cpu"))
    task, state, network = start(make_fabric(torch.device("cpu"), 1, "fp32"), "tiny", params, subsets, classes=2)
    generator = seed_epoch(0, 1)
    train_step(task, state, network, [0, 1, 2], generator)
    syncs = HostSyncs()
    with syncs:
        for _ in range(count):
            train_step(task, state, network, [0, 1, 2], generator)
    return syncs


@pytest.mark.parametrize("recipe", [{}, {"clip_norm": 1.0, "ema_decay": 0.9}, {"optimizer": "sgd", "l2": 0.01}])
def test_a_step_waits_for_nothing(recipe: dict[str, Any], tmp_path: Path) -> None:
    seen = steps(tmp_path, 1, **recipe).seen
    assert [line for line in seen if not any(known in line for known in ON_HOST)] == []


def test_every_step_has_the_same_shapes(tmp_path: Path) -> None:
    shapes = steps(tmp_path, 4, {"brightness": 0.1, "contrast": 0.1, "rotate_deg": 20}, clip_norm=1.0).shapes
    each = len(shapes) // 4
    assert [shapes[number * each : (number + 1) * each] for number in range(4)] == [shapes[:each]] * 4


def test_the_averages_counter_stays_on_the_host() -> None:
    with torch.device("meta"):
        network = torch.nn.Conv2d(1, 1, 1)
    assert AveragedModel(network, use_buffers=True).n_averaged.device.type == "cpu"


def test_what_waits_is_seen() -> None:
    values = torch.arange(3.0)
    with HostSyncs() as syncs:
        values.sum().item()
        values[values > 1]
        values.nonzero()
    assert [line.partition(":")[0] for line in syncs.seen] == ["_local_scalar_dense", "index", "nonzero"]
