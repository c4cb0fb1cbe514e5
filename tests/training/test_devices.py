"""Several processes, several kinds of device: the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from segops.contracts.model import TrainedModel
from segops.data.arrays import PreparedData
from segops.errors import UserError
from segops.inference.device import inference_device
from segops.params.runtime import RuntimeParams
from segops.params.tracking import TrackingParams
from segops.stages.train import train
from segops.training.batches.resized import ResizedSubset, resized_subsets
from segops.training.batches.subsets import open_subsets
from segops.training.process import require_devices
from tests.support.mlflow_server import AWAY
from tests.support.tiny_prepared import ignore_pixels, write_prepared
from tests.training.test_train import UNET, candidate, run, same

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
# Sums over a batch are rounded in another order; three epochs of Adam on 10 images make no more of it than this.
TOLERANCE = 1e-4
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and torch's CUDA build")


PLAIN = UNET | {"dropout_bottleneck": 0.0}


def trained(
    tmp_path: Path, devices: int, model: dict[str, Any] = PLAIN, **recipe: Any
) -> tuple[TrainedModel, dict[str, torch.Tensor]]:
    """Train on CPU processes: no dropout and no batch norm, whose statistics processes on CPUs don't share."""
    params = candidate(model, batch_size=3, augment={"rotate_deg": 10, "contrast": 0.1}, **recipe)
    folder = tmp_path / f"model{devices}"
    made = train(
        "tiny",
        params,
        RuntimeParams(threads=1, device="cpu", devices=devices),
        TrackingParams(),
        prepared=tmp_path / "prepared",
        model=folder,
    )
    return made, load_file(folder / "weights.safetensors")


@pytest.mark.slow
def test_two_processes_train_what_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_prepared(tmp_path / "prepared")  # 10 images in batches of 3: the last one leaves a process without a share
    one, weights = trained(tmp_path, 1, ema_decay=0.5)
    two, shared = trained(tmp_path, 2, ema_decay=0.5)
    assert "unused parameters" not in capfd.readouterr().err
    assert one.key != two.key
    assert set(weights) == set(shared)
    for name, weight in weights.items():
        torch.testing.assert_close(shared[name], weight, rtol=0, atol=TOLERANCE)
    assert two.val_dice == pytest.approx(one.val_dice, abs=1e-3)


@pytest.mark.slow
def test_two_processes_agree_however_much_their_images_ignore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    ignore_pixels(write_prepared(tmp_path / "prepared"), lambda number, height: height * (number % 5) // 4)
    (_, weights), (_, shared) = (trained(tmp_path, devices) for devices in (1, 2))
    for name, weight in weights.items():
        torch.testing.assert_close(shared[name], weight, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_two_processes_share_auxiliary_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_prepared(tmp_path / "prepared")
    model = {"architecture": "unet_plus_plus", "base_filters": 2, "depth": 2}
    (_, weights), (_, shared) = (trained(tmp_path, devices, model) for devices in (1, 2))
    assert "auxiliary.0.weight" in weights
    for name, weight in weights.items():
        torch.testing.assert_close(shared[name], weight, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_frozen_stages_rest_in_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_prepared(tmp_path / "prepared")
    model = {"architecture": "vgg16_unet", "width": 2, "pretrained": {"unfreeze_stages": 1}}
    (_, weights), (_, shared) = (trained(tmp_path, devices, model) for devices in (1, 2))
    frozen = [name for name in weights if name.startswith("encoder.") and int(name.split(".")[2]) < 24]
    assert len(frozen) == 2 * 10
    assert all(torch.equal(weights[name], shared[name]) for name in frozen)


@pytest.mark.slow
def test_an_error_in_one_process_ends_all_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", AWAY)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_prepared(tmp_path / "prepared")
    with pytest.raises(UserError, match=r"^candidate tiny, epoch 1: train_loss is nan; lower recipe\.learning_rate"):
        trained(tmp_path, 2, output_bias=float("nan"))
    assert not (tmp_path / "model2").exists()


def test_more_devices_than_there_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    require_devices(CUDA, 2)
    with pytest.raises(UserError, match=r"runtime\.devices is 3, but torch sees 2 of kind cuda"):
        require_devices(CUDA, 3)
    with pytest.raises(UserError, match=r"runtime\.devices is 2, but torch sees 1 of kind mps"):
        require_devices(torch.device("mps"), 2)
    require_devices(CPU, 64)


@pytest.mark.parametrize(
    ("there", "expected"), [({"cuda", "mps"}, "cuda"), ({"mps"}, "mps"), (set(), "cpu")], ids=["all", "mps", "none"]
)
def test_auto_takes_the_fastest_kind_there_is(there: set[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert inference_device("auto").type == expected
    assert inference_device("cpu").type == "cpu"
    for kind in {"cuda", "mps"} - there:
        with pytest.raises(UserError, match=f"runtime.device is {kind}, but torch sees no such device"):
            inference_device(kind)


def test_a_resident_subset_gives_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = PreparedData.open(write_prepared(tmp_path / "prepared"))
    params = candidate().input
    mapped, resident = (resized_subsets(data, params, tmp_path / "cache")["train"] for _ in range(2))
    assert not resident.reside(CPU), "the CPU's memory holds the mapped file as it is"
    monkeypatch.setattr("segops.training.batches.resized.free_bytes", lambda device: bytes_of(resident) * 3)
    assert resident.reside(CPU)
    for expected, found in zip(mapped.batch([1, 4, 7], CPU), resident.batch([1, 4, 7], CPU), strict=True):
        assert torch.equal(expected, found)
    monkeypatch.setattr("segops.training.batches.resized.free_bytes", lambda device: bytes_of(mapped) * 2)
    assert not mapped.reside(CPU), "the network needs the rest of the memory"


def bytes_of(subset: ResizedSubset) -> int:
    return subset.images.nbytes + subset.masks.nbytes


@pytest.mark.gpu
@needs_cuda
def test_cuda_trains_and_repeats_itself(tmp_path: Path) -> None:
    params = candidate(epochs=8, ema_decay=0.5)
    one, again = (run(params, tmp_path, name, device="cuda") for name in ("one", "again"))
    assert same(one.weights, again.weights)
    assert one.history[one.best_epoch - 1]["val_dice"] > 0.8


@pytest.mark.gpu
@needs_cuda
def test_cuda_and_the_cpu_agree_after_an_epoch(tmp_path: Path) -> None:
    params = candidate(PLAIN, epochs=1, precision="fp32", augment={"rotate_deg": 10})
    on_cpu, on_cuda = (run(params, tmp_path, name, device=name) for name in ("cpu", "cuda"))
    for name, weight in on_cpu.weights.items():
        torch.testing.assert_close(on_cuda.weights[name], weight, rtol=0, atol=1e-3)


@pytest.mark.gpu
@needs_cuda
def test_a_step_on_cuda_waits_for_nothing(tmp_path: Path) -> None:
    from segops.training.epoch import train_step
    from segops.training.loop import start
    from segops.training.process import make_fabric

    params = candidate(ema_decay=0.9, augment={"rotate_deg": 10, "contrast": 0.1})
    data = PreparedData.open(write_prepared(tmp_path / "prepared"))
    fabric = make_fabric(CUDA, 1, "bf16")
    subsets = open_subsets(data, params, tmp_path / "cache", device=fabric.device)
    task, state, network = start(fabric, "tiny", params, subsets, classes=2)
    generator = torch.Generator().manual_seed(0)
    train_step(task, state, network, [0, 1, 2, 3], generator)
    torch.cuda.set_sync_debug_mode("error")
    try:
        loss = train_step(task, state, network, [4, 5, 6, 7], generator)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.isfinite(loss)
