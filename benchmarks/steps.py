"""What gpu_check times: the program's training step, a plain one, batches, and a network in TensorRT."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from segops.training.batches.resized import ResizedSubset


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(device: torch.device, run: Callable[[], object]) -> float:
    """Time a call, with all that it gave the device."""
    _wait(device)
    began = time.perf_counter()
    run()
    _wait(device)
    return time.perf_counter() - began


def _subset(size: int, images: int, device: torch.device) -> ResizedSubset:
    """Make noise images with masks, held on the device."""
    import numpy as np

    from segops.training.batches.resized import ResizedSubset

    noise = np.random.default_rng(0).integers(0, 256, (images, size, size, 3), np.uint8)
    whole = [(slice(0, size), slice(0, size))] * images
    subset = ResizedSubset(noise, (noise[..., 0] > 128).astype(np.uint8), whole)
    subset.reside(device)
    return subset


def images_a_second(model: dict[str, Any], device: torch.device, size: int, batch: int, steps: int) -> float:
    """Time the steps that `segops train` makes, augmentation, average and clipping included."""
    from segops.inference.steps import InputSteps
    from segops.params.candidate import CandidateParams
    from segops.training.batches.subsets import Subsets
    from segops.training.epoch import train_step
    from segops.training.loop import start
    from segops.training.process import make_fabric, resolve_precision
    from segops.training.state import seed_epoch

    given = {"model": model, "input": {"size": size}, "recipe": {"batch_size": batch}}
    params, subset = CandidateParams.model_validate(given), _subset(size, batch, device)
    subsets = Subsets(
        subset, subset, batch, [str(row) for row in range(batch)], list(range(batch)), InputSteps(params.input, None)
    )
    fabric = make_fabric(device, 1, resolve_precision("auto", device))
    task, state, network = start(fabric, "check", params, subsets, classes=2)
    rows, generator = list(range(batch)), seed_epoch(0, 1)
    times = [seconds(device, lambda: train_step(task, state, network, rows, generator)) for _ in range(steps + 2)]
    return batch / statistics.median(times[2:])


def plain_images_a_second(model: dict[str, Any], device: torch.device, size: int, batch: int, steps: int) -> float:
    """Time a bare loop in eager fp32: forward, cross entropy, backward, AdamW."""
    import torch
    from torch.nn import functional as F

    from segops.models.catalogue import build_network
    from segops.params.candidate import CandidateParams

    network = build_network(CandidateParams.model_validate({"model": model, "input": {"size": size}}), 2).to(device)
    optimizer = torch.optim.AdamW(network.parameters())
    image_BCHW = torch.rand(batch, 3, size, size, device=device)
    target_B1HW = (torch.rand(batch, 1, size, size, device=device) > 0.5).float()

    def step() -> None:
        F.binary_cross_entropy_with_logits(network(image_BCHW), target_B1HW).backward()
        optimizer.step()
        optimizer.zero_grad()

    times = [seconds(device, step) for _ in range(steps + 2)]
    return batch / statistics.median(times[2:])


def images_a_second_of_processes(count: int, device: torch.device, size: int, batch: int, steps: int) -> float:
    """Add up the images a second of so many processes that train at once."""
    given = json.dumps([{"architecture": "resunet"}, size, batch, steps])
    code = (
        "import json, sys, torch; from benchmarks.steps import images_a_second; m, *sizes = json.loads(sys.argv[1]); "
        "print(images_a_second(m, torch.device(sys.argv[2]), *sizes))"
    )
    command = [sys.executable, "-c", code, given, device.type]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    ended = [process.communicate(timeout=240)[0] for process in processes]
    return sum(float(text.strip().splitlines()[-1]) for text in ended)


def batches_a_second(device: torch.device, size: int, images: int) -> tuple[float, float]:
    """Time an epoch of augmented batches of 8: ours out of the device's memory, and MONAI's out of a CacheDataset."""
    import torch
    from monai.data import CacheDataset, DataLoader
    from monai.transforms import Compose, RandFlipd, RandRotate90d, ToTensord

    from segops.params.augment import AugmentParams
    from segops.training.augmentation.augment import augment
    from segops.training.augmentation.changes import draw_changes

    subset, generator, batch = _subset(size, images, device), torch.Generator().manual_seed(0), 8

    def ours() -> None:
        for first in range(0, images, batch):
            rows = list(range(first, min(first + batch, images)))
            image_BCHW, mask_BHW = subset.batch(rows, device)
            changes = draw_changes(len(rows), (size, size), AugmentParams(), generator)
            augment(image_BCHW, mask_BHW, changes)

    keys = ("image", "mask")
    flips = [RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in (0, 1)]
    changed = Compose([ToTensord(keys), *flips, RandRotate90d(keys, prob=0.75)])
    items = [{"image": torch.rand(3, size, size), "mask": torch.zeros(1, size, size)} for _ in range(images)]
    loader = DataLoader(CacheDataset(items, changed, progress=False), batch_size=batch, num_workers=0)

    def theirs() -> None:
        for item in loader:
            for key in keys:
                item[key].to(device)

    of_each = []
    for run in (ours, theirs):
        run()
        of_each.append(-(-images // batch) / statistics.median(seconds(device, run) for _ in range(3)))
    return of_each[0], of_each[1]


def tensorrt_over_torch(size: int) -> float:
    """Time a ResUNet's network in TensorRT against torch on the same frames."""
    import torch

    from segops.export.backends import ENGINE, NETWORK, runner, write_network
    from segops.export.tensorrt_file import write_tensorrt
    from segops.inference.trained import build_program
    from segops.params.candidate import CandidateParams
    from segops.params.export import Backend

    given = {"model": {"architecture": "resunet"}, "input": {"size": size}}
    program, device = build_program(CandidateParams.model_validate(given), 2), torch.device("cuda")
    with tempfile.TemporaryDirectory() as name:
        write_network(program, Path(name))
        write_tensorrt(Path(name) / NETWORK, Path(name) / ENGINE, 3, (size, size), (size, size))
        program.to(device)
        frame = torch.rand(1, 3, size, size, device=device)
        times = []
        backends: tuple[Backend, ...] = ("torch", "tensorrt")
        for backend in backends:
            run = partial(runner(backend, program, Path(name), 1), frame)
            with torch.inference_mode():
                times.append(statistics.median([seconds(device, run) for _ in range(22)][2:]))
    return times[0] / times[1]
