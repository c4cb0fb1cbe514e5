"""Runs a candidate's input steps, the same in training, evaluation, prediction and the exported program.

Axes: B batch, C channels, H height, W width; volumes have a depth D before H.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from segops.contracts.model import InputStatistics
from segops.inference import enhance
from segops.inference.preprocess import normalize
from segops.inference.rows import Rows
from segops.inference.speckle import despeckle, despeckled_rows
from segops.params.input import InputParams

_SMALLEST_STD = 1e-6


class InputSteps(nn.Module):
    """The steps that `input.clip`, `despeckle`, `denoise_sigma_px`, `clahe` and `normalize` ask for.

    Args:
        input_params: the candidate's input.
        statistics: of its training images, where `needs_statistics` says so. They are no part of the state dict.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, input_params: InputParams, statistics: InputStatistics | None) -> None:
        super().__init__()
        self.input_params = input_params
        steps = (input_params.clip, input_params.despeckle, input_params.denoise_sigma_px, input_params.clahe)
        self.enhances = any(steps)
        low, high = _bounds(input_params, statistics)
        self._hold("low", low)
        self._hold("high", high)
        if input_params.normalize == "zscore_dataset":
            assert statistics is not None, "zscore_dataset needs the training images' statistics"
            self._hold("mean", statistics.mean)
            self._hold("std", statistics.std)

    def _hold(self, name: str, values: tuple[float, ...]) -> None:
        """Hold values by channel as a buffer that moves with the module but isn't saved."""
        shape = (1, -1, 1, 1, 1) if self.input_params.of_volumes else (-1, 1, 1)
        self.register_buffer(name, torch.tensor(values).view(shape), persistent=False)

    def enhance(self, image_BCHW: Tensor) -> Tensor:
        """Clip, filter and equalize whole native images with the candidate's channels; return them in [0, 1]."""
        clip, clahe = self.input_params.clip, self.input_params.clahe
        if clip is not None and (clip.window or clip.over == "foreground"):
            image_BCHW = enhance.clip_to_unit(image_BCHW, self.low, self.high)
        elif clip is not None:
            assert clip.percentiles is not None, "params refuse a clip without both"
            ends_BC11 = enhance.percentiles(image_BCHW, clip.percentiles)
            ends = [end[..., None] for end in ends_BC11] if self.input_params.of_volumes else ends_BC11
            image_BCHW = enhance.clip_to_unit(image_BCHW, *ends)
        if self.input_params.despeckle is not None:
            image_BCHW = despeckle(image_BCHW, self.input_params.despeckle)
        if self.input_params.denoise_sigma_px:
            image_BCHW = enhance.denoise(image_BCHW, self.input_params.denoise_sigma_px)
        return enhance.clahe(image_BCHW, clahe.clip_limit, clahe.tiles) if clahe else image_BCHW

    def by_rows(self, image: Rows) -> Rows:
        """Do what `enhance` does with an image that is read by rows.

        Percentiles and CLAHE look at the whole image first, in passes of their own; percentiles are the same values. A
        speckle filter that estimates its strength holds the whole image.
        """
        clip, clahe = self.input_params.clip, self.input_params.clahe
        if clip is not None:
            low, high = (self.low, self.high)
            if clip.percentiles is not None and clip.over == "image":
                low, high = enhance.percentiles_by_rows(image, clip.percentiles)
            image = image.changed(partial(enhance.clip_to_unit, low=low, high=high))
        if self.input_params.despeckle is not None:
            image = despeckled_rows(image, self.input_params.despeckle)
        if self.input_params.denoise_sigma_px:
            image = enhance.denoised_rows(image, self.input_params.denoise_sigma_px)
        return enhance.clahe_by_rows(image, clahe.clip_limit, clahe.tiles) if clahe else image

    def normalize(self, image_BCHW: Tensor) -> Tensor:
        """Normalize images in [0, 1] at the network's size to the values that it sees."""
        if self.input_params.normalize != "zscore_dataset":
            return normalize(image_BCHW, self.input_params.normalize)
        return (image_BCHW - self.mean) / self.std.clamp_min(_SMALLEST_STD)


def needs_statistics(input_params: InputParams) -> bool:
    """Return whether a step depends on the training images."""
    return input_params.normalize == "zscore_dataset" or (
        input_params.clip is not None and input_params.clip.over == "foreground"
    )


def _bounds(
    input_params: InputParams, statistics: InputStatistics | None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return low and high by channel of a clip that doesn't look at the image itself; empty where there is none."""
    if input_params.clip is None:
        return (), ()
    if input_params.clip.window:
        return input_params.clip.window[:1], input_params.clip.window[1:]
    if input_params.clip.over == "image":
        return (), ()
    assert statistics is not None, "clip over foreground needs the training images' statistics"
    return statistics.low, statistics.high
