"""Says how near a training step comes to what a device's memory lets through (Williams et al. 2009, roofline).

What a step must move at least: each number that a layer gives is written and read on the way forward, and on the way
back it is read, and its gradient written and read: five times. A program that fuses layers can need less, so a share
above 1 is possible; weights and the optimizer's state are left out, since activations are far more.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from benchmarks.steps import seconds
from segops.files import MIB

if TYPE_CHECKING:
    import torch

_MOVES = 5
_COPIED_MIB = 512


def bytes_a_second(device: torch.device, share: float) -> float:
    """Time copies within the device's memory; each byte is read and written."""
    import torch

    source = torch.zeros(max(1, int(_COPIED_MIB * share)) * MIB, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    times = [seconds(device, lambda: target.copy_(source)) for _ in range(12)]
    return 2 * source.numel() / statistics.median(times[2:])


def least_bytes(model: dict[str, Any], size: int, batch: int, bytes_a_number: int) -> float:
    """Count what a step on a batch of square images moves at least."""
    import torch

    from segops.models.catalogue import build_network
    from segops.params.candidate import CandidateParams
    from segops.planning.cost import counts_of

    params = CandidateParams.model_validate({"model": model, "input": {"size": size}})
    with torch.device("meta"):
        network = build_network(params, 2)
    _, activations = counts_of(network, params.input.channels, (size, size))
    return float(_MOVES * activations * batch * bytes_a_number)
