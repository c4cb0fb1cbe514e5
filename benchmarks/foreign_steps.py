"""Images a second of other packages' trainings, for gpu_check: a step of SMP's U-Net, an epoch of nnU-Net's trainer."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.steps import seconds

if TYPE_CHECKING:
    import torch

_VALIDATION = 5  # training steps to one of validation: nnU-Net's 250 to 50
_IMAGES = 24


class Epoch(NamedTuple):
    """How fast nnU-Net trains, and at what size."""

    images_a_second: float
    patch: tuple[int, int]
    batch: int


def smp_images_a_second(device: torch.device, size: int, batch: int, steps: int) -> float:
    """Time the steps of SMP's Unet with its default encoder by its example's loss, in bf16 on a GPU as ours."""
    import segmentation_models_pytorch as smp
    import torch

    network = smp.Unet("resnet34", encoder_weights=None, in_channels=3, classes=1).to(device)
    loss, optimizer = smp.losses.DiceLoss("binary", from_logits=True), torch.optim.Adam(network.parameters(), lr=2e-4)
    image_BCHW = torch.rand(batch, 3, size, size, device=device)
    target_B1HW = (torch.rand(batch, 1, size, size, device=device) > 0.5).float()

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits_B1HW = network(image_BCHW)
        loss(logits_B1HW.float(), target_B1HW).backward()
        optimizer.step()
        optimizer.zero_grad()

    times = [seconds(device, step) for _ in range(steps + 2)]
    return batch / statistics.median(times[2:])


def nnunet_epoch(device: torch.device, size: int, steps: int, folder: Path) -> Epoch:
    """Time nnU-Net's benchmark trainer on noise images; on a CPU, where that refuses, its usual trainer.

    Its planner chooses patch and batch. Epochs are shorter than its own, in its ratio of training to validation; the
    fastest counts, as in its benchmark, with its data loading and augmentation.
    """
    import torch

    from benchmarks.anchors.foreign import Task

    home = folder / "nnunet"
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(home / name)
    os.environ |= {"nnUNet_def_n_proc": "1", "nnUNet_compile": "f"} | (
        {"nnUNet_n_proc_DA": "1"} if device.type == "cpu" else {}
    )
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
    from nnunetv2.training.nnUNetTrainer.variants.benchmarking import nnUNetTrainerBenchmark_5epochs as benchmark

    from benchmarks.anchors.nnunet import DATASET, planned, write_raw

    draw(folder / "pixels", size)
    task = Task(folder / "pixels", folder, 0, 0, {"memory": 8.0})
    about = write_raw(task, home / "raw" / DATASET)
    plans = {**planned(task, home), "continue_training": False}
    kind = benchmark.nnUNetTrainerBenchmark_5epochs if device.type == "cuda" else nnUNetTrainer
    trainer: Any = kind(plans, "2d", 0, about, torch.device(device.type))
    trainer.num_epochs, trainer.num_iterations_per_epoch = 2, steps
    trainer.num_val_iterations_per_epoch = max(1, steps // _VALIDATION)
    trainer.run_training()
    ends, starts = (trainer.logger.get_value(f"epoch_{side}_timestamps", step=None) for side in ("end", "start"))
    fastest_s = min(end - start for end, start in zip(ends, starts, strict=True))
    plan = trainer.configuration_manager
    patch = (int(plan.patch_size[0]), int(plan.patch_size[1]))
    return Epoch(steps * int(plan.batch_size) / fastest_s, patch, int(plan.batch_size))


def draw(folder: Path, size: int) -> None:
    """Write noise images with blocks as masks, as `benchmarks.anchors` hands pixels to other packages."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(_IMAGES):
        place = folder / ("train" if number % 4 else "val")
        image_HWC = random.integers(0, 256, (size, size, 3), np.uint8)
        mask_HW = np.kron(random.integers(0, 2, (4, 4), np.uint8), np.ones((size // 4, size // 4), np.uint8))
        for kind, array in (("image", image_HWC), ("mask", mask_HW)):
            (place / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(place / kind / f"{number:02}.png")
