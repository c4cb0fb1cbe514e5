"""Counts what a candidate computes for an image, from its model.json alone.

Axes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import torch
from pydantic import ValidationError
from torch import Tensor

from segops.contracts.model import TrainedModel, TrainedWeights
from segops.data.resampling import Resampling
from segops.errors import UserError
from segops.inference.tta import views
from segops.inference.volume_windows import blended
from segops.models.catalogue import build_network
from segops.models.flops import gflops
from segops.params.candidate import CandidateParams
from segops.params.explain import explain
from segops.params.input import InputParams


def image_gflops(model: TrainedWeights) -> float | None:
    """Count the GFLOPs of an image of the training images' median size: all networks and folds, over windows and views.

    Convolutions and matrix products of networks count, a multiplication and its addition two; resizing doesn't.

    None for an external program, which can't be counted.

    Raises: UserError where the model's params aren't this version's.
    """
    try:
        params = CandidateParams.model_validate(model.params)
    except ValidationError as error:
        problems = explain(error, CandidateParams)
        raise UserError(f"{TrainedModel.FILE} of '{model.candidate}': params: {problems}; train it again") from None
    if params.external:
        return None
    total = 0.0
    for member in params.networks:
        channels = member.input.channels
        with torch.device("meta"):
            network = build_network(member, len(model.classes))
        slices = model.train_px[member.input.slices.array_axis][0] if member.input.slices else 1
        sizes = _windows(model, member) if member.input.resize == "none" else [member.input.size]
        total += slices * len(sizes) * gflops(network, channels, sizes[0])
    folds = len(model.folds) if model.ensemble else 1
    return round(total * folds * len(views(params.inference.tta, len(params.input.size))), 6)


def _windows(model: TrainedWeights, params: CandidateParams) -> list[tuple[int, ...]]:
    """Return the sizes of the windows that such an image is cut into; all are equal."""
    sizes: list[tuple[int, ...]] = []

    def note(window_BCHW: Tensor) -> Tensor:
        sizes.extend([tuple(window_BCHW.shape[2:])] * len(window_BCHW))
        return window_BCHW

    image_BCHW = torch.zeros(1, 1, *_seen_size(model, params.input))
    blended(image_BCHW, params.inference.window or params.input.size, params.input.window_overlap, note)
    return sizes


def _seen_size(model: TrainedWeights, input_params: InputParams) -> tuple[int, ...]:
    """Return the median size of training images as a network sees them: slices of volumes, volumes at its spacing."""
    native = tuple(median for median, _ in model.train_px)
    if input_params.slices is not None:
        return tuple(side for axis, side in enumerate(native) if axis != input_params.slices.array_axis)
    if input_params.spacing_mm is None or model.train_spacing_mm is None:
        return native
    return Resampling.between(native, model.train_spacing_mm, input_params.spacing_mm).target_DHW
