"""Counts what a candidate computes for an image, from its model.json alone.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from pydantic import ValidationError
from torch import Tensor

from segops.contracts.model import TrainedModel, TrainedWeights
from segops.errors import UserError
from segops.inference.tta import views
from segops.inference.windows import blend_windows
from segops.models.catalogue import build_network
from segops.models.flops import gflops
from segops.params.candidate import CandidateParams
from segops.params.explain import explain


def image_gflops(model: TrainedWeights) -> float:
    """Count the GFLOPs of an image of the training images' median size: all networks and folds, over windows and views.

    Convolutions and matrix products of networks count, a multiplication and its addition two; resizing doesn't.

    Raises: UserError where the model's params aren't this version's.
    """
    try:
        params = CandidateParams.model_validate(model.params)
    except ValidationError as error:
        problems = explain(error, CandidateParams)
        raise UserError(f"{TrainedModel.FILE} of '{model.candidate}': params: {problems}; train it again") from None
    total = 0.0
    for member in params.networks:
        channels = member.input.channels
        with torch.device("meta"):
            network = build_network(member, len(model.classes))
        sizes_hw = _windows(model, member) if member.input.resize == "none" else [member.input.size]
        total += len(sizes_hw) * gflops(network, channels, sizes_hw[0])
    folds = len(model.folds) if model.ensemble else 1
    return round(total * folds * len(views(params.inference.tta)), 6)


def _windows(model: TrainedWeights, params: CandidateParams) -> list[tuple[int, int]]:
    """Return height and width of the windows that such an image is cut into; all are equal."""
    sizes_hw: list[tuple[int, int]] = []

    def note(window_BCHW: Tensor) -> Tensor:
        sizes_hw.extend([(window_BCHW.shape[2], window_BCHW.shape[3])] * len(window_BCHW))
        return window_BCHW

    image_BCHW = torch.zeros(1, 1, model.train_height_px[0], model.train_width_px[0])
    blend_windows(image_BCHW, params.input.size, params.input.window_overlap, note)
    return sizes_hw
