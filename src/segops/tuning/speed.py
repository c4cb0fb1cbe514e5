"""Measures how long a network takes for an image. Axes: B batch, C channels, H height, W width."""

from __future__ import annotations

import torch
from torch import Tensor

from segops.inference.timing import median_milliseconds
from segops.models.catalogue import build_network
from segops.training.job import Job


def measure_milliseconds(job: Job, weights: dict[str, Tensor]) -> float:
    """Return the median milliseconds of the network alone for an image of the candidate's size, on the job's device."""
    input_params, classes = job.params.input, len(job.data.meta.classes)
    network = build_network(job.params, classes)
    network.load_state_dict(weights)
    network.eval().to(job.device)
    multiples = zip(input_params.size, network.multiples, strict=True)
    sides = [-(-side // multiple) * multiple for side, multiple in multiples]
    image_BCHW = torch.zeros(1, input_params.channels, *sides, device=job.device)

    def run() -> None:
        network(image_BCHW)
        if job.device.type == "cuda":
            torch.cuda.synchronize(job.device)

    with torch.inference_mode():
        return median_milliseconds(run)
