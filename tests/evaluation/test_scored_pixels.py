"""Pixels that belong to no known class: what is predicted there changes no score, and scores are those of the rest."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segops.contracts.masks import IGNORED
from segops.evaluation.calibration import ReliabilityTally
from segops.evaluation.confusion import confusion
from segops.evaluation.curves import PixelTally
from segops.evaluation.metrics import choose_threshold, image_dice, image_scores
from segops.evaluation.object_scores import InstanceTally
from segops.evaluation.presence import false_positive_share
from segops.evaluation.published import image_published_scores, published_truth
from segops.evaluation.scored_pixels import mostly_ignored
from segops.inference.cleaning import foreground_of, mask_of
from segops.inference.instances import components

SIZE = (12, 20)
LEFT = 13  # columns; the others are ignored
CLASSES = {2: ["background", "cell"], 3: ["background", "cell", "wall"]}


def image(seed: int, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A truth whose columns from LEFT on are ignored, and two probabilities KHW that differ there alone."""
    rng = np.random.default_rng(seed)
    truth_HW = np.kron(rng.integers(0, classes, (4, 5)), np.ones((3, 4), int)).astype(np.uint8)
    truth_HW[:, LEFT:] = IGNORED
    weights_2KHW = rng.dirichlet(np.full(classes, 0.3), (2, *SIZE)).transpose(0, 3, 1, 2).astype(np.float32)
    weights_2KHW[1, ..., :LEFT] = weights_2KHW[0, ..., :LEFT]
    first_KHW, second_KHW = weights_2KHW[:, 1:] if classes == 2 else weights_2KHW
    return truth_HW, first_KHW, second_KHW


def scores(truth_HW: np.ndarray, probability_KHW: np.ndarray, classes: int) -> dict[str, Any]:
    """All that evaluate and the choices on validation compute of an image but its objects."""
    predicted_HW = mask_of(probability_KHW, 0.5 if classes == 2 else None)
    pixels, reliability = PixelTally(), ReliabilityTally()
    pixels.add(foreground_of(probability_KHW), truth_HW)
    reliability.add(probability_KHW, truth_HW)
    return {
        **image_scores(truth_HW, predicted_HW, CLASSES[classes]),
        "confusion": confusion(truth_HW, predicted_HW, classes).tolist(),
        "image_dice": image_dice(truth_HW, predicted_HW, classes),
        "areas": (pixels.pr_auc(), pixels.roc_auc()),
        "thresholds": (pixels.best_youden(), pixels.best_f1()),
        "curves": [pixels.pr_table().to_numpy().tolist(), pixels.dice_table("val").to_numpy().tolist()],
        "chosen": choose_threshold([foreground_of(probability_KHW)], [truth_HW]),
        "ece": reliability.ece(),
        "bins": reliability.bins(),
    }


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]))
def test_no_score_sees_ignored_pixels(seed: int, classes: int) -> None:
    truth_HW, first_KHW, second_KHW = image(seed, classes)
    truth_HW[0, 0] = 1  # where the truth has no foreground there is no threshold to choose
    of_first = scores(truth_HW, first_KHW, classes)
    assert str(of_first) == str(scores(truth_HW, second_KHW, classes))
    assert str(of_first) == str(scores(truth_HW[:, :LEFT], first_KHW[..., :LEFT], classes))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 3]))
def test_objects_are_those_of_the_rest(seed: int, classes: int) -> None:
    truth_HW, probability_KHW, _ = image(seed, classes)
    predicted_HW = mask_of(probability_KHW, 0.5 if classes == 2 else None)
    predicted_HW[:, LEFT:] = 0
    objects_HW = np.zeros(SIZE, np.int32)
    for index in range(1, classes):
        own_HW = components(predicted_HW == index)
        objects_HW = np.where(own_HW > 0, own_HW + objects_HW.max(), objects_HW)
    whole = InstanceTally().add(truth_HW, predicted_HW, objects_HW, classes)
    rest = InstanceTally().add(truth_HW[:, :LEFT], predicted_HW[:, :LEFT], objects_HW[:, :LEFT], classes)
    assert str(whole) == str(rest)


@pytest.mark.parametrize(
    ("width", "inside", "matched", "counted"),
    [(8, 0, False, 1), (8, 4, False, 1), (8, 5, False, 0), (8, 8, False, 0), (8, 5, True, 1), (8, 0, True, 1)],
)
def test_a_predicted_object_that_lies_mostly_in_ignored_pixels_is_left_out_unless_it_has_a_partner(
    width: int, inside: int, matched: bool, counted: int
) -> None:
    truth_HW, predicted_HW = np.zeros((2, 10, 30), np.uint8)
    truth_HW[:, 20:] = IGNORED
    predicted_HW[2:6, 20 + inside - width : 20 + inside] = 1
    if matched:
        truth_HW[2:6, 20 + inside - width : 20] = 1  # all that is seen of it
    tally = InstanceTally()
    row = tally.add(truth_HW, predicted_HW, components(predicted_HW), 2, components(truth_HW == 1))
    assert (row["objects"], row["predicted_objects"]) == (int(matched), counted)
    assert str(row["ap50"]) == ("1.0" if matched else "0.0" if counted else "nan")
    assert tally.predicted == counted


def test_background_is_no_object_that_is_mostly_ignored() -> None:
    objects_HW = np.array([[0, 0, 5, 5, 7, 7, 7]])
    assert mostly_ignored(np.array([[IGNORED, IGNORED, IGNORED, 0, IGNORED, IGNORED, 1]]), objects_HW).tolist() == [7]


def test_an_image_that_is_ignored_as_a_whole_has_no_scores_and_shows_no_false_positives() -> None:
    nothing, some = np.full(SIZE, IGNORED, np.uint8), np.ones(SIZE, np.uint8)
    whole = image_scores(nothing, some, CLASSES[2])
    assert np.isnan([whole[name] for name in ("dice", "iou", "precision", "recall", "accuracy", "hd95_px")]).all()
    assert [whole[f"{sign}_{kind}"] for sign in ("true", "false") for kind in ("positive", "negative")] == [0] * 4
    clean = image_scores(np.zeros(SIZE, np.uint8), some, CLASSES[2])
    assert false_positive_share(pd.DataFrame([whole, clean])) == 1.0
    assert false_positive_share(pd.DataFrame([whole])) is None


def test_the_published_scores_leave_out_what_an_ignored_pixel_is_mixed_into() -> None:
    truth_HW = np.zeros((128, 128), np.uint8)
    truth_HW[:, 32:64], truth_HW[:, 96:] = 1, IGNORED
    truth_hw = published_truth(truth_HW)
    kept_hw = published_truth(truth_HW[:, :96].repeat(4, 0).repeat(4, 1))  # the size doesn't matter here
    assert set(np.unique(kept_hw)) == {0, 1}
    assert set(np.unique(truth_hw)) == {0, 1, IGNORED}
    assert (truth_hw[:, 193:] == IGNORED).all()
    assert not (truth_hw[:, :190] == IGNORED).any()
    rng = np.random.default_rng(0)
    first_hw = rng.random((256, 256), np.float32)
    second_hw = np.where(truth_hw == IGNORED, 1 - first_hw, first_hw)
    assert image_published_scores(truth_hw, first_hw) == image_published_scores(truth_hw, second_hw)
