"""Milliseconds an image of a ResUNet training step (16..256 filters, 256x256), against plain eager fp32.

    python -m benchmarks.train_step [--device cpu] [--threads 2] [--batch 8 ...] [--steps 4] [--rounds 3]

On a GPU: --device cuda --batch 8 32 128 256 --steps 20. Each variant runs in a process of its own, since memory
settings hold for a whole process; a round's figure is its fastest step. bf16 is left out where the device doesn't
compute it natively.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.ratios import Ratio, quotients, table

if TYPE_CHECKING:
    import torch

    from segops.models.blocks import SegmentationNetwork

SIZE_PX = 256


@dataclass(frozen=True)
class Variant:
    """One way to run the step."""

    name: str
    channels_last: bool = False
    keep_memory: bool = False
    split: bool = False
    bf16: bool = False
    program: bool = False


VARIANTS = (
    Variant("plain eager fp32"),
    Variant("fp32, channels_last, malloc", channels_last=True, keep_memory=True),
    Variant("fp32, channels_last, malloc, split decoder", channels_last=True, keep_memory=True, split=True),
    Variant("bf16, channels_last, malloc", channels_last=True, keep_memory=True, bf16=True),
    Variant("bf16, channels_last, malloc, split decoder", channels_last=True, keep_memory=True, split=True, bf16=True),
    Variant("the program: its loop, augmentation, EMA, clipping", program=True),
)


def main() -> None:
    """Run all variants and print the table."""
    arguments = parse()
    if arguments.variant is not None:
        print(json.dumps(measure(Variant(**json.loads(arguments.variant)), arguments)))
        return
    print(table(row for batch in arguments.batch for row in compare(arguments, batch)))
    if not native_bf16(arguments.device):
        print("\nprecision auto takes fp32 here, so the variants in bf16 are left out.")


def ratios(rounds: int) -> list[Ratio]:
    """Return the rows of this machine's processor."""
    return compare(parse(["--rounds", str(rounds)]), batch=8)


def compare(arguments: argparse.Namespace, batch: int) -> list[Ratio]:
    """Measure all variants at one batch size, round by round, beside the first."""
    variants = [variant for variant in VARIANTS if native_bf16(arguments.device) or not variant.bf16]
    took_ms: dict[str, list[float]] = {variant.name: [] for variant in variants}
    notes: dict[str, str] = {}
    for _ in range(arguments.rounds):
        for variant in variants:
            made = json.loads(in_own_process(variant, arguments, batch))
            took_ms[variant.name].append(made["ms"])
            notes[variant.name] = made["note"]
    where = f"{arguments.threads} threads" if arguments.device == "cpu" else arguments.device
    what, plain = f"training step, {SIZE_PX}x{SIZE_PX}, batch {batch}, {where}", VARIANTS[0].name
    base = f"{plain}, {median(took_ms[plain]):.4g} ms"
    return [
        Ratio(what, name + notes[name], f"{median(own):.4g} ms an image", base, quotients(took_ms[plain], own))
        for name, own in took_ms.items()
        if name != plain
    ]


def native_bf16(device: str) -> bool:
    """Whether precision `auto` takes bf16 there."""
    import torch

    from segops.training.process import resolve_precision

    return resolve_precision("auto", torch.device(device)) == "bf16"


def parse(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, or what is given instead."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, nargs="+", default=[8])
    for name, default in (("threads", 2), ("steps", 4), ("rounds", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--variant", help=argparse.SUPPRESS)
    return parser.parse_args(given)


def in_own_process(variant: Variant, arguments: argparse.Namespace, batch: int) -> str:
    """Measure a variant in a fresh process."""
    options = ("device", "threads", "steps")
    told = [f"--{name}={vars(arguments)[name]}" for name in options] + [f"--batch={batch}"]
    command = [sys.executable, "-m", "benchmarks.train_step", *told, "--variant", json.dumps(asdict(variant))]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()[-1]


def measure(variant: Variant, arguments: argparse.Namespace) -> dict[str, float | str]:
    """Milliseconds an image of the fastest step, after one to warm up."""
    return measure_program(arguments) if variant.program else measure_eager(variant, arguments)


def measure_eager(variant: Variant, arguments: argparse.Namespace) -> dict[str, float | str]:
    """A bare loop: forward, binary cross entropy, backward, AdamW."""
    import torch
    from torch.nn import functional as F

    from segops.models.decoder_block import DecoderBlock
    from segops.training.process import keep_freed_memory

    if variant.keep_memory:
        keep_freed_memory()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device, batch = torch.device(arguments.device), arguments.batch[0]
    network = resunet().to(device)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    network.to(memory_format=layout)  # type: ignore[call-overload]
    for module in network.modules():
        if isinstance(module, DecoderBlock):
            module.split = variant.split
    optimizer = torch.optim.AdamW(network.parameters())
    image_BCHW = torch.rand(batch, 3, SIZE_PX, SIZE_PX).contiguous(memory_format=layout).to(device)
    target_B1HW = (torch.rand(batch, 1, SIZE_PX, SIZE_PX) > 0.5).float().to(device)
    seconds = []
    for _ in range(arguments.steps + 1):
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=variant.bf16):
            logits_BKHW = network(image_BCHW)
        F.binary_cross_entropy_with_logits(logits_BKHW.float(), target_B1HW).backward()
        optimizer.step()
        optimizer.zero_grad()
        wait_for(device)
        seconds.append(time.perf_counter() - began)
    return {"ms": min(seconds[1:]) / batch * 1000, "note": ""}


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_program(arguments: argparse.Namespace) -> dict[str, float | str]:
    """The epochs that `segops train` runs, on made-up images; the mean step of the fastest one."""
    from segops.training.process import prepare_process, resolve_precision

    prepare_process(arguments.threads)
    import numpy as np
    import torch

    from segops.inference.steps import InputSteps
    from segops.params.candidate import CandidateParams
    from segops.training.batches.resized import ResizedSubset
    from segops.training.batches.subsets import Subsets
    from segops.training.epoch import train_epoch
    from segops.training.loop import start
    from segops.training.process import make_fabric

    random, batch, device = np.random.default_rng(0), arguments.batch[0], torch.device(arguments.device)
    images = random.integers(0, 256, (2 * batch, SIZE_PX, SIZE_PX, 3), np.uint8)
    whole = [(slice(0, SIZE_PX), slice(0, SIZE_PX))] * len(images)
    subset = ResizedSubset(images, (images[..., 0] > 128).astype(np.uint8), whole)
    subset.reside(device)
    params = CandidateParams.model_validate(
        {"model": {"architecture": "resunet"}, "input": {"size": SIZE_PX}, "recipe": {"batch_size": batch}}
    )
    precision = resolve_precision("auto", device)
    subsets = Subsets(
        subset,
        subset,
        batch,
        [str(at) for at in range(len(subset))],
        list(range(len(subset))),
        InputSteps(params.input, None),
    )
    task, state, network = start(make_fabric(device, 1, precision), "bench", params, subsets, classes=2)
    seconds = []
    for _ in range(max(1, arguments.steps // 2) + 1):  # of two steps each
        began = time.perf_counter()
        train_epoch(task, state, network)
        seconds.append(time.perf_counter() - began)
    return {"ms": min(seconds[1:]) / len(subset) * 1000, "note": f" ({precision})"}


def resunet() -> SegmentationNetwork:
    """The network of the published recipe."""
    from segops.models.catalogue import build
    from segops.params.model import ResUNetParams

    return build(ResUNetParams(architecture="resunet"), channels=3, classes=2)


if __name__ == "__main__":
    main()
