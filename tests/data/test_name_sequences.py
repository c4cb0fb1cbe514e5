"""Numbers in names: their order, their steps, and runs of neighbours."""

from __future__ import annotations

import pytest

from segops.data.name_sequences import natural_order, runs, steps_apart


def test_numbers_in_names_sort_by_value() -> None:
    assert natural_order(["img10", "img2", "img1", "a_01b3", "a_1b2", "7"]) == [
        "7",
        "a_1b2",
        "a_01b3",
        "img1",
        "img2",
        "img10",
    ]


@pytest.mark.parametrize(
    ("first", "second", "steps"),
    [
        ("s1_z04", "s1_z06", 2),
        ("frame9", "frame10", 1),
        ("12", "13", 1),
        ("s1_z04", "s2_z05", None),
        ("s1_z04", "s1_t05", None),
        ("a", "b", None),
        ("s1", "s1", None),
        ("s1", "s1_2", None),
        ("left_1", "right_1", None),
    ],
)
def test_steps_between_names_of_a_sequence(first: str, second: str, steps: int | None) -> None:
    assert steps_apart(first, second) == steps_apart(second, first) == steps


def test_runs_are_neighbours_evenly_spread() -> None:
    names = [f"i{number}" for number in range(100)]
    chosen = [int(name[1:]) for name in runs(names, 30, 10)]
    assert chosen == [*range(10), *range(45, 55), *range(90, 100)]
    assert runs(names, 100, 10) == names
    assert runs(names, 0, 10) == []
    assert len(runs(names, 7, 10)) == 7
