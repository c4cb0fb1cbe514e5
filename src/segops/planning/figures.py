"""Derives figures that several rules of a plan need: sizes, costs, and the seed of a split.

Axes: S seeds, G groups, K strata (groups, images), B subsets.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import numpy as np

from segops.contracts.base import SUBSETS
from segops.data.assignment import Fractions, imbalance, unit
from segops.params.promote import FEWEST_GROUPS
from segops.planning.cost import STEP_GFLOPS, TRAIN_COST, cost_of_a_megapixel
from segops.planning.decisions import Facts, Plan

MULTIPLE_PX = 32  # of an input's sides: what five levels halve
FOLDS = 5  # of split.folds
LARGEST_SHARE = 0.25  # of the groups, for val and for test
_THIN_PX = 8.0  # an object that is thinner after shrinking is lost
_TRAINED_A_VALIDATED = 3  # images
_WINDOWS = 1.8  # times the pixels, in windows that overlap by a quarter
_USUAL_BATCH = 8
_SEEDS, _MOST_HASHES = 500, 500_000


def too_few_groups(facts: Facts) -> bool:
    """Return whether there are too few groups to hold out enough of them twice."""
    return LARGEST_SHARE * facts.grouping.count < 1.1 * FEWEST_GROUPS


def empty_share(facts: Facts) -> float:
    """Return the share of the images that were looked at whose mask holds a single value."""
    return sum(len(mask.pixels) < 2 for mask in facts.look.masks) / len(facts.look.masks)


def similar_sizes(facts: Facts) -> bool:
    """Return whether no image's side differs from the median by more than a tenth."""
    return all(
        abs(side - middle) <= 0.1 * middle
        for size in facts.sizes_hw
        for side, middle in zip(size, facts.median_hw, strict=True)
    )


def allowed_shrink(facts: Facts) -> float:
    """Return by how much images may be shrunk while thin objects stay _THIN_PX wide; 1: not at all."""
    return max(1.0, (facts.thickness_px or _THIN_PX) / _THIN_PX)


def round_up(side_px: float) -> int:
    """Return a side rounded up to the next multiple of MULTIPLE_PX."""
    return math.ceil(side_px / MULTIPLE_PX) * MULTIPLE_PX


def input_cost(facts: Facts, plan: Plan, model: dict[str, Any]) -> tuple[float, float]:
    """Return the GFLOPs of a forward pass of an input, and the MiB of its training step."""
    size = plan["candidates.*.input.size"]
    pixels = size**2 if isinstance(size, int) else size[0] * size[1]
    gflops, mib = cost_of_a_megapixel(json.dumps(model), plan["candidates.*.input.channels"], len(facts.classes.names))
    return gflops * pixels / 1e6, mib * pixels / 1e6


def patches_that_cover(facts: Facts, plan: Plan) -> int:
    """Return how many patches an image is worth; 1 where whole images are seen."""
    if plan["candidates.*.input.resize"] != "none":
        return 1
    (height, width), side = facts.median_hw, int(plan["candidates.*.input.size"])
    return math.ceil(height * width / side**2)


def samples(facts: Facts, plan: Plan) -> int:
    """Return how many images or patches an epoch shows."""
    return facts.train_images * int(plan.get("candidates.*.recipe.patches_per_image", 1))


def epochs_that_fit(facts: Facts, plan: Plan, models: dict[str, Any]) -> float:
    """Return how many epochs of all candidates the budget holds, validation in overlapping windows included."""
    shown, cover = samples(facts, plan), patches_that_cover(facts, plan)
    validated = facts.train_images / _TRAINED_A_VALIDATED * cover * (_WINDOWS if cover > 1 else 1)
    passes = TRAIN_COST * shown + validated
    steps = shown / int(plan.get("candidates.*.recipe.batch_size", _USUAL_BATCH))
    gflops = sum(input_cost(facts, plan, model)[0] * passes + steps * STEP_GFLOPS for model in models.values())
    folds = 0 if plan.get("candidates.*.cross_validation", "none") == "none" else FOLDS
    return facts.budget.minutes * 60 * facts.budget.gflops_a_second / (gflops * (1 + folds))


def best_seed(facts: Facts, fractions: Fractions) -> tuple[int, list[int]]:
    """Return the seed that fits the fractions best in groups and images, and its groups of train, val and test.

    Seeds that leave a subset without its 10 groups (or four fifths of its share) come after all others.
    """
    images = Counter(facts.grouping.groups.values())
    images_GK = np.array([[1, count] for count in images.values()], np.float64)
    seeds = range(max(10, min(_SEEDS, _MOST_HASHES // len(images))))
    position_SG = np.array([[unit(f"{seed}/{group}") for group in images] for seed in seeds])
    subset_SG = np.searchsorted(np.cumsum(fractions)[:2], position_SG, side="right")
    groups_SB = np.stack([(subset_SG == index).sum(axis=1) for index in range(len(SUBSETS))], axis=1)
    wanted_B = [max(1, min(FEWEST_GROUPS, int(0.8 * share * len(images)))) for share in fractions]
    lacking_S = (groups_SB < wanted_B).any(axis=1)
    best = int(np.lexsort((imbalance(subset_SG, images_GK, fractions), lacking_S))[0])
    return best, groups_SB[best].tolist()
