"""Measures what a candidate's input steps take from its training images; validation and test are never looked at.

Axes: H height, W width, C channels, N pixels; volumes have a depth D before H.
"""

from __future__ import annotations

import numpy as np
import torch

from segops.contracts.model import InputStatistics
from segops.data.arrays import PreparedData
from segops.data.intensities import ChannelSums, foreground_sample
from segops.errors import UserError
from segops.inference.preprocess import unit_image
from segops.inference.steps import InputSteps, needs_statistics
from segops.params.input import InputParams
from segops.progress import track

# nnU-Net (Isensee et al. 2021) clips CT to percentiles of the foreground of all training cases and normalizes by their
# mean and deviation; here the deviation is of all pixels after the clip.


def input_statistics(data: PreparedData, input_params: InputParams) -> InputStatistics | None:
    """Measure the statistics that a candidate's steps need over the rows of train in `data`; None where they need none.

    Raises: UserError where no training image has foreground to take percentiles from.
    """
    if not needs_statistics(input_params):
        return None
    statistics = InputStatistics()
    if input_params.clip is not None and input_params.clip.over == "foreground" and input_params.clip.percentiles:
        low_C, high_C = _foreground_percentiles(data, input_params.channels, input_params.clip.percentiles)
        statistics = InputStatistics(low=tuple(low_C.tolist()), high=tuple(high_C.tolist()))
    if input_params.normalize == "zscore_dataset":
        mean_C, std_C = _moments(data, input_params, statistics)
        statistics = statistics.model_copy(update={"mean": tuple(mean_C.tolist()), "std": tuple(std_C.tolist())})
    return statistics


def enhanced_image(data: PreparedData, row: int, steps: InputSteps) -> np.ndarray:
    """Return an image HWC float32 after the steps that change whole images."""
    image_HWC = data.image(row)
    image_1CHW = unit_image(image_HWC, data.full_scale(image_HWC.dtype), steps.input_params.channels)
    with torch.inference_mode():
        enhanced_HWC: np.ndarray = steps.enhance(image_1CHW)[0].movedim(0, -1).numpy()
    return enhanced_HWC


def _foreground_percentiles(data: PreparedData, channels: int, wanted: tuple[float, float]) -> np.ndarray:
    """Return the wanted percentiles by channel of foreground values of the training images."""
    samples, rows = [], data.rows("train")
    for row in track(rows, "foreground of training images"):
        image_HWC = data.image(row)
        image_1CHW = unit_image(image_HWC, data.full_scale(image_HWC.dtype), channels)
        samples.append(foreground_sample(image_1CHW[0].movedim(0, -1).numpy(), data.mask(row), row, len(rows)))
    sample_NC = np.concatenate(samples)
    if not len(sample_NC):
        raise UserError("input.clip over foreground: no training image has any; set over: image, or a window")
    bounds: np.ndarray = np.percentile(sample_NC.astype(np.float64), wanted, axis=0)
    return bounds


def _moments(data: PreparedData, input_params: InputParams, clipped: InputStatistics) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation by channel over all pixels of the training images after the other steps."""
    steps = InputSteps(input_params.model_copy(update={"normalize": "unit"}), clipped)
    sums = ChannelSums()
    for row in track(data.rows("train"), "intensities of training images"):
        sums.add(enhanced_image(data, row, steps))
    return sums.mean, sums.std
