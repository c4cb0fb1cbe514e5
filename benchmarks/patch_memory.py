"""What a training step of patches of volumes holds in memory, beside what `segops init` estimates.

    python -m benchmarks.patch_memory

Does training steps of a `unet_3d`, as `segops init` plans it, on batches of two patches in fp32, from small patches to
large ones. Prints the estimate, and the peak of resident memory above that of a process that has only begun.
"""

from __future__ import annotations

import resource

import torch
from torch.nn import functional as F

from segops.files import MIB
from segops.models.catalogue import build_network
from segops.params.candidate import CandidateParams
from segops.planning.cost import cost_of
from segops.training.process import prepare_process

BATCH, CLASSES, STEPS = 2, 3, 2
PATCHES = ((16, 32, 32), (24, 48, 48), (32, 64, 64))
MODEL = {"architecture": "unet_3d", "base_filters": 16, "depth": 2}


def main() -> None:
    """Print a row for each patch."""
    prepare_process(1)
    began = peak_mib()
    print("| patch | estimate, MiB | peak, MiB | peak of estimate |")
    print("|---|---|---|---|")
    for size in PATCHES:
        given = {"size": size, "spacing_mm": (3.0, 1.0, 1.0), "resize": "none", "channels": 1}
        params = CandidateParams.model_validate({"model": MODEL, "input": given})
        with torch.device("meta"):
            estimate = BATCH * cost_of(build_network(params, CLASSES), 1, size)[1]
        train(params, size)
        peak = peak_mib() - began
        print(f"| {'x'.join(map(str, size))} | {estimate:.0f} | {peak:.0f} | {peak / estimate:.2f} |", flush=True)


def train(params: CandidateParams, size: tuple[int, ...]) -> None:
    """Do steps of AdamW on noise."""
    network = build_network(params, CLASSES).train().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters())
    image_BCDHW, mask_BDHW = torch.rand(BATCH, 1, *size), torch.randint(0, CLASSES, (BATCH, *size))
    for _ in range(STEPS):
        optimizer.zero_grad()
        F.cross_entropy(network(image_BCDHW), mask_BDHW).backward()
        optimizer.step()


def peak_mib() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB


if __name__ == "__main__":
    main()
