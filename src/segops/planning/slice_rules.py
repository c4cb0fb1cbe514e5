"""Holds the rules of a plan for the slices of volumes, beside those for patches, and the list of both.

A rule's docstring is its line in docs/reference/plan.md.
"""

from __future__ import annotations

import json
import math

import numpy as np

from segops.planning.cost import TRAIN_COST, cost_of_a_megapixel
from segops.planning.decisions import Decision, Decisions, Facts, Plan, Rule
from segops.planning.rules import (
    channels,
    cross_validation,
    fractions,
    groups,
    layout,
    limits,
    mask_values,
    names,
    output_bias,
    seed,
    source,
    subsets,
)
from segops.planning.volume_rules import (
    PATCHES,
    SLICES_MODEL,
    epochs_in,
    oversampling,
    patch,
    sizes_of,
    spacing,
    volume_augment,
    volume_clip,
    volume_epochs,
)

_OF_SLICES = "candidates.slices."
_AXES = ("axial", "coronal", "sagittal")
_THICK = 1.5  # times the next coarser axis, from which slices were taken across an axis
_ZSCORE_WINDOW = (-2.0, 5.0)  # deviations about a volume's mean: dark background to bright tissue
_MULTIPLE_PX, _SMALLEST_PX, _LARGEST_PX = 16, 32, 512
_SMALLEST_BATCH, _LARGEST_BATCH = 4, 16


def slices_input(facts: Facts, plan: Plan) -> Decisions:
    """`input.slices`, `resize`, `size`: slices across the axis whose voxels are longest by half, else axial ones, of
    these every other; padded to the median slice; a half of those without foreground."""
    axis, thick = _axis(plan)
    size = np.median(sizes_of(facts), axis=0)
    value = {"axis": _AXES[axis], "every": 1 if thick else 2, "empty_share": 0.5}
    why = "across the longest voxels" if thick else "voxels are nearly cubes, so that neighbours are alike"
    yield Decision(f"{_OF_SLICES}input.slices", value, why)
    yield Decision(f"{_OF_SLICES}input.resize", "pad", "slices keep their shape")
    sides = [_side(float(side)) for side in np.delete(size, axis)]
    shape = "x".join(str(int(side)) for side in np.delete(size, axis))
    yield Decision(f"{_OF_SLICES}input.size", sides[0] if sides[0] == sides[1] else sides, f"of {shape} pixels")


def slices_intensities(facts: Facts, plan: Plan) -> Decisions:
    """`input.volume`, `clip`: of all but CT a z-score of each volume, since a slice's own percentiles would follow what
    it shows, and -2 to 5 deviations about its mean."""
    if plan["candidates.*.input.clip"].get("over") != "foreground":
        yield Decision(f"{_OF_SLICES}input.volume", {"zscore_over": "volume"}, "percentiles would be each slice's own")
        yield Decision(f"{_OF_SLICES}input.clip", {"window": list(_ZSCORE_WINDOW)}, "deviations about a volume's mean")


def slices_epochs(facts: Facts, plan: Plan) -> Decisions:
    """`recipe.batch_size`, `epochs`, `ema_decay`: a power of two from 4 to 16 that memory holds; what half of the
    minutes holds at the stated speed, at most 150; a mean over a twentieth of the steps."""
    size = plan[f"{_OF_SLICES}input.size"]
    megapixels = math.prod([size, size] if isinstance(size, int) else size) / 1e6
    cost = cost_of_a_megapixel(json.dumps(SLICES_MODEL), plan["candidates.*.input.channels"], len(facts.classes.names))
    gflops, mib = (value * megapixels for value in cost)
    fits = min(_LARGEST_BATCH, facts.budget.memory_gib * 1024 / mib)
    batch = 2 ** int(math.log2(max(_SMALLEST_BATCH, fits)))
    yield Decision(f"{_OF_SLICES}recipe.batch_size", batch, f"a step holds {batch * mib / 1024:.1f} GiB")
    depth = float(np.median(sizes_of(facts), axis=0)[_axis(plan)[0]]) / plan[f"{_OF_SLICES}input.slices"]["every"]
    shown = facts.train_images * depth
    yield from epochs_in(_OF_SLICES, facts, gflops * (TRAIN_COST * shown + shown / 3), round(shown / batch))


def _axis(plan: Plan) -> tuple[int, bool]:
    """Return the axis that slices lie across, and whether voxels are clearly longest along it."""
    step_mm = plan[f"candidates.{PATCHES}.input.spacing_mm"] or [1.0, 1.0, 1.0]
    longest = int(np.argmax(step_mm))
    thick = step_mm[longest] >= _THICK * max(np.delete(step_mm, longest))
    return (longest, True) if thick else (0, False)


def _side(pixels: float) -> int:
    """Return the side of an input that holds so many pixels."""
    return min(_LARGEST_PX, max(_SMALLEST_PX, _MULTIPLE_PX * math.ceil(pixels / _MULTIPLE_PX)))


VOLUME_RULES: list[Rule] = [
    source, names, layout, mask_values, groups, limits, subsets, fractions, seed, cross_validation, channels,
    volume_clip, spacing, patch, volume_epochs, output_bias, oversampling, volume_augment,
    slices_input, slices_intensities, slices_epochs,
]  # fmt: skip
