"""Intervals that hold the truth and a gate that refuses what is worse, by simulation."""

from __future__ import annotations

import pytest

from benchmarks.interval_coverage import SCENARIOS, UNSEEN, bootstrap_rates, power, rates

REPEATS = 4000  # a share of 0.025 deviates by 0.0025
ALLOWANCE = 3 * 0.0025


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("groups", [2, 3, 4, 5, 7, 10, 15, 30, 60])
def test_an_interval_holds_the_truth_and_its_low_end_lies_below(name: str, groups: int) -> None:
    found = rates(SCENARIOS[name], groups, REPEATS)
    assert found.covered >= 0.94
    assert found.above <= 0.025 + ALLOWANCE


@pytest.mark.slow
@pytest.mark.parametrize("groups", [10, 15, 20, 30, 60])
def test_a_fall_in_a_fifth_of_the_groups_is_seen_from_the_groups_on_that_the_gate_judges(groups: int) -> None:
    assert rates(UNSEEN["a fall in a fifth of the groups"], groups, REPEATS).above <= 0.025 + ALLOWANCE


@pytest.mark.slow
def test_the_simulation_sees_what_the_percentile_bootstrap_misses() -> None:
    # Of 2 groups the interval ends at the two means, so it holds the truth when they lie on two sides of it.
    assert bootstrap_rates(SCENARIOS["normal, equal sizes"], 2, 2000).covered == pytest.approx(0.5, abs=0.04)


def test_the_gate_can_pass_a_version_that_is_as_good() -> None:
    assert power(0.01, 20, 2000) > 0.75
    assert power(0.02, 60, 2000) > 0.8
    assert power(0.02, 2, 2000) < 0.025
