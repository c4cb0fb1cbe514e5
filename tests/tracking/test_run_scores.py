"""Metrics of subgroups: the same names in every run of a data set, and not too many."""

from __future__ import annotations

import pandas as pd
import pytest

from segops.tracking.run_scores import subgroup_dice


def _table(images: int, **columns: object) -> pd.DataFrame:
    same = {"modality": "other", "height": 64, "width": 64, "group_id": "g", "dice": 0.5}
    return pd.DataFrame(same | columns, index=range(images))


def test_modalities_sizes_and_large_groups_have_their_mean_dice() -> None:
    table = _table(
        12,
        modality=["Bright field"] * 6 + ["fluorescence"] * 6,
        width=[300] * 3 + [64] * 9,
        group_id=["slide 1"] * 6 + ["slide 2"] * 5 + ["alone"],
        dice=[0.5] * 3 + [0.7] * 3 + [0.9] * 6,
    )
    assert subgroup_dice(table) == {
        "dice_modality_bright_field": pytest.approx(0.6),
        "dice_modality_fluorescence": pytest.approx(0.9),
        "dice_size_1_256_px": pytest.approx((3 * 0.7 + 6 * 0.9) / 9),
        "dice_size_257_512_px": pytest.approx(0.5),
        "dice_group_slide_1": pytest.approx(0.6),
        "dice_group_slide_2": pytest.approx(0.9),
    }


def test_of_many_groups_the_six_largest_are_shown_whatever_they_score() -> None:
    groups = [f"g{number}" for number in range(9) for _ in range(5 + number)]
    named = subgroup_dice(
        _table(len(groups), group_id=groups, dice=[1.0 - number / 100 for number in range(len(groups))])
    )
    assert list(named) == [f"dice_group_g{number}" for number in range(3, 9)]


def test_images_of_one_kind_have_no_subgroups() -> None:
    assert subgroup_dice(_table(8)) == {}
