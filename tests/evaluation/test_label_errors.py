"""Confident learning on masks, with answers by hand."""

from __future__ import annotations

import numpy as np
import pytest

from segops.contracts.masks import IGNORED
from segops.evaluation.label_errors import (
    ClassThresholds,
    all_classes,
    confident_class,
    confident_joint,
    image_score,
    suspect_regions,
)

THRESHOLDS = np.array([0.9, 0.8])


def square(top: int, left: int, side: int, size: tuple[int, int] = (32, 40)) -> np.ndarray:
    mask_HW = np.zeros(size, np.uint8)
    mask_HW[top : top + side, left : left + side] = 1
    return mask_HW


def sure(mask_HW: np.ndarray, how: float = 0.95) -> np.ndarray:
    """Probabilities KHW of background and foreground that see a mask."""
    return all_classes(np.where(mask_HW > 0, how, 1 - how)[None].astype(np.float32))


def test_a_threshold_is_the_mean_probability_of_a_class_where_it_is_labelled() -> None:
    gathered = ClassThresholds(3)
    label_HW = np.array([[0, 0, 1, IGNORED]], np.uint8)
    foreground_HW = np.array([[0.1, 0.3, 0.6, 1.0]])
    probability_KHW = np.stack([1 - foreground_HW, foreground_HW, 0 * foreground_HW])
    gathered.add(probability_KHW, label_HW)
    assert gathered.values.tolist() == pytest.approx([0.8, 0.6, np.inf])


def test_the_likeliest_class_that_reaches_its_own_threshold_is_confident() -> None:
    foreground_HW = np.array([[0.05, 0.5, 0.85, 0.81]])
    probability_KHW = all_classes(foreground_HW[None])
    assert confident_class(probability_KHW, THRESHOLDS).tolist() == [[0, -1, 1, 1]]
    # Both reach theirs: the likelier wins.
    assert confident_class(probability_KHW, np.array([0.1, 0.4])).tolist() == [[0, 0, 1, 1]]


def test_the_joint_counts_pixels_by_label_and_confident_class() -> None:
    label_HW = np.array([[0, 0, 1, 1, IGNORED]], np.uint8)
    confident_HW = np.array([[0, 1, 1, -1, 1]], np.int16)
    assert confident_joint(label_HW, confident_HW, 2).tolist() == [[1, 1], [0, 1]]


def test_an_object_that_the_label_lacks_is_a_region_with_its_place_and_weight() -> None:
    label_HW, seen_HW = square(0, 0, 0), square(6, 8, 9)
    probability_KHW = sure(seen_HW)
    confident_HW = confident_class(probability_KHW, THRESHOLDS)
    [region] = suspect_regions(label_HW, probability_KHW, confident_HW, 2)
    # A disc of radius 2 leaves out the square's 4 x 3 outermost pixels of its corners.
    assert (region.given, region.suggested) == (0, 1)
    assert 81 - 12 <= region.area_px < 81
    assert region.weight_px == pytest.approx(0.9 * region.area_px, abs=0.01)
    assert region.box == (5.5, 7.5, 14.5, 16.5)
    assert image_score(label_HW, confident_HW, [region]) == pytest.approx(region.weight_px / 81, abs=1e-6)


def test_borders_that_lie_beside_by_less_than_the_tolerance_are_no_suspects() -> None:
    label_HW, seen_HW = square(6, 8, 12), square(6, 12, 12)  # 4 px to the right
    probability_KHW = sure(seen_HW)
    confident_HW = confident_class(probability_KHW, THRESHOLDS)
    assert suspect_regions(label_HW, probability_KHW, confident_HW, 2) == []
    shifted = suspect_regions(label_HW, probability_KHW, confident_HW, 1)
    assert sorted((region.given, region.suggested) for region in shifted) == [(0, 1), (1, 0)]
    assert image_score(label_HW, confident_HW, []) == 0


def test_an_object_cut_by_the_border_is_not_taken_for_thin() -> None:
    label_HW, seen_HW = square(0, 0, 0), np.zeros((32, 40), np.uint8)
    seen_HW[0:3, 10:30] = 1
    probability_KHW = sure(seen_HW)
    [region] = suspect_regions(label_HW, probability_KHW, confident_class(probability_KHW, THRESHOLDS), 2)
    assert region.box[0] == -0.5


def test_what_is_unsure_or_ignored_is_no_suspect() -> None:
    label_HW = np.full((32, 40), IGNORED, np.uint8)
    probability_KHW = sure(square(6, 8, 9))
    confident_HW = confident_class(probability_KHW, THRESHOLDS)
    assert suspect_regions(label_HW, probability_KHW, confident_HW, 2) == []
    assert image_score(label_HW, confident_HW, []) == 0
    unsure_KHW = sure(square(6, 8, 9), 0.7)
    assert suspect_regions(square(0, 0, 0), unsure_KHW, confident_class(unsure_KHW, THRESHOLDS), 2) == []
