"""Scores with answers by hand."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from segops.evaluation import ranks
from segops.evaluation.curves import CURVE_THRESHOLDS, PixelTally
from segops.evaluation.metrics import (
    THRESHOLDS,
    accuracy,
    choose_threshold,
    counts,
    counts_above,
    defined_mean,
    dice,
    image_dice,
    image_scores,
    iou,
    precision,
    recall,
)
from segops.evaluation.surface import surface_distances

Mask = npt.NDArray[np.bool_]


def square(top: int, left: int, side: int, size: int = 40) -> Mask:
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_scores_from_counts() -> None:
    # tp 6, fp 2, fn 4
    assert dice(6, 2, 4) == pytest.approx(12 / 18)
    assert iou(6, 2, 4) == pytest.approx(6 / 12)
    assert precision(6, 2, 4) == pytest.approx(6 / 8)
    assert recall(6, 2, 4) == pytest.approx(6 / 10)
    assert accuracy(6, 2, 4, 8) == pytest.approx(14 / 20)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ((0, 0, 0), (math.nan,) * 4),  # both empty: nothing to speak of
        ((0, 5, 0), (0, 0, 0, 0)),  # truth empty
        ((0, 0, 5), (0, 0, 0, 0)),  # prediction empty
        ((5, 0, 0), (1, 1, 1, 1)),
    ],
)
def test_empty_cases(case: tuple[int, int, int], expected: tuple[int, ...]) -> None:
    assert tuple(score(*case) for score in (dice, iou, precision, recall)) == pytest.approx(expected, nan_ok=True)


def test_numbers_and_arrays_agree() -> None:
    tp, fp, fn = [0, 0, 0, 6], [0, 5, 0, 2], [0, 0, 5, 4]
    for score in (dice, iou, precision, recall):
        one_by_one = [score(*case) for case in zip(tp, fp, fn, strict=True)]
        np.testing.assert_allclose(score(np.array(tp), np.array(fp), np.array(fn)), one_by_one)


def test_counts_treat_every_class_above_zero_as_foreground() -> None:
    truth = np.array([[0, 1, 2], [0, 0, 2]], np.uint8)
    predicted = np.array([[0, 2, 0], [1, 0, 2]], np.uint8)
    assert counts(truth, predicted) == (2, 1, 1, 2)
    with pytest.raises(ValueError, match="differ in size"):
        counts(truth, predicted[:1])


def test_image_scores_of_two_overlapping_squares() -> None:
    # Two 10x10 squares shifted by 3 columns share 70 pixels.
    scores = image_scores(square(5, 5, 10), square(5, 8, 10), ["background", "square"])
    assert scores["true_positive"] == 70
    assert scores["false_positive"] == scores["false_negative"] == 30
    assert scores["true_negative"] == 1600 - 130
    assert scores["dice"] == pytest.approx(0.7)
    assert scores["iou"] == pytest.approx(70 / 130)
    assert scores["accuracy"] == pytest.approx(1 - 60 / 1600)


def test_distances_of_two_lines_three_rows_apart() -> None:
    truth, predicted = np.zeros((2, 40, 40), bool)
    truth[10, 5:15] = predicted[13, 5:15] = True
    assert surface_distances(truth, predicted) == (3.0, 3.0, 3.0)


def test_distances_of_squares_shifted_by_three_columns() -> None:
    # The truth's 36 border pixels: 10 on the left side, each 3 px from the prediction's left side; on top and bottom
    # two more at 2 and 1 px and seven that are shared; the 8 others of the right side lie inside the prediction, 3 px
    # from its right side or 1, 2, 3 px from its top or bottom. The prediction's lie the same way.
    left, top_and_bottom, right = 10 * 3, 2 * (2 + 1), 2 * (1 + 2 + 3 + 3)
    found = surface_distances(square(5, 5, 10), square(5, 8, 10))
    assert (found.hd95, found.hd) == (3.0, 3.0)
    assert found.assd == pytest.approx((left + top_and_bottom + right) / 36)


def by_hand(source: Mask, target: Mask) -> list[float]:
    """Distances from the border pixels of one mask to those of another, by looking at every pair."""

    def border(mask: Mask) -> list[tuple[int, int]]:
        padded = np.pad(mask, 1)
        return [
            (r, c)
            for r, c in np.argwhere(mask).tolist()
            if not (padded[r, c + 1] and padded[r + 2, c + 1] and padded[r + 1, c] and padded[r + 1, c + 2])
        ]

    return [min(math.dist(one, other) for other in border(target)) for one in border(source)]


def test_distance_between_two_single_pixels_is_euclidean() -> None:
    assert surface_distances(square(3, 4, 1), square(6, 8, 1)) == (5.0, 5.0, 5.0)


def test_distances_of_equal_masks_are_zero_and_of_empty_ones_unknown() -> None:
    one, none = square(3, 3, 9), np.zeros((40, 40), bool)
    assert surface_distances(one, one) == (0.0, 0.0, 0.0)
    for truth, predicted in ((one, none), (none, one), (none, none)):
        assert all(math.isnan(value) for value in surface_distances(truth, predicted))


def test_hd95_ignores_a_few_far_pixels_that_the_maximum_would_show() -> None:
    truth = square(5, 5, 20)
    predicted = truth.copy()
    predicted[39, 39] = True
    # 1 of the 77 border pixels is far, below 5 percent: 15 rows and columns from the square's corner.
    found = surface_distances(truth, predicted)
    assert found.hd95 == 0.0
    assert found.hd == pytest.approx(math.hypot(15, 15))
    assert surface_distances(predicted, truth).hd == found.hd


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_distances_agree_with_looking_at_every_pair(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.random((2, 9, 12)) > 0.7
    if not truth.any() or not predicted.any():
        return
    there, back = by_hand(predicted, truth), by_hand(truth, predicted)
    found = surface_distances(truth, predicted)
    assert found.hd95 == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)))
    assert found.hd == pytest.approx(max(there + back))
    assert found.assd == pytest.approx(np.mean(there + back))


def test_counts_above_are_those_of_comparing() -> None:
    random = np.random.default_rng(0)
    # Half of the probabilities lie exactly on a threshold.
    probability = np.where(
        random.random((30, 30)) > 0.5, random.random((30, 30)), random.choice(CURVE_THRESHOLDS, 900).reshape(30, 30)
    )
    probability = probability.astype(np.float32)
    truth = random.random((30, 30)) > 0.4
    tp, fp = counts_above(probability, truth, CURVE_THRESHOLDS)
    for i in range(0, len(CURVE_THRESHOLDS), 137):
        above = probability > CURVE_THRESHOLDS[i]
        assert (tp[i], fp[i]) == ((above & truth).sum(), (above & ~truth).sum())


def test_the_threshold_with_the_best_mean_dice_is_chosen() -> None:
    # Foreground at 0.32 and 0.33, background at 0.28: of the grid, only 0.3 parts them.
    probability = np.array([[0.32, 0.33, 0.28, 0.1]], np.float32)
    assert choose_threshold([probability], [np.array([[1, 1, 0, 0]])]) == (0.3, 1.0)


def test_among_equal_thresholds_the_one_nearest_a_half_is_chosen() -> None:
    probability = np.array([[0.9, 0.8, 0.01]], np.float32)
    assert choose_threshold([probability], [np.array([[1, 1, 0]])]) == (0.5, 1.0)
    assert choose_threshold([probability - 0.5], [np.array([[1, 1, 0]])])[0] == 0.25


def test_the_threshold_weighs_images_not_pixels() -> None:
    # The large image wants a threshold below 0.3, two small ones one above it.
    large = np.full((50, 50), 0.3, np.float32)
    small = np.array([[0.9, 0.3]], np.float32)
    threshold, mean = choose_threshold([large, small, small], [np.ones((50, 50)), *([np.array([[1, 0]])] * 2)])
    # Below 0.3: (1 + 2/3 + 2/3) / 3 = 0.778; from 0.3 on: (0 + 1 + 1) / 3 = 0.667.
    assert threshold == 0.25
    assert mean == pytest.approx(7 / 9)
    for pairs in ([], [(small, np.zeros((1, 2)))]):
        with pytest.raises(ValueError, match="at least one image whose truth has foreground"):
            choose_threshold([probability for probability, _ in pairs], [truth for _, truth in pairs])


def test_an_empty_image_pays_for_what_is_found_there_and_pays_nothing_else() -> None:
    lesion, noise = np.array([[0.6, 0.1]], np.float32), np.array([[0.4, 0.1]], np.float32)
    truths = [np.array([[1, 0]]), np.zeros((1, 2))]
    # Below 0.4 the noise is found: (1 + 0) / 2. From 0.4 to 0.55 the lesion alone: 1, of one image.
    assert choose_threshold([lesion, noise], truths) == (0.5, 1.0)
    tally = PixelTally()
    for probability, truth in zip([lesion, noise], truths, strict=True):
        tally.add(probability, truth)
    table = tally.dice_table("val").set_index("threshold")["val_dice"]
    assert table.loc[[0.3, 0.5, 0.7]].tolist() == [0.5, 1.0, 0.0]


@pytest.mark.parametrize("answer", ["nothing", "everything", "one pixel an image"])
def test_no_answer_that_ignores_the_image_scores_well(answer: str) -> None:
    # A lesion of 4 % in every fourth image.
    scores = []
    for number in range(20):
        truth, predicted = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
        if number % 4 == 0:
            truth[4:8, 4:8] = 1
        if answer == "everything":
            predicted[:] = 1
        elif answer == "one pixel an image":
            predicted[5, 5] = 1
        scores.append(image_dice(truth, predicted, 2))
    # 5 of 20 images have a lesion: Dice 2 * 16 / (16 + 400) = 1/13, and 2 / (16 + 1), and 0 in the 15 others.
    expected = {"nothing": 0.0, "everything": 1 / 13 / 4, "one pixel an image": 2 / 17 / 4}
    assert defined_mean(scores) == pytest.approx(expected[answer])


AREAS = st.tuples(
    st.sampled_from([0.001, 0.02, 0.3]),  # share of positives
    st.sampled_from([(-4, 2), (-20, 6), (-95, 8), (-0.001, 0.001)]),  # log odds of negatives: mean, deviation
    st.sampled_from([(3, 2), (-6, 10), (40, 30), (0, 0.001)]),  # and of positives
    st.sampled_from([0, 1000]),  # different probabilities that are kept before neighbours share a bin
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=15, deadline=None)
@given(AREAS)
def test_areas_are_scikit_learns_for_sure_rare_and_blurred_cases(
    case: tuple[float, tuple[float, float], tuple[float, float], int, int],
) -> None:
    share, negative, positive, limit, seed = case
    random = np.random.default_rng(seed)
    truth = random.random(40_000) < share
    truth[:2] = True, False
    odds = np.where(truth, random.normal(*positive, truth.size), random.normal(*negative, truth.size))
    probability = (1 / (1 + np.exp(-odds))).astype(np.float32)  # at +40 exactly 1, at -104 exactly 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "LIMIT", limit or ranks.LIMIT)
        tally = ranks.RankTally()
        for part, of_part in zip(np.split(probability, 8), np.split(truth, 8), strict=True):
            tally.add(part, of_part)
    assert tally.pr_auc() == pytest.approx(average_precision_score(truth, probability), abs=1e-6)
    assert tally.roc_auc() == pytest.approx(roc_auc_score(truth, probability), abs=1e-6)


def test_areas_take_bounded_memory_and_stay_within_a_ten_thousandth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "LIMIT", 10_000)
    monkeypatch.setattr(ranks, "FINENESS", 10_000)
    random = np.random.default_rng(0)
    truth = random.random(400_000) < 0.05
    odds = np.where(truth, random.normal(2, 4, truth.size), random.normal(-12, 5, truth.size))
    probability, tally = (1 / (1 + np.exp(-odds))).astype(np.float32), ranks.RankTally()
    for part, of_part in zip(np.split(probability, 50), np.split(truth, 50), strict=True):
        tally.add(part, of_part)
    assert tally.pr_auc() == pytest.approx(average_precision_score(truth, probability), abs=1e-4)
    assert tally.roc_auc() == pytest.approx(roc_auc_score(truth, probability), abs=1e-4)
    bits, counts = tally._negative.settled()
    assert len(bits) < 10_000 * (1 + math.log(400_000 / 10_000)) < len(np.unique(probability)) / 4
    assert counts.sum() == (~truth).sum()


def test_thresholds_reach_from_the_smallest_float_to_the_largest_below_one() -> None:
    smallest, largest = np.float32(2.0**-149), np.float32(1 - 2.0**-24)
    assert smallest in CURVE_THRESHOLDS
    assert largest in CURVE_THRESHOLDS
    tally = PixelTally()
    tally.add(np.array([[1.0, largest, smallest, 0.0]], np.float32), np.array([[1, 0, 1, 0]]))
    table = tally.roc_table()
    points = set(zip(table["false_positive_rate"], table["true_positive_rate"], strict=True))
    assert {(0.0, 0.5), (0.5, 0.5), (0.5, 1.0)} <= points
    assert tally.roc_auc() == 0.75


def test_areas_of_a_perfect_a_blind_and_a_one_sided_case() -> None:
    truth = np.array([[1, 1, 0, 0]], np.uint8)
    perfect, blind, one_sided = PixelTally(), PixelTally(), PixelTally()
    perfect.add(np.array([[0.9, 0.8, 0.2, 0.1]], np.float32), truth)
    assert (perfect.pr_auc(), perfect.roc_auc()) == (1.0, 1.0)
    blind.add(np.full((1, 4), 0.5, np.float32), truth)
    assert (blind.pr_auc(), blind.roc_auc()) == (0.5, 0.5)
    one_sided.add(np.full((1, 4), 0.5, np.float32), np.zeros((1, 4), np.uint8))
    assert (one_sided.pr_auc(), one_sided.roc_auc()) == (None, None)
    assert len(one_sided.pr_table()) == len(one_sided.roc_table()) == 0


def test_curve_tables_hold_about_a_hundred_rows_in_order() -> None:
    random = np.random.default_rng(0)
    tally = PixelTally()
    tally.add(random.random((50, 50)).astype(np.float32), (random.random((50, 50)) > 0.5).astype(np.uint8))
    pr, roc, by_threshold = tally.pr_table(), tally.roc_table(), tally.dice_table("val")
    assert list(pr) == ["recall", "precision", "threshold"]
    assert list(roc) == ["false_positive_rate", "true_positive_rate", "threshold"]
    assert list(by_threshold) == ["threshold", "val_dice"]
    assert 60 < len(pr) <= 102
    assert 60 < len(roc) <= 102
    assert len(by_threshold) == 99
    assert pr["recall"].is_monotonic_decreasing
    assert roc["false_positive_rate"].is_monotonic_decreasing


def test_dice_by_threshold_is_the_mean_over_images() -> None:
    tally = PixelTally()
    tally.add(np.array([[0.9, 0.3]], np.float32), np.array([[1, 1]]))
    tally.add(np.array([[0.9, 0.3]], np.float32), np.array([[1, 0]]))
    table = tally.dice_table("val").set_index("threshold")["val_dice"]
    # Above 0.3 one pixel is left: (2/3 + 1) / 2; below it both: (1 + 2/3) / 2.
    assert table.loc[0.5] == pytest.approx(5 / 6)
    assert table.loc[0.1] == pytest.approx(5 / 6)
    assert table.loc[0.95] == 0.0


def test_roc_and_pr_choose_their_own_thresholds() -> None:
    tally = PixelTally()
    tally.add(np.array([[0.1, 0.4, 0.35, 0.8]], np.float32), np.array([[0, 0, 1, 1]]))
    # Youden: below 0.35 both positives and one of two negatives, from 0.4 one positive and no negative: 0.5 either way.
    assert tally.best_youden() == 0.5
    # F1: 4/5 from 0.1 to below 0.35, 2/3 from 0.4 to below 0.8; the nearest 0.5 is the last one below 0.35.
    assert 0.34 <= tally.best_f1() < 0.35


def test_a_threshold_of_pixels_counts_pixels_not_images() -> None:
    tally = PixelTally()
    tally.add(np.full((10, 10), 0.3, np.float32), np.ones((10, 10)))
    for _ in range(2):
        tally.add(np.array([[0.9, 0.4]], np.float32), np.array([[1, 0]]))
    # The best mean over images lies above 0.4 (see the test of `choose_threshold`), the best over pixels below 0.3.
    assert 0.28 <= tally.best_f1() < 0.3


def test_thresholds_of_a_choice_are_twentieths() -> None:
    assert THRESHOLDS == (
        0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95
    )  # fmt: skip


def test_scores_of_a_single_pixel() -> None:
    assert (dice(1, 0, 0), iou(1, 0, 0), precision(1, 0, 0), recall(1, 0, 0)) == (1.0, 1.0, 1.0, 1.0)


def test_the_dice_of_a_threshold_has_nine_decimals() -> None:
    """One pixel of foreground, one false alarm that no threshold removes: 2 / 3."""
    _, score = choose_threshold([np.array([[0.99, 0.99, 0.0]], np.float32)], [np.array([[1, 0, 0]])])
    assert score == 0.666666667
