"""What a first run on a GPU must show, in one command and ten minutes: a table, and exit 1 where a goal is missed.

    python -m benchmarks.gpu_check [--share 1.0] [--device cuda]

Without a GPU it ends in a line. `--device cpu --share 0.01` runs the same steps at tiny sizes, to try the command.
Steps: the tests marked `gpu`; a training step of three candidates by batch against plain torch and the memory's
roofline; agreement with the CPU; two trainings on one card; MONAI's CacheDataset, SMP's U-Net, nnU-Net's benchmark
trainer and TensorRT, each where its package is there. One that fails doesn't stop the others.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

CANDIDATES: dict[str, dict[str, Any]] = {
    "resunet": {"architecture": "resunet"},
    "unet": {"architecture": "unet", "base_filters": 32, "batch_norm": True},
    "attention_unet": {"architecture": "attention_unet"},
}
BATCHES = (8, 32, 128, 256)
STEPS = 20
SPEED_GOAL = 2.0  # times plain eager fp32, at the best batch
AGREEMENT = 2e-3  # largest difference of a probability from the CPU's, in TF32 or bf16
SIDE_BY_SIDE = 1.0  # images a second of two trainings on a card, against one
LIMIT_S = 600


@dataclass(frozen=True)
class Goal:
    """A figure beside its goal; `goal` None: there is none, `value` None: it couldn't be had, for a reason.

    Attributes:
        least: whether the goal is the least value that will do, or the most.
    """

    name: str
    value: float | None
    goal: float | None = None
    least: bool = True
    note: str = ""

    @property
    def verdict(self) -> str:
        """`ok`, `MISSED`, `skipped`, or nothing where there is no goal."""
        if self.value is None:
            return "skipped"
        if self.goal is None:
            return ""
        return "ok" if (self.value >= self.goal if self.least else self.value <= self.goal) else "MISSED"


def main() -> None:
    """Run all steps and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--share", type=float, default=1.0, help="of sizes, steps and batches")
    arguments = parser.parse_args()
    import torch

    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("gpu-check: torch sees no CUDA device; run it where there is one (--device cpu tries the command itself)")
        return
    goals = check(torch.device(arguments.device), arguments.share)
    print(table(goals))
    missed = [goal.name for goal in goals if goal.verdict == "MISSED"]
    if missed:
        sys.exit(f"gpu-check: {len(missed)} goals missed: {', '.join(missed)}")


def check(device: torch.device, share: float) -> list[Goal]:
    """Run the steps while there is time, each by itself."""
    goals: list[Goal] = []
    began = time.perf_counter()
    steps: list[tuple[str, Callable[[torch.device, float], list[Goal]]]] = [
        ("agreement with the CPU", agreement),
        ("tests marked gpu", gpu_tests),
        ("training steps", training_steps),
        ("two trainings on a card", two_trainings),
        ("MONAI's CacheDataset", cache_dataset),
        ("SMP's Unet", smp_unet),
        ("nnU-Net's trainer", nnunet),
        ("TensorRT", tensorrt),
    ]
    for name, step in steps:
        if time.perf_counter() - began > LIMIT_S:
            goals.append(Goal(name, None, note="no time left"))
            continue
        try:
            goals += step(device, share)
        except Exception as error:  # one step's fault is a row of the table, and a goal missed
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:100]
            goals.append(Goal(name, 0.0, goal=1.0, note=reason))
    return goals


def table(goals: list[Goal]) -> str:
    """Lay the goals out as a table."""
    lines = [f"{'':<44} {'value':>10} {'goal':>12}  verdict"]
    for goal in goals:
        value = "" if goal.value is None else f"{goal.value:.4g}"
        wanted = "" if goal.goal is None else f"{'>=' if goal.least else '<='} {goal.goal:g}"
        lines.append(f"{goal.name:<44} {value:>10} {wanted:>12}  {goal.verdict} {goal.note}".rstrip())
    return "\n".join(lines)


def gpu_tests(device: torch.device, _: float) -> list[Goal]:
    """Run the tests that need a GPU."""
    if device.type != "cuda":
        return [Goal("tests marked gpu", None, note="no GPU")]
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "gpu", "tests"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    return [Goal("tests marked gpu", float(ended.returncode == 0), goal=1, note=ended.stdout.strip().splitlines()[-1])]


def agreement(device: torch.device, share: float) -> list[Goal]:
    """Compare a program's probabilities on the device with the CPU's, whole and in windows."""
    import torch

    from segops.inference.trained import build_program
    from segops.params.candidate import CandidateParams

    goals, size = [], scaled(256, share, 32)
    for resize in ("stretch", "none"):
        given = {"model": {"architecture": "resunet"}, "input": {"size": size, "resize": resize}}
        torch.manual_seed(0)
        program = build_program(CandidateParams.model_validate(given), 2)
        image_BCHW = torch.rand(1, 3, 2 * size + 3, 2 * size - 5)
        with torch.inference_mode():
            expected = program(image_BCHW)
            got = program.to(device)(image_BCHW.to(device)).cpu()
        worst = float((got - expected).abs().max())
        goals.append(Goal(f"largest difference from the CPU, {resize}", worst, AGREEMENT, least=False))
    return goals


def training_steps(device: torch.device, share: float) -> list[Goal]:
    """Time the program's step of each candidate by batch, against plain eager fp32 at the same batch."""
    from benchmarks.roofline import bytes_a_second, least_bytes
    from benchmarks.steps import images_a_second, plain_images_a_second
    from segops.training.process import resolve_precision

    bandwidth = bytes_a_second(device, share)
    width = 2 if resolve_precision("auto", device) == "bf16" else 4  # bytes of a number
    goals, size, steps = [], scaled(256, share, 32), scaled(STEPS, share, 2)
    batches = BATCHES if share >= 1 else (2,)
    for name, model in CANDIDATES.items():
        best = 0.0
        for batch in batches:
            ours = images_a_second(model, device, size, batch, steps)
            plain = plain_images_a_second(model, device, size, batch, steps)
            best = max(best, ours / plain)
            reached = least_bytes(model, size, batch, width) * ours / batch / bandwidth
            note = f"{ours / plain:.2f}x plain, {reached:.0%} of the memory's roofline"
            goals.append(Goal(f"{name}, batch {batch}, images/s", ours, note=note))
        goal = SPEED_GOAL if device.type == "cuda" else None
        goals.append(Goal(f"{name}, best speed over plain", best, goal))
    return goals


def two_trainings(device: torch.device, share: float) -> list[Goal]:
    """Time two processes that train on one card at once, against one alone."""
    from benchmarks.steps import images_a_second_of_processes

    size, steps = scaled(256, share, 32), scaled(STEPS, share, 2)
    batch = 32 if share >= 1 else 2
    alone, both = (images_a_second_of_processes(count, device, size, batch, steps) for count in (1, 2))
    goal = SIDE_BY_SIDE if device.type == "cuda" else None
    return [Goal("two trainings' images/s over one's", both / alone, goal)]


def cache_dataset(device: torch.device, share: float) -> list[Goal]:
    """Time batches out of MONAI's CacheDataset, with its flips and turns, against the program's on the device."""
    if find_spec("monai") is None:
        return [Goal("MONAI's CacheDataset", None, note="pip install monai")]
    from benchmarks.steps import batches_a_second

    ours, theirs = batches_a_second(device, scaled(256, share, 32), scaled(200, share, 8))
    goal = 1.0 if device.type == "cuda" else None
    return [Goal("batches/s over MONAI's CacheDataset", ours / theirs, goal)]


def smp_unet(device: torch.device, share: float) -> list[Goal]:
    """Time the program's step against one of SMP's U-Net, which has five times the parameters of our ResUNet."""
    if find_spec("segmentation_models_pytorch") is None:
        return [Goal("SMP's Unet", None, note="pip install segmentation-models-pytorch")]
    from benchmarks.foreign_steps import smp_images_a_second
    from benchmarks.steps import images_a_second

    size, batch, steps = scaled(256, share, 32), 32 if share >= 1 else 2, scaled(STEPS, share, 2)
    ours = images_a_second(CANDIDATES["resunet"], device, size, batch, steps)
    theirs = smp_images_a_second(device, size, batch, steps)
    return [Goal(f"resunet over SMP's Unet, batch {batch}", ours / theirs, note=f"{theirs:.4g} images/s of SMP's")]


def nnunet(device: torch.device, share: float) -> list[Goal]:
    """Time our dynunet's step against an epoch of nnU-Net's benchmark trainer, at the patch and batch of its plan."""
    if find_spec("nnunetv2") is None:
        return [Goal("nnU-Net's trainer", None, note="pip install nnunetv2")]
    from benchmarks.foreign_steps import nnunet_epoch
    from benchmarks.steps import images_a_second

    with tempfile.TemporaryDirectory() as name:
        theirs = nnunet_epoch(device, scaled(512, share, 64), scaled(100, share, 2), Path(name))
    ours = images_a_second(
        {"architecture": "dynunet"}, device, max(theirs.patch), theirs.batch, scaled(STEPS, share, 2)
    )
    note = f"{theirs.images_a_second:.4g} images/s of nnU-Net's, patch {theirs.patch[0]}, batch {theirs.batch}"
    goal = 1.0 if device.type == "cuda" else None
    return [Goal("dynunet over nnU-Net's trainer", ours / theirs.images_a_second, goal, note=note)]


def tensorrt(device: torch.device, share: float) -> list[Goal]:
    """Time the network in TensorRT against torch."""
    if device.type != "cuda" or find_spec("tensorrt") is None:
        return [Goal("TensorRT over torch", None, note="needs a GPU and NVIDIA's package: pip install tensorrt")]
    from benchmarks.steps import tensorrt_over_torch

    return [Goal("TensorRT over torch", tensorrt_over_torch(scaled(256, share, 32)), 1.0)]


def scaled(value: int, share: float, least: int) -> int:
    """Return a share of a size, a multiple of 16 from 32 on, at least `least`."""
    small = max(least, int(value * share))
    return small // 16 * 16 if small >= 32 else small


if __name__ == "__main__":
    main()
