"""Measures the time that an image takes. A time belongs in no deterministic file.

Axes: H height, W width, C channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from segops.contracts.model import TrainedModel
from segops.inference.predict import Predictor
from segops.inference.timing import median_milliseconds


class Cost(NamedTuple):
    """The time from an image in memory to probabilities of its size, and where it was measured.

    The image is noise of the median size (and spacing) of the training images, which all candidates of a dataset share:
    what a candidate saves by a smaller input, or spends on windows, views and members, is in the figures.

    Attributes:
        milliseconds_an_image: median of up to 15 runs on a single image, the first not counted.
        device: such as `cpu` or a GPU's name.
    """

    milliseconds_an_image: float
    height_px: int
    width_px: int
    device: str
    threads: int
    depth_px: int = 1

    @property
    def where(self) -> str:
        """The conditions of the measurement, in words: size, device, threads."""
        threads = f", {self.threads} thread{'s' if self.threads > 1 else ''}" if self.device == "cpu" else ""
        depth = f"{self.depth_px}x" if self.depth_px > 1 else ""
        return f"{depth}{self.height_px}x{self.width_px} px on {self.device}{threads}"


def measure_cost(predictor: Predictor) -> Cost:
    """Time a predictor on an image here and now, with the threads and on the device that the process has."""
    image_HWC = _image(predictor.model, predictor.program.channels)
    # The result is in the CPU's memory: nothing on a GPU is left to wait for.
    spacing_mm = predictor.model.train_spacing_mm
    milliseconds = median_milliseconds(lambda: predictor.probability(image_HWC, spacing_mm))
    cuda = predictor.device.type == "cuda"
    return Cost(
        milliseconds_an_image=round(milliseconds, 3),
        height_px=int(image_HWC.shape[-3]),
        width_px=int(image_HWC.shape[-2]),
        depth_px=int(image_HWC.shape[0]) if image_HWC.ndim == 4 else 1,
        device=torch.cuda.get_device_name(predictor.device) if cuda else predictor.device.type,
        threads=torch.get_num_threads(),
    )


def _image(model: TrainedModel, channels: int) -> npt.NDArray[Any]:
    """Make noise HWC or DHWC of the training images' median size, of the first type that the model takes."""
    dtype, full_scale = next(iter(model.full_scale.items()))
    shape = (*(median for median, _ in model.train_px), channels)
    return (np.random.default_rng(0).random(shape) * full_scale).astype(dtype)
