"""Subgroups of a per-image table."""

from __future__ import annotations

import pandas as pd
import pytest

from segops.evaluation.subgroups import subgroups


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image_id": ["a", "b", "c", "d", "e"],
            "group_id": ["g2", "g1", "g1", "g1", "g3"],
            "modality": ["histology", "fluorescence", "fluorescence", "histology", "histology"],
            "height": [256, 200, 257, 100, 2048],
            "width": [100, 256, 100, 300, 2049],
        }
    )


def test_modalities_then_sizes_ascending_then_groups() -> None:
    found = [(kind, name, "".join(rows["image_id"])) for kind, name, rows in subgroups(table(), min_group_images=1)]
    assert found == [
        ("modality", "fluorescence", "bc"),
        ("modality", "histology", "ade"),
        ("size", "1-256 px", "ab"),
        ("size", "257-512 px", "cd"),
        ("size", "over 2048 px", "e"),
        ("group", "g1", "bcd"),
        ("group", "g2", "a"),
        ("group", "g3", "e"),
    ]


@pytest.mark.parametrize(
    ("side_px", "name"),
    [
        (1, "1-256 px"), (256, "1-256 px"), (257, "257-512 px"), (512, "257-512 px"), (513, "513-1024 px"),
        (1024, "513-1024 px"), (1025, "1025-2048 px"), (2048, "1025-2048 px"), (2049, "over 2048 px"),
    ],
)  # fmt: skip
def test_a_size_ends_with_its_upper_end(side_px: int, name: str) -> None:
    other = 1 if side_px > 256 else 9999
    sides = table().iloc[:2].assign(height=[side_px, other], width=1)
    found = [one.name for one in subgroups(sides, min_group_images=9) if side_px in one.rows["height"].tolist()]
    assert found[-1] == name


def test_small_groups_are_left_out_and_small_modalities_stay() -> None:
    found = [one for one in subgroups(table(), min_group_images=3) if one.kind == "group"]
    assert [(one.name, len(one.rows)) for one in found] == [("g1", 3)]


def test_a_kind_with_one_subgroup_is_left_out() -> None:
    same = table().assign(modality="other", group_id="g1")
    assert {one.kind for one in subgroups(same, min_group_images=1)} == {"size"}
