"""How often an interval over groups holds the truth, and how often the gate passes a version that is too bad.

    python -m benchmarks.interval_coverage [--repeats 20000]

Simulated group means of which the truth is known; no model is needed. Prints three tables in markdown, by number of
groups: how often a 95 % interval holds the truth and how often its low end lies above it, which is how often the gate
passes a version worse by exactly the margin; the same of the percentile bootstrap over groups for comparison; and how
often the gate passes a version that is as good as the champion. Equal arguments print equal figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from segops.evaluation.intervals import half_widths

GROUPS = (2, 3, 4, 5, 7, 10, 15, 20, 30, 60)
CONFIDENCE = 0.95
MARGIN = 0.01
DEVIATIONS = (0.005, 0.01, 0.02)  # of the groups' differences, for the gate's power
Array = npt.NDArray[np.float64]
_RESAMPLES, _RESAMPLED = 400, 2000


class Sample(NamedTuple):
    """R samples of G groups: their means, their shares of the images, and what the mean over all images truly is."""

    means_RG: Array
    weights_RG: Array
    truth: float


class Rates(NamedTuple):
    """Shares of the samples: `covered`, the interval holds the truth; `above`, its low end lies above the truth."""

    covered: float
    above: float


_Random = np.random.Generator
Scenario = Callable[[_Random, int, int], Sample]


def _equal(groups: int) -> Array:
    return np.ones(groups)


def _doubling(groups: int) -> Array:
    return (2.0 ** (np.arange(groups) % 7)).astype(np.float64)


def _one_with_most(groups: int) -> Array:
    return np.array([9.0 * (groups - 1), *np.ones(groups - 1)])


def _normal(random: _Random, shape: tuple[int, int]) -> Array:
    return random.normal(0.0, 1.0, shape)


def _heavy(random: _Random, shape: tuple[int, int]) -> Array:
    return random.standard_t(3, shape)


def _exponential(random: _Random, shape: tuple[int, int]) -> Array:
    return 1 - random.exponential(1.0, shape)


def _lognormal(random: _Random, shape: tuple[int, int]) -> Array:
    return float(np.exp(0.75**2 / 2)) - random.lognormal(0.0, 0.75, shape)


def _beta(random: _Random, shape: tuple[int, int]) -> Array:
    return random.beta(8, 0.8, shape) - 8 / 8.8


def _three_classes(random: _Random, shape: tuple[int, int]) -> Array:
    """The mean of three classes' Dice that share half of what makes a group hard."""
    shared = _beta(random, shape)
    classes = [(shared + _beta(random, shape)) / 2 for _ in range(3)]
    mean: Array = np.mean(classes, axis=0)
    return mean


def _rare_failures(random: _Random, shape: tuple[int, int]) -> Array:
    """Dice near 1, and in a tenth of the groups about 0.4."""
    scores = np.where(random.random(shape) < 0.1, random.beta(4, 6, shape), random.beta(30, 2, shape))
    shifted: Array = scores - (0.1 * 0.4 + 0.9 * 30 / 32)
    return shifted


def _fall_in_a_fifth(random: _Random, shape: tuple[int, int]) -> Array:
    """Differences whose mean is -MARGIN, since a fifth of the groups falls by five times as much."""
    fallen = np.where(random.random(shape) < 0.2, -5 * MARGIN, 0.0)
    differences: Array = fallen + random.normal(0.0, 0.01, shape) + MARGIN
    return differences


def _of(draw: Callable[[_Random, tuple[int, int]], Array], sizes: Callable[[int], Array]) -> Scenario:
    """Groups whose means lie around 0 by one law, whatever their sizes."""

    def sample(random: _Random, repeats: int, groups: int) -> Sample:
        images = sizes(groups)
        weights_RG = np.broadcast_to(images / images.sum(), (repeats, groups))
        return Sample(draw(random, (repeats, groups)), weights_RG, 0.0)

    return sample


def _larger_score_lower(random: _Random, repeats: int, groups: int) -> Sample:
    """Groups of 1 to 16 images by chance, of which a larger one scores lower."""
    power_RG = random.integers(0, 5, (repeats, groups))
    images_RG = 2.0**power_RG
    means_RG = 0.9 - 0.02 * power_RG + random.normal(0.0, 0.03, (repeats, groups))
    every = 2.0 ** np.arange(5)
    truth = float((every * (0.9 - 0.02 * np.arange(5))).sum() / every.sum())
    return Sample(means_RG, images_RG / images_RG.sum(axis=1, keepdims=True), truth)


SCENARIOS: dict[str, Scenario] = {
    "normal, equal sizes": _of(_normal, _equal),
    "normal, sizes 1:2:4:..:64": _of(_normal, _doubling),
    "normal, one group has 90 %": _of(_normal, _one_with_most),
    "heavy tails (t, 3 degrees)": _of(_heavy, _equal),
    "exponential errors, equal": _of(_exponential, _equal),
    "exponential errors, 1:2:4:..:64": _of(_exponential, _doubling),
    "exponential errors, one has 90 %": _of(_exponential, _one_with_most),
    "lognormal errors, equal": _of(_lognormal, _equal),
    "Beta(8, 0.8) near 1, equal": _of(_beta, _equal),
    "Beta(8, 0.8) near 1, one has 90 %": _of(_beta, _one_with_most),
    "mean of three classes": _of(_three_classes, _equal),
    "larger groups score lower": _larger_score_lower,
}
# What few groups can't show: here the table says from which number of groups on the figures hold.
UNSEEN: dict[str, Scenario] = {
    "a fall in a fifth of the groups": _of(_fall_in_a_fifth, _equal),
    "a tenth of the groups fails": _of(_rare_failures, _equal),
}


def rates(scenario: Scenario, groups: int, repeats: int, seed: int = 0) -> Rates:
    """Of the product's intervals."""
    sample = scenario(np.random.default_rng(seed), repeats, groups)
    estimate_R = (sample.means_RG * sample.weights_RG).sum(axis=1)
    half_R = half_widths(sample.means_RG, sample.weights_RG, CONFIDENCE)
    return _rates(estimate_R - half_R, estimate_R + half_R, sample.truth)


def bootstrap_rates(scenario: Scenario, groups: int, repeats: int, seed: int = 0) -> Rates:
    """Of the percentile bootstrap over groups; every sample is resampled by the same draws."""
    random = np.random.default_rng(seed)
    sample = scenario(random, repeats, groups)
    drawn_BG = random.multinomial(groups, np.full(groups, 1 / groups), _RESAMPLES)
    means_BR = (drawn_BG @ (sample.means_RG * sample.weights_RG).T) / (drawn_BG @ sample.weights_RG.T)
    low_R, high_R = np.quantile(means_BR, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    return _rates(low_R, high_R, sample.truth)


def power(deviation: float, groups: int, repeats: int, seed: int = 0) -> float:
    """How often the gate passes a version as good as the champion; groups' differences are normal, sizes equal."""
    sample = SCENARIOS["normal, equal sizes"](np.random.default_rng(seed), repeats, groups)
    low_R = sample.means_RG.mean(axis=1) - half_widths(sample.means_RG, sample.weights_RG, CONFIDENCE)
    return float((deviation * low_R > -MARGIN).mean())


def _rates(low_R: Array, high_R: Array, truth: float) -> Rates:
    covered = (low_R <= truth) & (truth <= high_R)
    return Rates(float(covered.mean()), float((low_R > truth).mean()))


def _print(title: str, names: Sequence[str], cell: Callable[[str, int], str]) -> None:
    print(f"\n{title}\n\n| groups | {' | '.join(map(str, GROUPS))} |\n|{'---|' * (1 + len(GROUPS))}")
    for name in names:
        print(f"| {name} | {' | '.join(cell(name, groups) for groups in GROUPS)} |")


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20_000)
    repeats = parser.parse_args(arguments).repeats
    every = SCENARIOS | UNSEEN

    def cell(of: Callable[..., Rates], count: int) -> Callable[[str, int], str]:
        def shown(name: str, groups: int) -> str:
            found: Any = of(every[name], groups, count)
            return f"{100 * found.covered:.1f}, {100 * found.above:.1f}"

        return shown

    what = "held, low end above the truth (%)"
    _print(f"Interval over groups: {what}", list(every), cell(rates, repeats))
    _print(f"Percentile bootstrap: {what}", list(every), cell(bootstrap_rates, min(repeats, _RESAMPLED)))
    names = {f"differences of groups deviate by {deviation:g}": deviation for deviation in DEVIATIONS}
    title = f"The gate passes a version as good as the champion (%), margin {MARGIN:g}"
    _print(title, list(names), lambda name, groups: f"{100 * power(names[name], groups, repeats):.0f}")


if __name__ == "__main__":
    main()
