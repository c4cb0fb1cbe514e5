"""Finds where labels disagree with predictions that are sure: confident learning, carried over to masks.

Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels", section 3: a class's
threshold is the mean probability of that class among what is labelled so (equation 2); what is labelled i and reaches
the threshold of j is counted in the confident joint at (i, j), by the likeliest of several such j (equation 1); what
lies off its diagonal is a suspect. Here a pixel is an example, and a person mends regions: a region is pixels that are
labelled i and likelier j, where no part is thinner than twice a tolerance, since borders are drawn by hand and disagree
in every image. It is a suspect if at least a tenth of its pixels lies off the diagonal; by the nature of a mean, about
half of the pixels of a right object don't reach their threshold either.

Probabilities must be of a model that hasn't seen the image. Axes: H height, W width, K classes with background.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.contracts.masks import IGNORED

CONFIDENT = 0.1  # share of a region's pixels that must lie off the diagonal

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.uint8]
Point = tuple[float, float]  # row, column


class Region(NamedTuple):
    """Holds pixels that are labelled alike and that predictions confidently call something else.

    Where the suggested class is the given one they are an object of their own, drawn with another (`joined_objects`).

    Attributes:
        weight_px: sum over its pixels of how much likelier the suggested class is than the given one: about how many
            pixels are wrong.
        outline: of it, row and column by vertex.
    """

    given: int
    suggested: int
    area_px: int
    weight_px: float
    outline: list[Point]

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Top, left, bottom and right of the outline."""
        rows, columns = zip(*self.outline, strict=True)
        return min(rows), min(columns), max(rows), max(columns)

    def words(self, classes: Sequence[str]) -> str:
        """Say what is suggested, by the classes' names."""
        given, suggested = classes[self.given], classes[self.suggested]
        return f"{given} drawn with another" if given == suggested else f"{suggested} instead of {given}"


class ClassThresholds:
    """Gathers how sure the model is of each class where it is labelled, over images."""

    def __init__(self, classes: int) -> None:
        self._sums, self._pixels = np.zeros(classes), np.zeros(classes, np.int64)

    def add(self, probability_KHW: Floats, label_HW: Mask) -> None:
        """Add an image's probabilities, of all classes, and its label."""
        for index in range(len(self._sums)):
            there_HW = label_HW == index
            self._sums[index] += float(probability_KHW[index][there_HW].sum(dtype=np.float64))
            self._pixels[index] += int(there_HW.sum())

    @property
    def values(self) -> npt.NDArray[np.float64]:
        """The thresholds by class; infinite for a class that nothing is labelled as."""
        means = self._sums / np.maximum(self._pixels, 1)
        return np.where(self._pixels > 0, means, np.inf)


def all_classes(probability_KHW: Floats) -> Floats:
    """Return the probabilities of all classes, of two those of background and foreground."""
    return probability_KHW if len(probability_KHW) > 1 else np.concatenate([1 - probability_KHW, probability_KHW])


def confident_class(probability_KHW: Floats, thresholds: npt.NDArray[np.float64]) -> npt.NDArray[np.int16]:
    """Return the likeliest class HW among those that reach their thresholds; -1 where none does."""
    reached_KHW = np.where(probability_KHW >= thresholds[:, None, None], probability_KHW, -1.0)
    best_HW = reached_KHW.argmax(axis=0).astype(np.int16)
    return np.where(reached_KHW.max(axis=0) < 0, np.int16(-1), best_HW)


def confident_joint(label_HW: Mask, confident_HW: npt.NDArray[np.int16], classes: int) -> npt.NDArray[np.int64]:
    """Count an image's pixels by label (rows) and confident class (columns)."""
    counted_HW = (label_HW != IGNORED) & (confident_HW >= 0)
    pairs = label_HW[counted_HW].astype(np.int64) * classes + confident_HW[counted_HW]
    return np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def suspect_regions(
    label_HW: Mask, probability_KHW: Floats, confident_HW: npt.NDArray[np.int16], tolerance_px: int
) -> list[Region]:
    """List the regions that are confidently something else than labelled, the heaviest first.

    Args:
        tolerance_px: regions in which no disc of this radius fits are left out.
    """
    from scipy.ndimage import binary_opening, label
    from skimage.morphology import disk

    likeliest_HW = probability_KHW.argmax(axis=0)
    off_HW = (label_HW != IGNORED) & (confident_HW >= 0) & (confident_HW != label_HW)
    found = []
    for given, suggested in sorted(set(zip(label_HW[off_HW].tolist(), confident_HW[off_HW].tolist(), strict=True))):
        wrong_HW = (label_HW == given) & (likeliest_HW == suggested)
        sure_HW = off_HW & (confident_HW == suggested)
        # Beyond the image's border everything counts as wrong, so that an object cut by it isn't taken for thin.
        padded = np.pad(wrong_HW, tolerance_px, mode="edge")
        inner = np.s_[tolerance_px : tolerance_px + label_HW.shape[0], tolerance_px : tolerance_px + label_HW.shape[1]]
        thick_HW = binary_opening(padded, disk(tolerance_px))[inner] & wrong_HW if tolerance_px else wrong_HW
        numbers_HW, count = label(thick_HW)
        margin_HW = probability_KHW[suggested] - probability_KHW[given]
        for number in range(1, count + 1):
            region_HW = numbers_HW == number
            if sure_HW[region_HW].mean() < CONFIDENT:
                continue
            weight = float(margin_HW[region_HW].sum(dtype=np.float64))
            found.append(Region(given, suggested, int(region_HW.sum()), round(weight, 3), outline_of(region_HW)))
    return sorted(found, key=lambda region: (-region.weight_px, region.outline))


def image_score(label_HW: Mask, confident_HW: npt.NDArray[np.int16], regions: list[Region]) -> float:
    """Return the share of an image's objects, labelled or confidently seen, that is suspect: 0 to 1."""
    objects_px = int((((label_HW > 0) & (label_HW != IGNORED)) | (confident_HW > 0)).sum())
    return round(min(1.0, sum(region.weight_px for region in regions) / objects_px), 6) if objects_px else 0.0


def outline_of(region_HW: npt.NDArray[np.bool_]) -> list[Point]:
    """Return the longest contour of a region, simplified to half a pixel, in pixel centres' coordinates."""
    from skimage.measure import approximate_polygon, find_contours

    contours = find_contours(np.pad(region_HW, 1).astype(np.uint8), 0.5)
    longest = approximate_polygon(max(contours, key=len), 0.5)[:-1] - 1
    return [(float(row), float(column)) for row, column in longest]
