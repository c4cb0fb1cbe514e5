"""Objects: how a mask is cut into them, and average precision with answers derived from the geometry of squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segops.contracts.scores import InstanceScores, Interval
from segops.evaluation.object_scores import IOUS, InstanceTally, Matches, average_precision, instance_table
from segops.inference.instances import components, label_objects
from segops.params.inference import InstanceParams

Labels = npt.NDArray[Any]
NO_PROBABILITY = np.ones((1, 60, 90), np.float32)


def squares(*columns: int, size: int = 10) -> Labels:
    """Labels of squares, one below the other, at these columns."""
    labels = np.zeros((size * len(columns) + len(columns), 60), np.int32)
    for number, column in enumerate(columns):
        top = number * (size + 1)
        labels[top : top + size, column : column + size] = number + 1
    return labels


def at(iou: float) -> int:
    return IOUS.index(iou)


def test_the_iou_of_squares_shifted_by_d_columns_is_10_minus_d_over_10_plus_d() -> None:
    found = Matches(squares(0, 20, 40), squares(0, 21, 43)).iou_NM.toarray()
    assert np.allclose(np.diag(found), [1, 9 / 11, 7 / 13])
    assert not found[~np.eye(3, dtype=bool)].any()


def test_average_precision_counts_matches_at_each_iou() -> None:
    # IoU 1, 9/11 = 0.818, 7/13 = 0.538; the fourth object is missed, and one is found where none is.
    truth, predicted = squares(0, 20, 40, 0), squares(0, 21, 43, 30)
    expected = {0.5: 3 / 5, 0.55: 2 / 6, 0.8: 2 / 6, 0.85: 1 / 7, 0.95: 1 / 7}
    found = average_precision(truth, predicted)
    assert {iou: found[at(iou)] for iou in expected} == pytest.approx(expected)
    assert found.mean() == pytest.approx((3 / 5 + 6 * 2 / 6 + 3 / 7) / 10)


def test_an_iou_that_equals_the_least_one_is_a_match() -> None:
    truth, predicted = np.zeros((1, 20), np.int32), np.zeros((1, 20), np.int32)
    truth[0], predicted[0, :11] = 1, 1
    assert average_precision(truth, predicted)[[at(0.55), at(0.6)]].tolist() == [1, 0]


def test_an_object_has_one_partner_where_two_halves_cover_it() -> None:
    truth, halves = np.ones((2, 4), np.int32), np.array([[1, 1, 2, 2]] * 2)
    assert average_precision(truth, halves)[at(0.5)] == 1 / 2  # one of the halves
    assert average_precision(halves, truth)[at(0.5)] == 1 / 2
    assert not average_precision(truth, halves)[at(0.55) :].any()


def test_average_precision_of_nothing() -> None:
    none, some = np.zeros((4, 4), np.int32), np.eye(4, dtype=np.int32)
    assert np.isnan(average_precision(none, none)).all()
    assert not average_precision(none, some).any()
    assert not average_precision(some, none).any()


@given(st.integers(0, 2**32 - 1))
def test_numbers_do_not_matter_and_sides_may_be_changed(seed: int) -> None:
    random = np.random.default_rng(seed)
    truth, predicted = random.integers(0, 5, (2, 6, 7))
    found = average_precision(truth, predicted)
    assert np.array_equal(found, average_precision(predicted, truth))
    assert np.array_equal(found, average_precision(np.array([0, 9, 2, 40, 7])[truth], predicted))
    assert (np.diff(found) <= 0).all()
    assert (average_precision(truth, truth) == 1).all()


def test_masks_of_two_sizes_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="differ in size"):
        average_precision(np.zeros((2, 2)), np.zeros((2, 3)))


def test_a_tally_is_the_mean_over_images_and_over_classes() -> None:
    tally = InstanceTally()
    # Class 1 is found, class 2 is missed; then an image with nothing, and one of class 1 alone, found.
    truth = np.array([[1, 1, 0, 2], [1, 1, 0, 2]])
    predicted = np.where(truth == 1, 1, 0)
    row = tally.add(truth, predicted, components(predicted), classes=3)
    assert row == {
        "objects": 2, "predicted_objects": 1, "splits": 0, "merges": 0, "ap": 0.5, "ap50": 0.5, "pq": 0.5,
    }  # fmt: skip
    nothing = np.zeros((2, 2), np.int32)
    empty = tally.add(nothing, nothing, nothing, classes=3)
    assert np.isnan([empty["ap"], empty["pq"]]).all()
    assert tally.add(predicted, predicted, components(predicted), classes=3)["ap"] == 1
    assert (tally.images, tally.objects, tally.predicted) == (3, 3, 2)
    assert tally.means() == [0.75] * 10


def test_panoptic_quality_is_the_iou_of_the_pairs_over_their_number_and_half_of_the_rest() -> None:
    # IoU 1, 9/11 and 7/13; the fourth object is missed, and one is found where none is.
    matches = Matches(squares(0, 20, 40, 0), squares(0, 21, 43, 30))
    assert matches.panoptic_quality() == pytest.approx((1 + 9 / 11 + 7 / 13) / (3 + 1 / 2 + 1 / 2))
    halves = Matches(np.ones((2, 4), np.int32), np.array([[1, 1, 2, 2]] * 2))
    assert halves.panoptic_quality() == 0, "an IoU of 0.5 is no match"


def test_splits_and_merges_are_counted_on_either_side() -> None:
    # One object found as three, two found as one, one found as it is, one missed, one invented.
    truth = np.array([[1, 1, 1, 1, 1, 0, 2, 2, 3, 0, 4, 4, 0, 5, 0, 0]])
    found = np.array([[1, 1, 2, 3, 3, 0, 4, 4, 4, 0, 5, 5, 0, 0, 0, 6]])
    for one, other, (splits, merges) in ((truth, found, (1, 1)), (found, truth, (1, 1)), (truth, truth, (0, 0))):
        matches = Matches(one, other)
        assert (matches.splits(), matches.merges()) == (splits, merges)
    joined = Matches(truth, np.where(truth > 0, 1, 0))
    assert (joined.splits(), joined.merges()) == (0, 1)


def test_half_of_an_object_within_another_is_neither_split_nor_merge() -> None:
    truth, found = np.array([[1, 1, 0, 2, 2, 2]]), np.array([[0, 1, 1, 1, 2, 2]])
    matches = Matches(truth, found)
    assert (matches.splits(), matches.merges()) == (0, 0)


def test_a_perfect_prediction_of_touching_objects_is_perfect_by_the_source_s_objects_alone() -> None:
    objects = np.array([[1, 1, 2, 2, 0, 3]])
    mask = np.minimum(objects, 1)
    by_objects, by_components, both = InstanceTally(), InstanceTally(), InstanceTally()
    perfect = by_objects.add(mask, mask, objects, 2, objects)
    assert perfect == {
        "objects": 3, "predicted_objects": 3, "splits": 0, "merges": 0, "ap": 1.0, "ap50": 1.0, "pq": 1.0,
    }  # fmt: skip
    assert by_objects.add(mask, mask, components(mask), 2, objects)["merges"] == 1
    joined = by_components.add(mask, mask, objects, 2)
    assert (joined["objects"], joined["splits"], joined["ap50"]) == (2, 1, 2 / 3)
    both.add(mask, mask, objects, 2)
    both.add(mask, mask, objects, 2, objects)
    truths = [(tally.truth, tally.component_images) for tally in (by_objects, by_components, both)]
    assert truths == [("objects of the source", 0), ("connected components", 1), ("mixed", 1)]


def test_objects_of_the_source_count_in_the_class_of_their_pixels() -> None:
    mask, objects = np.array([[1, 1, 1, 2, 2]]), np.array([[1, 1, 2, 3, 3]])
    row = InstanceTally().add(mask, np.where(mask == 1, 1, 0), np.where(mask == 1, objects, 0), 3, objects)
    assert (row["objects"], row["predicted_objects"], row["ap50"]) == (3, 2, 0.5)


def test_the_table_has_a_row_an_iou() -> None:
    one = Interval(mean=0.5, low=0.4, high=0.6, groups=4)
    scores = InstanceScores(ap=one, ap50=one, by_iou={"0.5": 0.75, "0.55": 0.5}, objects=3, predicted=2)
    table = instance_table({"test": scores})
    assert table.to_numpy().tolist() == [["test", 0.5, 0.75], ["test", 0.55, 0.5]]
    assert list(instance_table({})) == ["subset", "iou", "ap"]


def discs(*centres: tuple[int, int], radius: int = 14) -> npt.NDArray[np.uint8]:
    y, x = np.ogrid[:60, :90]
    inside: npt.NDArray[np.bool_] = np.any([np.hypot(y - row, x - column) <= radius for row, column in centres], axis=0)
    return inside.astype(np.uint8)


def test_components_do_not_part_what_touches_and_the_watershed_does() -> None:
    touching = discs((30, 25), (30, 50))
    assert label_objects(touching, NO_PROBABILITY, InstanceParams(method="components")).max() == 1
    found = label_objects(touching, NO_PROBABILITY, InstanceParams(method="watershed"))
    # Cut where the discs meet: each label is one disc, up to the lens that both share.
    truth = components(discs((30, 25))) + 2 * components(discs((30, 50)) & ~discs((30, 25)))
    assert average_precision(truth, found)[at(0.9)] == 1
    assert average_precision(truth, components(touching))[at(0.9)] == 0


def test_one_disc_is_one_object_wherever_it_lies() -> None:
    for centre in ((30, 30), (0, 0), (59, 45)):
        mask = discs(centre)
        found = label_objects(mask, NO_PROBABILITY, InstanceParams(method="watershed"))
        assert np.array_equal(found, mask), centre


def test_probability_parts_where_it_dips() -> None:
    bar = np.zeros((60, 90), np.uint8)
    bar[20:40, 10:80] = 1
    probability = bar * np.float32(0.95)
    probability[:, 45] = 0.6 * bar[:, 45]
    by_probability = InstanceParams(method="watershed", seeds="probability", seed_probability=0.9)
    found = label_objects(bar, probability[None], by_probability)
    assert found.max() == 2
    assert (found[20:40, 10:45] == 1).all()
    assert (found[20:40, 46:80] == 2).all()
    # Nothing is that likely: the component stays whole.
    assert np.array_equal(label_objects(bar, probability[None] / 2, by_probability), bar)


def test_objects_of_two_classes_are_told_apart_and_numbered_through() -> None:
    mask = np.array([[1, 1, 2, 2, 0, 1]], np.uint8)
    probability = np.stack([mask == index for index in range(3)]).astype(np.float32)
    for method in ("components", "watershed"):
        found = label_objects(mask, probability, InstanceParams.model_validate({"method": method}))
        assert found.tolist() == [[1, 1, 3, 3, 0, 2]]
    assert not label_objects(mask, probability, InstanceParams()).any()


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(["distance", "probability"]),
    st.integers(1, 8),
    st.sampled_from([0.0, 1.0, 3.0]),
)
def test_every_pixel_of_a_mask_has_one_object_inside_one_component(
    seed: int, seeds: str, apart: int, smooth: float
) -> None:
    random = np.random.default_rng(seed)
    mask = (random.random((15, 17)) < random.random()).astype(np.uint8)
    given_params = {"method": "watershed", "seeds": seeds, "seed_distance_px": apart, "smooth_px": smooth}
    found = label_objects(mask, random.random((1, 15, 17), np.float32), InstanceParams.model_validate(given_params))
    assert np.array_equal(found > 0, mask > 0)
    whole = components(mask)
    for number in range(1, found.max() + 1):
        inside = found == number
        assert inside.any()
        assert len(np.unique(whole[inside])) == 1
        assert components(inside).max() == 1
