"""Shows a heat map only where it says something: not where it is flat, nor where training didn't change it.

The model parameter randomization test of Adebayo et al. 2018, "Sanity Checks for Saliency Maps", section 3: the map of
the trained network is compared, by the rank correlation of its pixels, with that of the same network with random
weights. A map that is the same shows the image and the architecture, nothing that was learned. Axes: H height, W width.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from segops.contracts.volumes import Spacing
from segops.inference.predict import Predictor
from segops.pictures.gradcam import gradcam

ALIKE = 0.9  # a median rank correlation from which on trained and random maps count as the same
_FLAT = 0.1  # of the highest value: a map whose pixels differ by less, their outer twentieths aside, says nothing
_SIDE_PX = 64  # maps are smooth: of longer sides about as many pixels are compared
_SEED = 2018  # not that of a training

Map = npt.NDArray[np.float32]


class Explainer:
    """Makes GradCAM of images and compares each with that of random weights.

    Attributes:
        flat: how many maps were flat.
    """

    def __init__(self, predictor: Predictor) -> None:
        self._trained, self._random = predictor, with_random_weights(predictor)
        self._correlations: list[float] = []
        self.flat = 0

    def explain(self, image_HWC: npt.NDArray[Any], spacing_mm: Spacing | None = None) -> Map | None:
        """Return GradCAM HW (of a volume DHW) in [0, 1] at native size; None where it is flat."""
        trained_HW = gradcam(self._trained, image_HWC, spacing_mm)
        if is_flat(trained_HW):
            self.flat += 1
            return None
        self._correlations.append(rank_correlation(trained_HW, gradcam(self._random, image_HWC, spacing_mm)))
        return trained_HW

    @property
    def correlation(self) -> float | None:
        """The median rank correlation of trained and random maps; None before there was a map."""
        return float(np.median(self._correlations)) if self._correlations else None

    @property
    def says_something(self) -> bool:
        """Whether training changed the maps."""
        return self.correlation is not None and self.correlation < ALIKE


def with_random_weights(predictor: Predictor) -> Predictor:
    """Return a predictor whose every layer has weights as before training, always the same ones."""
    program = copy.deepcopy(predictor.program)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        for module in program.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    return type(predictor)(program, predictor.model, device=predictor.device)


def is_flat(map_HW: Map) -> bool:
    """Tell whether a map in [0, 1] differs by less than a tenth between its pixels' 5th and 95th percentile."""
    low, high = np.percentile(map_HW, [5, 95])
    return bool(high - low < _FLAT and map_HW.max() - np.median(map_HW) < _FLAT)


def rank_correlation(a_HW: Map, b_HW: Map) -> float:
    """Return Spearman's correlation of two maps' pixels, -1 to 1; 0 where either is constant."""
    from scipy.stats import spearmanr

    every = tuple(slice(None, None, max(1, side // _SIDE_PX)) for side in a_HW.shape)
    a, b = a_HW[every].ravel(), b_HW[every].ravel()
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)
