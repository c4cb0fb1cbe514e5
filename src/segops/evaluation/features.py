"""What an image and its prediction look like in a few numbers, and how those of training lie: the reference for drift.

Axes: H height, W width, C channels, K output channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from segops.contracts.model import TrainedModel
from segops.contracts.usage import Reference
from segops.data.arrays import PreparedData
from segops.inference.preprocess import unit_image

Features = dict[str, float]

_POINTS = 201  # of a feature's distribution; of fewer images every value
_MOST_PIXELS = 2**20  # of an image that are looked at, evenly taken
_RGB = ("red", "green", "blue")
_DECIMALS = 6


def image_features(image_HWC: npt.NDArray[Any], model: TrainedModel, channels: int) -> Features:
    """Measure the intensity and colour of an image as the model's input steps get it.

    Values are on a full scale of 1, or int16 and float32 images' own. A channel's colour is its mean minus the mean of
    all channels; a grey image in a model of RGB has 0 in each.

    Args:
        channels: that the model takes; grey becomes RGB, and RGB grey.
    """
    if image_HWC.ndim == 4:  # a volume's slices below one another
        image_HWC = image_HWC.reshape(-1, *image_HWC.shape[2:])
    step = int(np.ceil(np.sqrt(image_HWC.shape[0] * image_HWC.shape[1] / _MOST_PIXELS)))
    thinned_HWC = np.ascontiguousarray(image_HWC[::step, ::step])
    image_CHW = unit_image(thinned_HWC, model.full_scale[image_HWC.dtype.name], channels)[0].numpy()
    low, high = np.percentile(image_CHW, [1, 99])
    mean_C = image_CHW.mean(axis=(1, 2), dtype=np.float64)
    found = {
        "intensity_mean": mean_C.mean(),
        "intensity_std": image_CHW.std(dtype=np.float64),
        "intensity_p01": low,
        "intensity_p99": high,
    }
    if channels > 1:
        names = _RGB if channels == 3 else [str(number) for number in range(channels)]
        found |= {f"colour_{name}": mean - mean_C.mean() for name, mean in zip(names, mean_C, strict=True)}
    return _rounded(found)


def prediction_features(probability_KHW: npt.NDArray[np.float32], mask_HW: npt.NDArray[np.uint8]) -> Features:
    """Measure the mask's foreground fraction and the mean probability of each pixel's likeliest class."""
    tally = PredictionTally()
    tally.add(probability_KHW, mask_HW)
    return tally.features()


class PredictionTally:
    """Measures `prediction_features` of an image that comes in strips."""

    def __init__(self) -> None:
        self.pixels = self.foreground = 0
        self.confidence = 0.0

    def add(self, probability_KhW: npt.NDArray[np.float32], mask_hW: npt.NDArray[np.uint8]) -> None:
        """Add a strip."""
        likeliest_hW = probability_KhW.max(axis=0)
        if len(probability_KhW) == 1:
            likeliest_hW = np.maximum(likeliest_hW, 1 - likeliest_hW)
        self.pixels += mask_hW.size
        self.foreground += int(np.count_nonzero(mask_hW))
        self.confidence += float(likeliest_hW.sum(dtype=np.float64))

    def features(self) -> Features:
        """Return the features of all strips."""
        return _rounded(
            {"foreground_fraction": self.foreground / self.pixels, "confidence": self.confidence / self.pixels}
        )


def make_reference(
    model: TrainedModel, data: PreparedData, channels: int, predictions: Sequence[Mapping[str, float]]
) -> Reference:
    """Describe what the model was made for: training images, and its own predictions on unseen validation images.

    Args:
        channels: that the model takes.
        predictions: `prediction_features` of the validation images.
    """
    images = [image_features(data.image(row), model, channels) for row in data.rows("train")]
    groups = data.index.groupby("subset")["group_id"].nunique()
    return Reference(
        candidate=model.candidate,
        key=model.key,
        weights_sha256=model.weights_sha256,
        training_images=len(images),
        validation_images=len(predictions),
        training_groups=int(groups["train"]),
        validation_groups=int(groups["val"]),
        of_images=_distributions(images),
        of_predictions=_distributions(predictions),
    )


def _rounded(found: Mapping[str, Any]) -> Features:
    """Round features by one rule for the reference and for new images: equal values must stay equal."""
    return {name: round(float(value), _DECIMALS) + 0.0 for name, value in found.items()}


def _distributions(rows: Sequence[Mapping[str, float]]) -> dict[str, list[float]]:
    """Return evenly spaced quantiles of each feature over all rows."""
    shares = np.linspace(0, 1, min(len(rows), _POINTS))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    return {name: np.quantile(values, shares).round(_DECIMALS).tolist() for name, values in columns.items()}
