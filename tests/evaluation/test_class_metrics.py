"""Scores of several classes with answers by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from segops.contracts.per_image import per_image_columns
from segops.evaluation.confusion import class_counts, confusion
from segops.evaluation.metrics import class_mean, dice, image_dice, image_scores

CLASSES = ["background", "myelin", "axon"]


def test_confusion_has_a_row_a_class_of_the_truth() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 2, 0]], np.uint8)
    predicted = np.array([[0, 1, 1, 2], [2, 0, 2, 0]], np.uint8)
    matrix = confusion(truth, predicted, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 1, 1], [1, 0, 2]]
    tp, fp, fn = class_counts(matrix)
    assert (tp.tolist(), fp.tolist(), fn.tolist()) == ([1, 2], [1, 1], [1, 1])
    with pytest.raises(ValueError, match="differ in size"):
        confusion(truth, predicted[:1], 3)


def test_scores_of_an_image_are_means_over_foreground_classes() -> None:
    truth = np.array([[0, 0, 1, 1], [2, 2, 2, 0]], np.uint8)
    predicted = np.array([[0, 1, 1, 2], [2, 0, 2, 0]], np.uint8)
    scores = image_scores(truth, predicted, CLASSES)
    # myelin: tp 1, fp 1, fn 1; axon: tp 2, fp 1, fn 1.
    assert (scores["dice_myelin"], scores["dice_axon"]) == pytest.approx((2 / 4, 4 / 6))
    assert (scores["iou_myelin"], scores["iou_axon"]) == pytest.approx((1 / 3, 2 / 4))
    assert scores["dice"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores["iou"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    assert scores["precision"] == scores["recall"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert scores["accuracy"] == 5 / 8
    # As foreground together: 4 of 5 found, and one pixel too many.
    names = ("true_positive", "false_positive", "false_negative", "true_negative")
    assert [scores[name] for name in names] == [4, 1, 1, 2]
    assert set(scores) <= set(per_image_columns(CLASSES))


@pytest.mark.parametrize(
    ("truth", "predicted", "myelin", "axon"),
    [
        ([0, 1, 1], [0, 1, 1], 1, None),  # no axon on either side
        ([0, 0, 1], [0, 1, 0], 0, None),  # nor here, where the myelin is missed
        ([0, 0, 0], [0, 0, 0], None, None),  # nothing at all
        ([0, 1, 1], [0, 1, 2], 2 / 3, 0),  # an axon that isn't there
        ([1, 1, 2], [2, 2, 1], 0, 0),  # all wrong
        ([0, 1, 2], [0, 0, 0], 0, 0),  # nothing found
    ],
)
def test_absent_classes(truth: list[int], predicted: list[int], myelin: float | None, axon: float | None) -> None:
    scores = image_scores(np.array([truth], np.uint8), np.array([predicted], np.uint8), CLASSES)
    known = [dice for dice in (myelin, axon) if dice is not None]
    expected = [math.nan if dice is None else dice for dice in (myelin, axon)]
    assert [scores["dice_myelin"], scores["dice_axon"]] == pytest.approx(expected, nan_ok=True)
    assert scores["dice"] == pytest.approx(np.mean(known) if known else math.nan, nan_ok=True)
    assert [scores["pixels_myelin"], scores["predicted_pixels_axon"]] == [truth.count(1), predicted.count(2)]


def test_distances_are_means_over_the_classes_that_both_sides_have() -> None:
    truth, predicted = np.zeros((2, 40, 40), np.uint8)
    truth[10, 5:15] = 1
    predicted[13, 5:15] = 1
    truth[30, 5:15] = 2
    assert image_scores(truth, predicted, CLASSES)["hd95_px"] == 3.0  # no axon is predicted
    predicted[31, 5:15] = 2
    scores = image_scores(truth, predicted, CLASSES)
    assert (scores["hd95_px"], scores["assd_px"]) == (2.0, 2.0)
    assert math.isnan(image_scores(truth, np.zeros_like(truth), CLASSES)["hd95_px"])


def test_class_means_of_many_images() -> None:
    tp, fp, fn = np.array([[1, 2], [0, 3]]), np.array([[1, 1], [0, 0]]), np.array([[1, 1], [0, 3]])
    assert class_mean(dice, tp, fp, fn) == pytest.approx([(1 / 2 + 2 / 3) / 2, 2 / 3])


def test_an_images_dice_weighs_classes_alike() -> None:
    # Myelin 2/3, axon 0.
    truth, predicted = np.array([[0, 0, 1, 2]], np.uint8), np.array([[0, 1, 1, 0]], np.uint8)
    assert image_dice(truth, predicted, 3) == pytest.approx(1 / 3)
    assert image_dice(truth, truth, 3) == 1
