"""Candidates compared on the same images: pairs, what is real, subgroups, the images that differ most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from segops.comparison.paired import (
    Judged,
    is_real,
    paired_differences,
    paired_rows,
    subgroup_differences,
)
from segops.contracts.scores import Interval
from segops.errors import UserError
from segops.params.compare import CompareParams

PARAMS = CompareParams(min_subgroup_images=3)
TWO = ["background", "nucleus"]


def judged(name: str, dices: Sequence[float], images_a_group: int = 1) -> Judged:
    """The same scores on validation and on test, modalities by turns, the first half of the images small."""
    rows = [
        {
            "image_id": f"{subset}{i:02}", "group_id": f"g{i // images_a_group}", "subset": subset,
            "modality": ("bright", "dark")[i % 2], "height": 100, "width": 100 if i < len(dices) / 2 else 300,
            "dice": dice, "true_positive": 9, "false_positive": 1, "false_negative": 1,
        }
        for subset in ("val", "test")
        for i, dice in enumerate(dices)
    ]  # fmt: skip
    return Judged(name, pd.DataFrame(rows))


def test_every_pair_is_tested_on_both_subsets_and_adjusted_over_the_subset() -> None:
    best = [0.9] * 6
    made = paired_differences([judged("a", best), judged("b", [0.8] * 6), judged("c", [0.7] * 6)], PARAMS)
    assert [(one.subset, one.a, one.b) for one in made] == [
        (subset, *pair) for subset in ("val", "test") for pair in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    # Six groups, all of one sign: p is 2 of 2^6 cases, three times that is above 0.05, whatever the interval says.
    assert {(one.p, one.adjusted_p, one.effect) for one in made} == {(2 / 64, 6 / 64, 1.0)}
    assert made[0].difference == Interval(mean=0.1, low=0.1, high=0.1, groups=6)
    assert not any(one.real for one in made)
    alone = paired_differences([judged("a", best), judged("b", [0.8] * 6)], PARAMS)
    assert [one.real for one in alone] == [True, True]


def test_equal_scores_differ_by_exactly_nothing() -> None:
    made = paired_differences([judged("a", [0.1, 0.5, 0.9]), judged("b", [0.1, 0.5, 0.9])], PARAMS)[0]
    assert made.difference == Interval(mean=0, low=0, high=0, groups=3)
    assert (made.effect, made.reason, made.real) == (None, "no group differs", False)


def test_groups_are_the_units() -> None:
    made = paired_differences([judged("a", [0.9] * 12, 4), judged("b", [0.8] * 12, 4)], PARAMS)[0]
    assert (made.images, made.groups, made.p) == (12, 3, None)
    assert made.reason == "3 groups differ: no p below 0.25 is possible"
    assert not made.real


@pytest.mark.parametrize(
    ("low", "high", "p", "effect", "real"),
    [
        (0.01, 0.03, 0.01, 0.5, True),
        (-0.03, -0.01, 0.01, -0.5, True),
        (-0.01, 0.03, 0.01, 0.5, False),  # the interval holds 0
        (0.01, 0.03, 0.05, 0.5, False),  # the test doesn't reject
        (0.01, 0.03, None, 0.5, False),  # there is no test
        (0.01, 0.03, 0.01, -0.5, False),  # mean and ranks disagree
    ],
)
def test_interval_and_test_must_agree(low: float, high: float, p: float | None, effect: float, real: bool) -> None:
    assert is_real(Interval(mean=(low + high) / 2, low=low, high=high, groups=9), p, effect, level=0.05) is real


def test_a_subgroup_in_which_the_leader_falls_behind_is_marked_where_there_are_enough_images() -> None:
    # Bright images (0, 2, 4, 6) gain 0.1 each, dark ones (1, 3, 5, 7) lose 0.06.
    leader = judged("a", [0.9, 0.74] * 4, images_a_group=4)
    found = subgroup_differences([leader, judged("b", [0.8] * 8, images_a_group=4)], TWO, PARAMS)
    val = {(one.kind, one.name): one for one in found if one.subset == "val"}
    assert list(val) == [
        ("modality", "bright"), ("modality", "dark"), ("size", "1-256 px"), ("size", "257-512 px"),
        ("group", "g0"), ("group", "g1"),
    ]  # fmt: skip
    dark = val["modality", "dark"]
    assert dark.difference == Interval(mean=-0.06, low=-0.06, high=-0.06, groups=2)
    assert (dark.dice_a, dark.dice_b, dark.images, dark.groups) == (0.74, 0.8, 4, 2)
    assert [one.regressed for one in val.values()] == [False, True, False, False, False, False]
    assert val["group", "g0"].difference.words(2, signed=True) == "+0.02 (1 group)"
    few = PARAMS.model_copy(update={"min_subgroup_images": 5})
    again = subgroup_differences([leader, judged("b", [0.8] * 8, images_a_group=4)], TWO, few)
    assert {one.regressed for one in again} == {None}
    assert {one.kind for one in again} == {"modality", "size"}


def test_classes_are_subgroups_of_all_images() -> None:
    one, other = judged("a", [0.8] * 6), judged("b", [0.8] * 6)
    one.per_image[["dice_ring", "dice_disc"]] = (0.9, 0.7)
    other.per_image[["dice_ring", "dice_disc"]] = (0.8, 0.8)
    for each in (one, other):
        each.per_image[["pixels_ring", "pixels_disc"]] = 10
    found = subgroup_differences([one, other], ["background", "ring", "disc"], PARAMS)
    shown = [(each.name, each.difference.mean, each.regressed) for each in found if each.kind == "class"]
    assert shown == [("ring", 0.1, False), ("disc", -0.1, True)] * 2


def test_change_is_the_first_candidate_s_dice_minus_the_other_s() -> None:
    rows = paired_rows(judged("a", [0.5, 0.9, 0.7, 0.4]), judged("b", [0.9, 0.5, 0.7, 0.5]), "val")
    assert rows["change"].to_numpy() == pytest.approx(np.array([-0.4, 0.4, 0.0, -0.1]))


def test_different_images_are_refused() -> None:
    with pytest.raises(UserError, match="a and b were scored on different val images; run evaluate for both"):
        paired_rows(judged("a", [0.5]), judged("b", [0.5, 0.6]), "val")


@pytest.mark.parametrize(
    ("mine", "theirs"), [("abc", "abd"), ("abd", "abc"), ("ab", "abc"), ("abc", "ab"), ("aab", "ab")]
)
def test_one_image_that_differs_is_enough_to_refuse(mine: str, theirs: str) -> None:
    a, b = (
        Judged(name, pd.DataFrame([{**judged(name, [0.5]).per_image.iloc[0], "image_id": one} for one in images]))
        for name, images in (("a", mine), ("b", theirs))
    )
    with pytest.raises(UserError, match="were scored on different val images"):
        paired_rows(a, b, "val")


def test_tables_in_another_order_are_joined_by_image() -> None:
    a, b = judged("a", [0.9, 0.2, 0.5]), judged("b", [0.8, 0.1, 0.1])
    rows = paired_rows(a, Judged("b", b.per_image.iloc[::-1]), "val")
    assert list(rows) == ["image_id", "group_id", "modality", "height", "width", "dice_a", "dice_b", "change"]
    assert rows["change"].tolist() == pytest.approx([0.1, 0.1, 0.4])
    assert rows.index.tolist() == [0, 1, 2]


def test_images_without_foreground_are_left_out_and_other_masks_are_refused() -> None:
    a, b = judged("a", [0.9, 0.2, 0.5]), judged("b", [0.8, 0.1, 0.1])
    for one in (a, b):
        one.per_image.loc[1, ["true_positive", "false_negative"]] = 0
    rows = paired_rows(a, b, "val")
    assert (rows["image_id"].tolist(), rows.index.tolist()) == (["val00", "val02"], [0, 1])
    b.per_image.loc[2, ["true_positive", "false_negative"]] = 0
    with pytest.raises(UserError, match="a and b were scored on different val masks; run evaluate for both"):
        paired_rows(a, b, "val")


def test_ranks_that_favour_nobody_make_no_difference_real() -> None:
    assert is_real(Interval(mean=0.02, low=0.01, high=0.03, groups=9), 0.01, 0.0, level=0.05) is False


def test_a_subgroup_of_just_enough_images_that_falls_by_just_the_margin_has_not_regressed() -> None:
    params = PARAMS.model_copy(update={"min_subgroup_images": 4, "subgroup_margin": 0.06})
    found = subgroup_differences([judged("a", [0.9, 0.74] * 4), judged("b", [0.8] * 8)], TWO, params)
    dark = next(one for one in found if one.name == "dark")
    assert (dark.images, dark.difference.mean, dark.regressed) == (4, -0.06, False)


def test_means_of_subgroups_have_nine_decimals() -> None:
    scores = [0.9, 0.1, 0.8, 0.1, 0.8, 0.1]  # bright: 2.5 / 3
    found = subgroup_differences([judged("a", scores), judged("b", [0.1] * 6)], TWO, PARAMS)
    assert next(one.dice_a for one in found if one.name == "bright") == 0.833333333
